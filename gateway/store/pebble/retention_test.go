package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pebbledb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/metric"
	"tributary.io/gateway/store"
)

// TestSweep moves the clock: expired keys vanish at once for readers and soon
// from the disk, index included; a key that was written again stays.
func TestSweep(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC).UnixNano())
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: vfs.NewMem(), now: now, every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	key := func(i int) store.Key { return store.Key{Kind: store.Sess, Name: fmt.Sprint(i)} }
	put := func(from, to int, ttl time.Duration) {
		t.Helper()
		b := &store.Batch{}
		for i := from; i < to; i++ {
			p := store.Put{Key: key(i), Value: []byte("v")}
			if ttl > 0 {
				p.Expires = now().Add(ttl)
			}
			b.Puts = append(b.Puts, p)
		}
		if err := commitWait(s, b); err != nil {
			t.Fatal(err)
		}
	}
	const n = 3 * sweepAtOnce
	put(0, n, time.Minute)
	put(0, 1, 0)         // stays for ever
	put(1, 2, time.Hour) // and for longer
	if got := count(t, s, spaceKey); got != n {
		t.Fatalf("%d keys on disk, want %d", got, n)
	}
	clock.Add(int64(time.Minute - 1))
	if _, rev, _ := s.Get(key(2)); rev == 0 {
		t.Fatal("a key expired early")
	}
	clock.Add(1)
	if _, rev, _ := s.Get(key(2)); rev != 0 {
		t.Fatal("a key did not expire")
	}
	await(t, "the sweep", func() bool { return count(t, s, spaceKey) == 2 && count(t, s, spaceExpiry) == 1 })
	clock.Add(int64(time.Hour))
	await(t, "the last sweep", func() bool { return count(t, s, spaceKey) == 1 && count(t, s, spaceExpiry) == 0 })
	if v, rev, err := s.Get(key(0)); rev == 0 || string(v) != "v" || err != nil {
		t.Fatalf("the key without expiry: %q, revision %d, error %v", v, rev, err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen in 30 s", what)
		}
	}
}

// count counts the keys of a space on disk.
func count(t *testing.T, s *Store, space byte) (n int) {
	t.Helper()
	it, err := s.db.NewIter(&pebbledb.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLock opens a store twice: in one process and from another.
func TestLock(t *testing.T) {
	const dirVar = "TRIBUTARY_LOCK_TEST"
	dir := os.Getenv(dirVar)
	child := dir != ""
	if !child {
		dir = t.TempDir()
		s := testOpen(t, dir)
		defer s.Close()
	}
	_, err := Open(testConfig(dir), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(),
		dir+" is in use by another process; stop it, or choose another directory with store.dir or --data-dir") {
		t.Fatalf("opening a store that is open: %v", err)
	}
	if child {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLock$")
	cmd.Env = append(os.Environ(), dirVar+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("from another process: %v\n%s", err, out)
	}
}

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for key, change := range map[string]func(*Config){
		"dir":                 func(c *Config) { c.Dir = "" },
		"cache_bytes":         func(c *Config) { c.CacheBytes = 1000 },
		"memtable_bytes":      func(c *Config) { c.MemTableBytes = 2 << 30 },
		"max_pending_bytes":   func(c *Config) { c.MaxPendingBytes = c.MemTableBytes },
		"max_pending_commits": func(c *Config) { c.MaxPendingCommits = 0 },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key+" ") {
			t.Errorf("%s: %v", key, err)
		}
		if _, err := Open(c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: a store was opened", key)
		}
	}
	if _, err := Open(testConfig("/dev/null/store"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a store was opened in a place that cannot be")
	}
}

func TestMetrics(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	for n := range 10 {
		if err := commitWait(s, sequence(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(&store.Batch{Expect: []store.Expect{{Key: store.Key{Kind: store.State, Name: "n"}}}}, nil); !errors.Is(err,
		store.ErrConflict) {
		t.Fatal(err)
	}
	got := map[string]float64{}
	var syncs uint64
	for _, m := range s.Metrics() {
		name := m.Name
		for _, l := range m.Labels {
			name += "/" + l.Value
		}
		got[name] = m.Value
		if m.Kind == metric.HistogramKind {
			syncs, _, _ = m.Hist.Snapshot()
		}
	}
	if syncs < 10 || got["tributary_store_commits_total"] < 10 || got["tributary_store_commit_conflicts_total"] != 1 ||
		got["tributary_store_log_records/e/0"] != 4 || got["tributary_store_log_bytes/e/0"] < 4*200 || got["tributary_store_disk_bytes"] == 0 {
		t.Errorf("%d syncs, %v", syncs, got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Metrics() // at a scrape during shutdown
}
