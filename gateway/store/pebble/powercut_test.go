package pebble

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

func openMem(t testing.TB, fs vfs.FS) *Store {
	t.Helper()
	s, err := openWith(memConfig(), slog.New(slog.DiscardHandler), environment{fs: fs, now: time.Now, every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const sequenceLogs = 3

// sequence makes the commit number n: one record, in one of three logs, and a
// key that holds n. What is found later must be a prefix of all commits.
func sequence(n int) *store.Batch {
	return &store.Batch{
		Appends: []store.Append{{Log: sequenceLog(n), Record: sequenceRecord(n)}},
		Puts: []store.Put{
			{Key: store.Key{Kind: store.State, Name: "n"}, Value: strconv.AppendInt(nil, int64(n), 10)},
			{Key: store.Key{Kind: store.Queue, Name: strconv.Itoa(n % 100)}, Value: sequenceRecord(n), Expires: time.Now().Add(time.Millisecond)},
		},
	}
}

func sequenceLog(n int) store.Log { return store.Events(strconv.Itoa(n % sequenceLogs)) }

func sequenceRecord(n int) []byte {
	return fmt.Appendf(nil, "%d %s", n, strings.Repeat(string(rune('a'+n%26)), 200+n*31%400))
}

// found returns how many commits of the sequence the store has, or the first
// error. Anything but a prefix fails the test.
func found(t testing.TB, s *Store) (int, error) {
	t.Helper()
	total := 0
	for l := range sequenceLogs {
		n := l
		err := s.Read(sequenceLog(l), 0, 1<<30, func(o uint64, _ time.Time, r []byte) bool {
			if string(r) != string(sequenceRecord(n)) {
				t.Errorf("log %d has the wrong record at offset %d", l, o)
			}
			n += sequenceLogs
			total++
			return true
		})
		if err != nil {
			return 0, err
		}
	}
	for l := range sequenceLogs {
		_, next, err := s.Bounds(sequenceLog(l))
		if err != nil {
			return 0, err
		}
		if want := (total - l + sequenceLogs - 1) / sequenceLogs; next != uint64(want) {
			t.Errorf("of %d commits, %d are in log %d: not a prefix", total, next, l)
		}
	}
	v, _, err := s.Get(store.Key{Kind: store.State, Name: "n"})
	if err != nil {
		return 0, err
	}
	if want := strconv.Itoa(total - 1); total > 0 && string(v) != want {
		t.Errorf("the state says %q after %d commits", v, total)
	}
	return total, nil
}

// TestPowerCut cuts the power of a simulated disk at random moments. Of what was
// not synced, none, some or all reaches the disk. What is found is a prefix of
// the commits that holds all that were acknowledged.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := openMem(t, fs)
	defer s.Close()
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	cuts := 20
	if testing.Short() {
		cuts = 5
	}
	var acked atomic.Int64
	made := 0
	for range cuts {
		burst := rnd.IntN(200)
		wait := acked.Load() + rnd.Int64N(int64(burst)+1)
		var committing sync.WaitGroup
		committing.Go(func() {
			for ; burst > 0; burst-- {
				n := made
				made++
				if err := s.Commit(sequence(n), func(err error) {
					if err != nil {
						t.Errorf("done: %v", err)
					}
					acked.Store(int64(n + 1))
				}); err != nil {
					t.Errorf("commit: %v", err)
				}
			}
		})
		for acked.Load() < wait {
			runtime.Gosched()
		}
		before := acked.Load()
		unsynced := []int{0, 50, 100}[rnd.IntN(3)]
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rnd})
		for restart := range 2 { // the second time without a commit in between
			c := openMem(t, after)
			n, err := found(t, c)
			if err != nil || int64(n) < before {
				t.Fatalf("restart %d, %d %% of the unsynced data: %d commits of %d acknowledged, error %v", restart, unsynced, n, before, err)
			}
			if err := commitWait(c, sequence(n)); err != nil {
				t.Fatal(err)
			}
			before = int64(n) + 1
			if restart == 0 {
				after = after.CrashClone(vfs.CrashCloneCfg{})
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		committing.Wait()
	}
	t.Logf("%d cuts during %d commits", cuts, made)
}

func commitWait(s *Store, b *store.Batch) error {
	durable := make(chan error, 1)
	if err := s.Commit(b, func(err error) { durable <- err }); err != nil {
		return err
	}
	if err := <-durable; err != nil {
		return fmt.Errorf("done: %w", err)
	}
	return nil
}
