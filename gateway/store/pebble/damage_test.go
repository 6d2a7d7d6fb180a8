package pebble

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// damageCommits is how many commits the damaged stores hold.
const damageCommits = 900

// testDisk returns a disk with a store of damageCommits: closed in order, or as
// a killed process leaves it, when the witness has seen everything.
func testDisk(t *testing.T, killed bool) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	for n := range damageCommits {
		if err := s.Commit(sequence(n), nil); err != nil {
			t.Fatal(err)
		}
		if n%500 == 499 { // so that there are several groups
			if err := commitWait(s, &store.Batch{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := commitWait(s, &store.Batch{}); err != nil {
		t.Fatal(err)
	}
	if killed {
		for s.witnessed.Load() != s.durable.Load() {
			time.Sleep(time.Millisecond)
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
	}
	t.Cleanup(func() { s.Close() })
	if !killed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// TestDamage flips one bit, or zeroes or cuts off a part of a file, at random
// places in every file of a store. The store may refuse to open, may report a
// damaged record, or may not be touched by it; it never loses or changes
// anything silently, and never takes the process down.
func TestDamage(t *testing.T) {
	t.Parallel()
	each := 7
	if testing.Short() {
		each = 3
	}
	for name, killed := range map[string]bool{"closed": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			fs := testDisk(t, killed)
			names, err := fs.List("data/store")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range names {
				data := readFile(t, fs, filepath.Join("data/store", file))
				if len(data) == 0 {
					continue
				}
				outcomes := map[string]int{}
				for range each {
					bad, what := damage(data)
					outcomes[what+": "+tryDamaged(t, fs, file, what, bad)]++
				}
				t.Logf("%s (%d bytes): %v", file, len(data), outcomes)
			}
		})
	}
}

func damage(data []byte) (bad []byte, what string) {
	bad = append([]byte(nil), data...)
	at := rand.IntN(len(bad))
	switch rand.IntN(4) {
	case 0:
		clear(bad[at:min(len(bad), at+512)])
		return bad, "zero"
	case 1:
		return bad[:at], "cut"
	}
	bad[at] ^= 1 << rand.IntN(8)
	return bad, "flip"
}

// tryDamaged opens a copy of the store with one file replaced.
func tryDamaged(t *testing.T, from *vfs.MemFS, file, what string, bad []byte) string {
	t.Helper()
	fs := from.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
	writeFile(t, fs, filepath.Join("data/store", file), bad)
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: time.Hour})
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) {
			t.Logf("%s of %s: refused, but not as damage: %v", what, file, err)
			return "refused"
		}
		return "refused as damaged"
	}
	defer s.Close()
	n, err := found(t, s)
	switch {
	case err == nil && n == damageCommits:
		return "harmless"
	case err == nil:
		t.Errorf("%s of %s: %d of %d commits are left and nobody says so", what, file, n, damageCommits)
	case !errors.Is(err, store.ErrCorrupt):
		t.Errorf("%s of %s: reading: %v, want ErrCorrupt", what, file, err)
	}
	return "found by reading"
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(data)); err != nil { // under -race pebble's file system spoils what it was given
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMissingFile removes each file in turn.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	fs := testDisk(t, true)
	names, err := fs.List("data/store")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range names {
		if file == witnessName || file == "LOCK" || strings.HasPrefix(file, "OPTIONS") {
			continue // with nothing to compare it to, the rest is taken as it is
		}
		t.Run(file, func(t *testing.T) {
			fs := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
			if err := fs.Remove(filepath.Join("data/store", file)); err != nil {
				t.Fatal(err)
			}
			s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: time.Hour})
			if err != nil {
				t.Log(err)
				return
			}
			defer s.Close()
			if n, err := found(t, s); err == nil && n != damageCommits {
				t.Errorf("%d of %d commits are left and nobody says so", n, damageCommits)
			}
		})
	}
}

// TestRollback puts an older copy of the store back without its witness: the
// store says that commits are missing, removes nothing, and opens when the
// operator takes the witness away.
func TestRollback(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	if err := commitWait(s, sequence(0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := fs.CrashClone(vfs.CrashCloneCfg{})
	s = openMem(t, fs)
	if err := commitWait(s, sequence(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	witness := filepath.Join(memConfig().Dir, witnessName)
	writeFile(t, old, witness, readFile(t, fs, witness))
	before, err := old.List("data/store")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: old, now: time.Now, every: time.Hour})
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "commits up to 1 but 2 were durable") {
			t.Fatalf("open: %v", err)
		}
	}
	for _, name := range before {
		if _, err := old.Stat(filepath.Join("data/store", name)); errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is gone", name)
		}
	}
	if err := old.Remove(witness); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, old)
	defer s.Close()
	if n, err := found(t, s); n != 1 || err != nil {
		t.Fatalf("%d commits, error %v", n, err)
	}
}
