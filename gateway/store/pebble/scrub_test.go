package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
	"tributary.io/gateway/store/storetest"
)

// scrubConfig scrubs as fast as the machine can, and starts the next round soon.
func scrubConfig() Config {
	c := memConfig()
	c.ScrubRate, c.ScrubPause = 1<<40, time.Second
	return c
}

// scrubbed opens a store on a copy of a closed one, and waits for a round of the scrub.
func scrubbed(t *testing.T, fs vfs.FS) (s *Store, log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{}
	s, err := openWith(scrubConfig(), slog.New(slog.NewTextHandler(log, nil)), environment{fs: fs, now: time.Now, every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	rounds(t, s, 1)
	return s, log
}

// rounds waits until the scrub has done n more rounds.
func rounds(t testing.TB, s *Store, n uint64) {
	t.Helper()
	end := s.stats.scrubRounds.Load() + n
	for limit := time.Now().Add(30 * time.Second); s.stats.scrubRounds.Load() < end; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the scrub did %d of %d rounds", s.stats.scrubRounds.Load(), end)
		}
	}
}

func copyOf(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
}

// tablesOf returns the paths of the tables in a directory.
func tablesOf(t testing.TB, fs vfs.FS) (paths []string) {
	t.Helper()
	names, err := fs.List("data/store")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			paths = append(paths, filepath.Join("data/store", name))
		}
		if strings.HasSuffix(name, ".blob") {
			t.Errorf("%s holds values, and the scrub does not know such files", name)
		}
	}
	if len(paths) == 0 {
		t.Fatal("the store has no table")
	}
	return paths
}

// TestScrubFindsEveryBit flips bits all over a table: whichever it is, verifyTable says so.
func TestScrubFindsEveryBit(t *testing.T) {
	t.Parallel()
	fs := testDisk(t, false)
	verify := func(path string) error {
		f, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return verifyTable(f, func(int) error { return nil })
	}
	for _, path := range tablesOf(t, fs) {
		if err := verify(path); err != nil {
			t.Errorf("%s is sound: %v", path, err)
		}
		data := readFile(t, fs, path)
		step := max(1, len(data)/400)
		if testing.Short() {
			step = max(1, len(data)/50)
		}
		for at := range len(data) {
			if at%step != 0 && at < len(data)-100 { // the footer has no block, and is tried byte by byte
				continue
			}
			bad := bytes.Clone(data)
			bad[at] ^= 1 << rand.IntN(8)
			writeFile(t, fs, path, bad)
			if verify(path) == nil {
				t.Errorf("%s: a bit of byte %d of %d flipped, and nobody sees it", path, at, len(data))
			}
		}
		writeFile(t, fs, path, data[:len(data)/2])
		if verify(path) == nil {
			t.Errorf("%s: half of it is missing, and nobody sees it", path)
		}
		writeFile(t, fs, path, data)
	}
}

// TestScrub flips a bit of a record that nobody reads, while the store runs.
func TestScrub(t *testing.T) {
	t.Parallel()
	fs := copyOf(testDisk(t, false))
	s, log := scrubbed(t, fs)
	defer s.Close()
	if found := s.Damaged(); found != nil || s.stats.corruption.Load() != 0 || s.stats.scrubBytes.Load() == 0 {
		t.Fatalf("a sound store: %v are damaged, %d bytes were read; %s", found, s.stats.scrubBytes.Load(), log)
	}
	path := tablesOf(t, fs)[0]
	data := readFile(t, fs, path)
	data[len(data)/2] ^= 4
	writeFile(t, fs, path, data)
	rounds(t, s, 2) // the next may be under way
	if found := s.Damaged(); len(found) != 1 || found[0] != path {
		t.Errorf("%v are damaged, want %s", found, path)
	}
	rounds(t, s, 1)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), path); n != 1 || s.stats.corruption.Load() != 1 {
		t.Errorf("%d lines and %d corruptions for one file: %s", n, s.stats.corruption.Load(), log)
	}
}

// TestScrubFindsMissingTable removes a table that is in use.
func TestScrubFindsMissingTable(t *testing.T) {
	t.Parallel()
	fs := copyOf(testDisk(t, false))
	s, log := scrubbed(t, fs)
	defer s.Close()
	path := tablesOf(t, fs)[0]
	if err := fs.Remove(path); err != nil {
		t.Fatal(err)
	}
	rounds(t, s, 2)
	if found := s.Damaged(); len(found) != 1 || found[0] != path {
		t.Errorf("%v are damaged, want %s; %s", found, path, log)
	}
}

// TestScrubOfDirectory flips a bit in a file of a real directory before the store opens.
func TestScrubOfDirectory(t *testing.T) {
	t.Parallel()
	c := testConfig(t.TempDir())
	c.ScrubRate, c.ScrubPause = 1<<40, time.Second
	s, err := Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		record := make([]byte, 300)
		for i := 0; i < len(record); i += 4 {
			binary.LittleEndian.PutUint32(record[i:], rand.Uint32())
		}
		if err := s.Commit(&store.Batch{Appends: []store.Append{{Log: "l", Record: record}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(c.Dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	data, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(tables[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if s, err = Open(c, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rounds(t, s, 1)
	if found := s.Damaged(); len(found) != 1 || found[0] != tables[0] {
		t.Errorf("%v are damaged, want %s", found, tables[0])
	}
	for range 2 {
		if err := s.Read("l", 0, 3000, func(uint64, time.Time, []byte) bool { return true }); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("reading the damaged record: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || s.stats.corruption.Load() != 1 {
		t.Errorf("%d lines and %d corruptions for one file: %s", n, s.stats.corruption.Load(), &log)
	}
}

// TestScrubBesideWork scrubs without a pause while commits, compactions and retention make
// tables and remove them.
func TestScrubBesideWork(t *testing.T) {
	t.Parallel()
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: vfs.NewMem(), now: time.Now, every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.cfg.ScrubRate = 1 << 40 // for the rounds below; openWith has started no loop
	for l := range sequenceLogs {
		if err := s.Retain(sequenceLog(l), 0, 64<<10); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		defer close(done)
		for n := range 20_000 {
			if err := s.Commit(sequence(n), nil); err != nil {
				t.Errorf("commit %d: %v", n, err)
				return
			}
			if n%1000 == 999 {
				if err := s.db.Flush(); err != nil {
					t.Errorf("flush: %v", err)
				}
			}
		}
	})
	for working := true; working; {
		select {
		case <-done:
			working = false
		default:
		}
		if err := s.scrubRound(); err != nil {
			t.Fatal(err)
		}
	}
	work.Wait()
	m := s.db.Metrics()
	t.Logf("%d rounds and %d bytes beside %d compactions", s.stats.scrubRounds.Load(), s.stats.scrubBytes.Load(), m.Compact.Count)
	if found := s.Damaged(); found != nil || s.stats.background.Load() != 0 {
		t.Errorf("a sound store: %v are damaged", found)
	}
	if m.Compact.Count == 0 || s.stats.scrubBytes.Load() == 0 {
		t.Error("nothing happened beside the scrub")
	}
}

// scrubbing is a store whose scrub never pauses.
type scrubbing struct {
	*Store
	stop func()
}

func (s scrubbing) Close() error {
	s.stop()
	return s.Store.Close()
}

// TestStoreScrubbed runs the suite on stores that are scrubbed all the time.
func TestStoreScrubbed(t *testing.T) {
	storetest.Test(t, func(t testing.TB, dir string) store.Store {
		t.Helper()
		c := testConfig(dir)
		c.CacheBytes, c.MemTableBytes, c.MaxPendingBytes, c.ScrubRate, c.ScrubPause = 1<<20, 1<<20, 64<<10, 64<<20, time.Hour
		s, err := Open(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		end := make(chan struct{})
		var loop sync.WaitGroup
		loop.Go(func() {
			for {
				select {
				case <-end:
					if found := s.Damaged(); found != nil {
						t.Errorf("a sound store: %v are damaged", found)
					}
					return
				case <-s.fs.frozen:
					<-end
					return
				case <-time.After(time.Millisecond):
					if err := s.scrubRound(); err != nil && !errors.Is(err, errStopped) {
						t.Error(err)
					}
				}
			}
		})
		return scrubbing{s, sync.OnceFunc(func() { close(end); loop.Wait() })}
	})
}

// TestScrubStops closes a store whose scrub would need a month for a block.
func TestScrubStops(t *testing.T) {
	t.Parallel()
	fs := copyOf(testDisk(t, false))
	c := memConfig()
	c.ScrubRate, c.ScrubPause = 64<<10, time.Hour
	s, err := openWith(c, slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.rest(30 * 24 * time.Hour) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != errStopped {
		t.Errorf("a rest ended with %v", err)
	}
}

// A scrub that cannot be set to a rate, or whose rounds follow without a pause, is refused.
func TestScrubSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		rate  int64
		pause time.Duration
		want  string // part of the message; empty: fine
	}{
		"off":      {0, 0, ""},
		"slow":     {64 << 10, time.Second, ""},
		"negative": {-1, time.Hour, "scrub_bytes"},
		"tiny":     {1, time.Hour, "scrub_bytes"},
		"no pause": {1 << 20, 0, "scrub_pause"},
	} {
		c := Default()
		c.ScrubRate, c.ScrubPause = tt.rate, tt.pause
		err := c.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestPace reads blocks for some time of a clock that only rests move.
func TestPace(t *testing.T) {
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			start := time.Unix(0, 0)
			now, p, read := start, pace{rate: 4 << 20}, 0
			for now.Sub(start) < 10*time.Second {
				now = now.Add(p.spend(size, now))
				read += size
			}
			// A rest is due for what was read before it: one block and what is not worth a rest are ahead.
			ahead := size + int(p.rate*int64(restWorth)/int64(time.Second)) + size
			if want := int(now.Sub(start).Seconds() * 4 * (1 << 20)); read > want+ahead || read < want-ahead {
				t.Errorf("%d bytes in %v, want %d at most %d off", read, now.Sub(start), want, ahead)
			}
			now = now.Add(time.Hour)
			if d := p.spend(size, now); d != 0 {
				t.Errorf("a rest of %v after a silence", d)
			}
			if p.spend(64<<20, now); p.spend(1, now) < 15*time.Second {
				t.Error("a silence is made up for")
			}
		})
	}
}
