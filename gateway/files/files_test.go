package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
	"tributary.io/sdk-plugin/event"
)

// fixture is an area with its store, which a test can open again.
type fixture struct {
	*Area
	t   testing.TB
	dir string
	cfg Config
	st  *pebble.Store
}

func start(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	cfg := Default()
	dir := t.TempDir()
	cfg.Dir = dir + "/files"
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: dir, cfg: cfg}
	f.open()
	t.Cleanup(func() { f.st.Close() })
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	pc := pebble.Default()
	pc.Dir = f.dir + "/store"
	log := slog.New(slog.DiscardHandler)
	st, err := pebble.Open(pc, log)
	if err != nil {
		f.t.Fatal(err)
	}
	if f.Area, err = New(f.cfg, st, map[string]int64{"p": 1000, "q": 1000}, log); err != nil {
		f.t.Fatal(err)
	}
	f.st = st
}

// restart closes the store and opens everything again.
func (f *fixture) restart() {
	f.t.Helper()
	if err := f.st.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

// upload receives a body of application a.
func (f *fixture) upload(content string) *event.Upload {
	f.t.Helper()
	up, err := f.Receive("a", strings.NewReader(content))
	if err != nil {
		f.t.Fatal(err)
	}
	return up
}

// handle commits the effects of an event of plugin p in application a.
func (f *fixture) handle(effects ...event.Effect) error {
	f.t.Helper()
	var b store.Batch
	kept, err := f.Keep(&b, &stage.Origin{Application: "a", Plugin: "p"}, effects)
	if err != nil {
		return err
	}
	if err := store.CommitWait(f.st, &b); err != nil {
		return err
	}
	kept()
	return nil
}

func (f *fixture) read(name string) (string, error) {
	f.t.Helper()
	h, err := f.Open("a", "p", name)
	if err != nil {
		return "", err
	}
	defer h.Close()
	b, err := io.ReadAll(iotest.OneByteReader(h))
	if err == nil && int64(len(b)) != h.Size {
		err = fmt.Errorf("%d bytes, but the size is %d", len(b), h.Size)
	}
	return string(b), err
}

// Whatever happens in whichever order, a file holds what was kept, nothing else is on
// disk after a sweep, and the sum is that of the sizes.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := start(t, nil)
		model := map[string]string{}
		sum := func() (n int) {
			for _, content := range model {
				n += len(content)
			}
			return n
		}
		names := rapid.SampledFrom([]string{"x", "y", "z"})
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1: // keep
				content, name := strings.Repeat("c", rapid.IntRange(0, 300).Draw(rt, "size")), names.Draw(rt, "name")
				appends := rapid.Bool().Draw(rt, "appends")
				up := f.upload(content)
				err := f.handle(&event.KeepFile{Name: name, Upload: up.ID, Append: appends})
				f.Release(up.ID)
				next := content
				if appends {
					next = model[name] + content
				}
				fits := sum()-len(model[name])+len(next) <= 1000 || len(next) <= len(model[name])
				if failure := (*event.Failure)(nil); errors.As(err, &failure) == fits {
					rt.Fatalf("keeping %d bytes beside %d: %v", len(content), sum(), err)
				}
				if fits {
					model[name] = next
				}
			case 2:
				name := names.Draw(rt, "name")
				if err := f.handle(&event.DropFile{Name: name}); err != nil {
					rt.Fatal(err)
				}
				delete(model, name)
			case 3:
				f.Release(f.upload("not kept").ID)
			case 4:
				f.restart()
			}
			if err := f.sweep(); err != nil {
				rt.Fatal(err)
			}
			for _, name := range []string{"x", "y", "z"} {
				got, err := f.read(name)
				if want, there := model[name]; there != (err == nil) || got != want || !there && !errors.Is(err, ErrAbsent) {
					rt.Fatalf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
				}
			}
			if got, _, err := f.sum(&store.Batch{}, owner("a", "p")); int(got) != sum() || err != nil || int(f.bytes.Load()) != sum() {
				rt.Fatalf("the sum is %d, on disk are %d, %v; want %d", got, f.bytes.Load(), err, sum())
			}
		}
		f.st.Close()
	})
}

func TestRefused(t *testing.T) {
	f := start(t, func(c *Config) { c.MaxUploadBytes, c.MaxBytes, c.MaxUploads = 100, 250, 2 })
	if _, err := f.Receive("a", bytes.NewReader(make([]byte, 101))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("101 bytes: %v", err)
	}
	if _, err := f.Receive("a", iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken body: %v", err)
	}
	one := f.upload(strings.Repeat("1", 100))
	f.upload(strings.Repeat("2", 100))
	if _, err := f.Receive("a", strings.NewReader("")); !errors.Is(err, ErrBusy) {
		t.Errorf("a third upload: %v", err)
	}
	if _, err := f.Receive("b", strings.NewReader(strings.Repeat("3", 51))); !errors.Is(err, ErrFull) {
		t.Errorf("251 bytes in all: %v", err)
	}
	if got := f.bytes.Load(); got != 200 {
		t.Errorf("refused uploads left %d bytes", got-200)
	}
	if err := inWords(fmt.Errorf("writing: %w", syscall.ENOSPC)); !errors.Is(err, ErrFull) {
		t.Errorf("a full disk: %v", err)
	}
	// Nobody keeps what another application uploaded, or an upload whose event is over.
	other, err := f.Receive("b", strings.NewReader("b"))
	if err != nil {
		t.Fatal(err)
	}
	f.Release(one.ID)
	for _, id := range []string{other.ID, one.ID, "", "../../store"} {
		if err := f.handle(&event.KeepFile{Name: "x", Upload: id}); err == nil || errors.Is(err, store.ErrConflict) {
			t.Errorf("kept the upload %q: %v", id, err)
		}
	}
}

// An upload that is under way survives every sweep, and one whose event was handled
// but is not over does, too.
func TestSweepLeavesWhatIsUnderWay(t *testing.T) {
	f := start(t, nil)
	up := f.upload("content")
	sweep := func() {
		t.Helper()
		if err := f.sweep(); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if err := f.handle(&event.KeepFile{Name: "x", Upload: up.ID}); err != nil {
		t.Fatal(err)
	}
	sweep()
	f.Release(up.ID)
	sweep()
	if got, err := f.read("x"); got != "content" || err != nil {
		t.Error(got, err)
	}
	// A download that has begun goes on after the file was dropped.
	h, err := f.Open("a", "p", "x")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := f.handle(&event.DropFile{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	sweep()
	if b, err := io.ReadAll(h); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// watchful is a store that tells when an empty batch is committed, which is how a sweep
// waits until what it saw is durable.
type watchful struct {
	Store
	waited func()
}

func (w *watchful) Commit(b *store.Batch, done func(error)) error {
	if len(b.Puts)+len(b.Deletes) == 0 {
		w.waited()
	}
	return w.Store.Commit(b, done)
}

// A power cut may bring a record back until its deletion is durable, so its file stays
// until then.
func TestSweepWaitsForDurability(t *testing.T) {
	f := start(t, nil)
	up := f.upload("content")
	if err := f.handle(&event.KeepFile{Name: "x", Upload: up.ID}); err != nil {
		t.Fatal(err)
	}
	f.Release(up.ID)
	if err := f.handle(&event.DropFile{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	there := func() bool { _, err := os.Stat(f.path(up.ID)); return err == nil }
	waited := false
	f.store = &watchful{f.st, func() { waited = there() }}
	if err := f.sweep(); err != nil {
		t.Fatal(err)
	}
	if !waited || there() {
		t.Errorf("the file was there when the sweep waited: %v; after it: %v", waited, there())
	}
}

// The sum goes down when a record expires, and a file whose bytes are gone is an error
// that says so, not an empty file.
func TestExpiryAndDamage(t *testing.T) {
	f := start(t, nil)
	keep := func(name string, ttl time.Duration) *event.Upload {
		t.Helper()
		up := f.upload(strings.Repeat("x", 600))
		defer f.Release(up.ID)
		if err := f.handle(&event.KeepFile{Name: name, Upload: up.ID, TTL: ttl}); err != nil {
			t.Fatal(err)
		}
		return up
	}
	keep("short", time.Nanosecond)
	if err := f.sweep(); err != nil {
		t.Fatal(err)
	}
	up := keep("long", 0) // it fits only if the other one counts no more
	if err := os.Truncate(f.path(up.ID), 599); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read("long"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a file that lost a byte: %v", err)
	}
	if err := os.Remove(f.path(up.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read("long"); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a file whose bytes are gone: %v", err)
	}
}

func TestPurge(t *testing.T) {
	f := start(t, nil)
	up := f.upload("content")
	if err := f.handle(&event.KeepFile{Name: "x", Upload: up.ID}); err != nil {
		t.Fatal(err)
	}
	f.Release(up.ID)
	for _, application := range []string{"other", "a"} {
		if err := errors.Join(f.Purge(application), f.sweep()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.read("x"); errors.Is(err, ErrAbsent) != (application == "a") {
			t.Errorf("after purging %s: %v", application, err)
		}
	}
	if f.bytes.Load() != 0 {
		t.Errorf("%d bytes are left", f.bytes.Load())
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "{", `{"segments":[{"id":"../x","size":1}]}`, `{"segments":[{"id":"","size":1}]}`} {
		if _, err := parse("x", []byte(text)); err == nil {
			t.Errorf("accepted %q", text)
		}
	}
}
