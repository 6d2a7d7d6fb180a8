package pebble

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// scrub reads the tables on disk in rounds and compares each block with its checksum, so that
// damage is found while a backup is still at hand, and not only when the block is needed. It
// reads past the block cache.
type scrub struct {
	read   atomic.Uint64 // bytes
	rounds atomic.Uint64

	mu      sync.Mutex
	damaged map[string]error // by file
}

// scrubLoop begins a round at the start, and then every ScrubEvery or later.
func (s *Store) scrubLoop() {
	defer s.loops.Done()
	if s.cfg.ScrubBytes == 0 {
		return
	}
	for {
		next := time.After(s.cfg.ScrubEvery)
		if !s.scrubRound(s.cfg.ScrubBytes) {
			return
		}
		select {
		case <-s.stop:
			return
		case <-s.fs.frozen:
			return
		case <-next:
		}
	}
}

// scrubRound reads every table once, rate bytes a second. It returns false if the store stops meanwhile.
func (s *Store) scrubRound(rate int64) bool {
	files, err := s.tables()
	if err != nil {
		return false
	}
	found := map[string]error{}
	for _, file := range files {
		err := s.scrubTable(file, rate)
		switch {
		case errors.Is(err, errStopping):
			return false
		case errors.Is(err, os.ErrNotExist): // a compaction has taken its place
		case err != nil && s.live(file):
			found[file] = err
			s.reportDamage(file, err)
		}
	}
	s.scrub.mu.Lock()
	s.scrub.damaged = found
	s.scrub.mu.Unlock()
	s.scrub.rounds.Add(1)
	return true
}

// tables returns the paths of the tables that are in use now.
func (s *Store) tables() ([]string, error) {
	if err := s.readers.enter(); err != nil {
		return nil, err
	}
	defer s.readers.leave()
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, fmt.Errorf("listing the tables of the store: %w", err)
	}
	files := map[string]struct{}{}
	for _, level := range levels {
		for i := range level {
			files[s.env.fs.PathJoin(s.cfg.Dir, fmt.Sprintf("%06d.sst", uint64(level[i].BackingSSTNum)))] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(files)), nil
}

// live says whether a table is still in use. One that is not may be in the middle of its
// removal.
func (s *Store) live(file string) bool {
	files, err := s.tables()
	return err == nil && slices.Contains(files, file)
}

// scrubTable checks every block of a table.
func (s *Store) scrubTable(file string, rate int64) error {
	f, err := s.env.fs.Open(file)
	if err != nil {
		return err
	}
	paced := &pacedFile{File: f, s: s, rate: rate}
	readable, err := sstable.NewSimpleReadable(paced)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, s.options().MakeReaderOptions())
	if err == nil {
		err = r.ValidateBlockChecksums()
		err = errors.Join(err, r.Close())
	}
	if paced.stopped {
		return errStopping
	}
	return err
}

// reportDamage logs a damaged file once for as long as it stays damaged.
func (s *Store) reportDamage(file string, err error) {
	s.scrub.mu.Lock()
	_, known := s.scrub.damaged[file]
	s.scrub.mu.Unlock()
	if !known {
		s.stats.corruption.Add(1)
		s.log.Error("store: a damaged file was found before anybody read it: restore a backup, or replace the disk", "file", file, "error", err)
	}
}

// Damaged names the files that the scrub found damaged, nil if there are none.
func (s *Store) Damaged() error {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	if len(s.scrub.damaged) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", store.ErrCorrupt, strings.Join(slices.Sorted(maps.Keys(s.scrub.damaged)), ", "))
}

var errStopping = errors.New("the store is closing")

// pacedFile reads at a rate, until the store stops. It is for one goroutine.
type pacedFile struct {
	vfs.File
	s       *Store
	rate    int64
	stopped bool
}

func (f *pacedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.s.scrub.read.Add(uint64(n))
	wait := time.NewTimer(time.Duration(float64(n) / float64(f.rate) * float64(time.Second)))
	defer wait.Stop()
	select {
	case <-wait.C:
		return n, err
	case <-f.s.stop:
	case <-f.s.fs.frozen:
	}
	f.stopped = true
	return 0, errStopping
}
