package pebble

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// A bit that the disk has flipped in a table is found without anybody reading its block,
// unless the start finds it already; a healthy store has no findings.
func TestScrubFindsDamage(t *testing.T) {
	t.Parallel()
	fs := testDisk(t, false)
	names, err := fs.List("data/store")
	if err != nil {
		t.Fatal(err)
	}
	scrubbed := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		file := filepath.Join("data/store", name)
		for range 20 {
			data := readFile(t, fs, file)
			data[rand.IntN(len(data)*9/10)] ^= 1 << rand.IntN(8) // the footer has no checksum
			damaged := fs.CrashClone(vfs.CrashCloneCfg{})
			writeFile(t, damaged, file, data)
			var log bytes.Buffer
			s, err := openWith(memConfig(), slog.New(slog.NewTextHandler(&log, nil)), environment{fs: damaged, now: time.Now, every: time.Hour})
			if errors.Is(err, store.ErrCorrupt) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // it is told once
				if !s.scrubRound(1 << 40) {
					t.Fatal("the round did not end")
				}
			}
			if err := s.Damaged(); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s is damaged, and the scrub says %v", name, err)
			}
			// a compaction may have found it, too
			if n := strings.Count(log.String(), "a damaged file was found"); n != 1 || s.stats.corruption.Load() < 1 {
				t.Errorf("told %d times, counted %d", n, s.stats.corruption.Load())
			}
			scrubbed++
			s.Close()
		}
	}
	if scrubbed == 0 {
		t.Error("each damage was found at the start; nothing was scrubbed")
	}
}

// Rounds beside writes, compactions and retention find nothing, and end with the store.
func TestScrubBesideWrites(t *testing.T) {
	t.Parallel()
	cfg := memConfig()
	cfg.MemTableBytes, cfg.MaxPendingBytes = 1<<20, 64<<10 // many tables
	s, err := openWith(cfg, slog.New(slog.DiscardHandler), environment{fs: vfs.NewMem(), now: time.Now, every: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var scrubbing sync.WaitGroup
	stop := make(chan struct{})
	scrubbing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.scrubRound(1 << 40)
			}
		}
	})
	if err := s.Retain(sequenceLog(0), 0, 100<<10); err != nil {
		t.Fatal(err)
	}
	for n := range 10_000 {
		if err := s.Commit(sequence(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	scrubbing.Wait()
	if err := s.Damaged(); err != nil || s.stats.corruption.Load() != 0 {
		t.Errorf("a healthy store is said to be damaged: %v", err)
	}
	if s.scrub.read.Load() == 0 {
		t.Error("nothing was read")
	}
	scrubbing.Go(func() { s.scrubRound(1) }) // a byte a second
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	scrubbing.Wait()
}
