package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tributary.io/gateway/store"
)

// errStopped ends a round of the scrub early: the store closes, or its disk failed.
var errStopped = errors.New("the scrub was stopped")

// scrubLoop reads all tables in rounds and compares every block with its checksum, so that
// damage to a record that nobody reads is found while a backup still has the record.
//
// It opens the files itself instead of reading through pebble. pebble's cache holds blocks
// from the time when they were sound, and would lose blocks that are in use.
func (s *Store) scrubLoop() {
	defer s.loops.Done()
	for {
		err := s.scrubRound()
		if errors.Is(err, errStopped) {
			return
		}
		s.note("looking for damage in the tables", err)
		if s.rest(s.cfg.ScrubPause) != nil {
			return
		}
	}
}

// rest sleeps. It returns errStopped as soon as there is nothing left to scrub for.
func (s *Store) rest(d time.Duration) error {
	if d == 0 {
		select {
		case <-s.stop:
			return errStopped
		case <-s.fs.frozen:
			return errStopped
		default:
			return nil
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.stop:
		return errStopped
	case <-s.fs.frozen:
		return errStopped
	case <-timer.C:
		return nil
	}
}

// scrubRound verifies each table that is in use when the round begins. Their order is random, so
// that a gateway which is often restarted does not verify the same ones each time.
func (s *Store) scrubRound() error {
	tables, err := s.tables()
	if err != nil {
		return err
	}
	s.damage.prune(tables)
	paths := slices.Collect(maps.Keys(tables))
	rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	pace := &pace{rate: s.cfg.ScrubRate}
	var missed []error
	for _, path := range paths {
		if s.damage.has(path) {
			continue
		}
		switch err := s.scrubTable(path, pace); {
		case errors.Is(err, errStopped):
			return err
		case err != nil:
			missed = append(missed, err)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%d of %d tables could not be opened, the first because of: %w", len(missed), len(paths), missed[0])
	}
	s.stats.scrubRounds.Add(1)
	return nil
}

// tables returns the paths of the tables that hold the store's present state.
func (s *Store) tables() (map[string]bool, error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	paths := map[string]bool{}
	for _, level := range levels {
		for i := range level {
			// Several virtual tables may be parts of one file.
			paths[s.env.fs.PathJoin(s.cfg.Dir, fmt.Sprintf("%06d.sst", level[i].BackingSSTNum))] = true
		}
	}
	return paths, nil
}

// scrubTable verifies one table. It notes damage, and returns an error if it could not look.
func (s *Store) scrubTable(path string, pace *pace) error {
	f, err := s.env.fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		tables, listErr := s.tables()
		if listErr == nil && tables[path] {
			s.found(path, err)
		}
		return listErr // not in use any more: a compaction has replaced it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = verifyTable(f, func(n int) error {
		s.stats.scrubBytes.Add(uint64(n))
		return s.rest(pace.spend(n, time.Now()))
	})
	if err != nil && !errors.Is(err, errStopped) {
		s.found(path, err)
		return nil
	}
	return err
}

// verifyTable compares every block of a table with its checksum. It calls spend before it
// reads so many bytes, and gives up at an error of it.
func verifyTable(f vfs.File, spend func(n int) error) (err error) {
	defer func() {
		if p := recover(); p != nil { // pebble panics at some kinds of damage
			err = fmt.Errorf("%w: pebble: %v", store.ErrCorrupt, p)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	table := &pacedTable{f, info.Size(), spend}
	r, err := sstable.NewReader(context.Background(), table, sstable.ReaderOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	layout, err := r.Layout()
	if err != nil {
		return err
	}
	var buf []byte
	for _, b := range blocks(layout) {
		buf = slices.Grow(buf[:0], int(b.Length)+block.TrailerLen)[:int(b.Length)+block.TrailerLen]
		if err := table.ReadAt(context.Background(), buf, int64(b.Offset)); err != nil {
			return fmt.Errorf("reading %d bytes at %d: %w", len(buf), b.Offset, err)
		}
		if !sound(buf) {
			return fmt.Errorf("%w: the block of %d bytes at %d does not match its checksum", store.ErrCorrupt, b.Length, b.Offset)
		}
	}
	return nil
}

// blocks returns the blocks of a table in the order of the file. pebble's own
// Reader.ValidateBlockChecksums leaves out the blocks of values.
func blocks(l *sstable.Layout) []block.Handle {
	all := []block.Handle{l.TopIndex, l.RangeDel, l.RangeKey, l.ValueIndex, l.Properties, l.MetaIndex, l.BlobReferenceIndex}
	for i := range l.Data {
		all = append(all, l.Data[i].Handle)
	}
	for i := range l.Filter {
		all = append(all, l.Filter[i].Handle)
	}
	all = append(append(all, l.Index...), l.ValueBlock...)
	all = slices.DeleteFunc(all, func(b block.Handle) bool { return b.Length == 0 })
	slices.SortFunc(all, func(a, b block.Handle) int { return int(int64(a.Offset) - int64(b.Offset)) })
	return all
}

// sound says whether a block matches the checksum at its end. block.ValidateChecksum of
// pebble does the same, but at damage it looks for the bit that flipped, which takes seconds of
// processor time.
func sound(b []byte) bool {
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	c := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15|c<<17)+0xa282ead8 == sum // the masked CRC of LevelDB's table format
}

// pacedTable is a table that is read at a bounded rate.
type pacedTable struct {
	f     vfs.File
	size  int64
	spend func(n int) error
}

// ReadAt implements objstorage.Readable.
func (t *pacedTable) ReadAt(_ context.Context, p []byte, off int64) error {
	if err := t.spend(len(p)); err != nil {
		return err
	}
	n, err := t.f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Size implements objstorage.Readable.
func (t *pacedTable) Size() int64 { return t.size }

// Close implements objstorage.Readable. The file is closed by its owner.
func (t *pacedTable) Close() error { return nil }

// NewReadHandle implements objstorage.Readable.
func (t *pacedTable) NewReadHandle(objstorage.ReadBeforeSize) objstorage.ReadHandle {
	h := objstorage.MakeNoopReadHandle(t)
	return &h
}

// pace says how long to rest, so that no more than rate bytes are read in a second. It lets
// small reads pass until together they are worth a rest.
type pace struct {
	rate int64
	next time.Time // when all that was read so far is paid for
}

// restWorth is the shortest rest.
const restWorth = 20 * time.Millisecond

// spend notes that n bytes are read now, and returns how long to rest before.
func (p *pace) spend(n int, now time.Time) time.Duration {
	if p.next.Before(now) {
		p.next = now // what was not read in the past is not made up for
	}
	debt := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	if debt < restWorth {
		return 0
	}
	return debt
}
