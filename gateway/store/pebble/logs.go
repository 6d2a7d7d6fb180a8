package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/store"
)

// logState is what the store knows about a log. The store's lock guards it.
type logState struct {
	name   store.Log
	prefix []byte // of its records' keys

	first   uint64 // oldest kept offset
	durable uint64 // one past the newest that is on disk
	next    uint64 // one past the newest
	base    uint64 // bytes of the records before first
	total   uint64 // bytes of all records ever
	latest  int64  // greatest time of a record
	group   uint64 // the newest group that appends to it

	watchers []*watcher // replaced, never changed
	keep     retention
}

type watcher struct{ fn func(next uint64) }

// logOf returns the log's state, made when there is none. Under the lock.
func (s *Store) logOf(name store.Log) *logState {
	l, ok := s.logs[name]
	if !ok {
		l = &logState{name: name, prefix: logPrefix(spaceLog, name), latest: math.MinInt64}
		s.logs[name] = l
	}
	return l
}

func (l *logState) key(offset uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(l.prefix), offset)
}

// loadLogs finds the logs and their ends.
func (s *Store) loadLogs() error {
	if err := s.loadFloors(); err != nil {
		return err
	}
	it, err := s.db.NewIter(&pebbledb.IterOptions{LowerBound: []byte{spaceLog}, UpperBound: []byte{spaceLog + 1}})
	if err != nil {
		return damaged(err)
	}
	defer it.Close()
	for ok := it.First(); ok; {
		name, err := logOf(it.Key())
		if err != nil {
			return err
		}
		l := s.logOf(name)
		first, _, err := l.at(it)
		if err != nil {
			return err
		}
		if first != l.first {
			return fmt.Errorf("%w: log %q starts at offset %d instead of %d", store.ErrCorrupt, name, first, l.first)
		}
		end := after(l.prefix)
		if !it.SeekLT(end) {
			return fmt.Errorf("reading log %q: %w", name, damaged(it.Error()))
		}
		last, r, err := l.at(it)
		if err != nil {
			return err
		}
		l.next, l.durable = last+1, last+1
		l.total, l.latest = r.total, r.latest
		ok = it.SeekGE(end)
	}
	return damaged(it.Error())
}

func (s *Store) loadFloors() error {
	it, err := s.db.NewIter(&pebbledb.IterOptions{LowerBound: []byte{spaceFloor}, UpperBound: []byte{spaceFloor + 1}})
	if err != nil {
		return damaged(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		name, err := logOf(it.Key())
		if err != nil {
			return err
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return damaged(err)
		}
		if !intact(it.Key(), v, floorLen) {
			return fmt.Errorf("%w: the start of log %q", store.ErrCorrupt, name)
		}
		l := s.logOf(name)
		l.first, l.base, l.latest = number(v, 0), number(v, 1), int64(number(v, 2))
		l.next, l.durable, l.total = l.first, l.first, l.base
	}
	return damaged(it.Error())
}

// at decodes the record that the iterator stands on.
func (l *logState) at(it *pebbledb.Iterator) (offset uint64, r record, err error) {
	key := it.Key()
	value, err := it.ValueAndErr()
	if err != nil {
		return 0, r, fmt.Errorf("reading log %q: %w", l.name, damaged(err))
	}
	if len(key) != len(l.prefix)+8 {
		return 0, r, fmt.Errorf("%w: key %x in log %q", store.ErrCorrupt, key, l.name)
	}
	r, err = decodeRecord(key, value)
	return binary.BigEndian.Uint64(key[len(l.prefix):]), r, err
}

// span is the durable part of a log at one moment.
type span struct {
	*logState
	first, next uint64
}

func (s *Store) span(name store.Log) span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spanLocked(name)
}

func (s *Store) spanLocked(name store.Log) span {
	l, ok := s.logs[name]
	if !ok {
		return span{}
	}
	return span{l, l.first, l.durable}
}

// iterate returns a log's span and an iterator on its records from an offset on,
// both of one moment, so that retention makes no gap between them. The iterator
// is nil when there is nothing to read.
func (s *Store) iterate(name store.Log, from uint64) (span, *pebbledb.Iterator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.spanLocked(name)
	from = max(from, p.first)
	if from >= p.next {
		return p, nil, nil
	}
	it, err := s.db.NewIter(&pebbledb.IterOptions{LowerBound: p.key(from), UpperBound: p.key(p.next)})
	if err != nil {
		return p, nil, fmt.Errorf("reading log %q: %w", name, damaged(err))
	}
	return p, it, nil
}

// Read implements store.Store.
func (s *Store) Read(name store.Log, from uint64, limit int, fn func(offset uint64, t time.Time, record []byte) bool) error {
	if err := s.readers.enter(); err != nil {
		return err
	}
	defer s.readers.leave()
	if limit <= 0 {
		return nil
	}
	p, it, err := s.iterate(name, from)
	if it == nil {
		return err
	}
	defer it.Close()
	want := max(from, p.first)
	for ok := it.First(); ok; ok = it.Next() {
		offset, r, err := p.at(it)
		if err != nil {
			return err
		}
		if offset != want {
			return fmt.Errorf("%w: log %q has offset %d where %d belongs", store.ErrCorrupt, name, offset, want)
		}
		want++
		if limit--; !fn(offset, time.Unix(0, r.time).UTC(), r.data) || limit == 0 {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("reading log %q: %w", name, damaged(err))
	}
	if want != p.next {
		return fmt.Errorf("%w: log %q ends at offset %d instead of %d", store.ErrCorrupt, name, want, p.next)
	}
	return nil
}

// Bounds implements store.Store.
func (s *Store) Bounds(name store.Log) (first, next uint64, err error) {
	if err := s.readers.enter(); err != nil {
		return 0, 0, err
	}
	defer s.readers.leave()
	p := s.span(name)
	return p.first, p.next, nil
}

// OffsetAt implements store.Store. If the times of a log go back, a record counts as late as
// the latest one before it.
func (s *Store) OffsetAt(name store.Log, t time.Time) (uint64, error) {
	if err := s.readers.enter(); err != nil {
		return 0, err
	}
	defer s.readers.leave()
	at := nanos(t)
	return s.search(name, func(r record) bool { return r.latest >= at })
}

// search returns the first offset of a log whose record fits, or its end. fits
// must hold for every record after one for which it holds.
func (s *Store) search(name store.Log, fits func(record) bool) (uint64, error) {
	p, it, err := s.iterate(name, 0)
	if it == nil {
		return p.next, err
	}
	defer it.Close()
	key := p.key(0)
	n := sort.Search(int(p.next-p.first), func(i int) bool {
		if err != nil {
			return true
		}
		binary.BigEndian.PutUint64(key[len(p.prefix):], p.first+uint64(i))
		if !it.SeekGE(key) {
			if err = damaged(it.Error()); err == nil {
				err = fmt.Errorf("%w: log %q has no record %d", store.ErrCorrupt, p.name, p.first+uint64(i))
			}
			return true
		}
		var r record
		if _, r, err = p.at(it); err != nil {
			return true
		}
		return fits(r)
	})
	return p.first + uint64(n), err
}

// record reads one record.
func (s *Store) record(l *logState, offset uint64) (record, error) {
	key := l.key(offset)
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebbledb.ErrNotFound) {
		return record{}, fmt.Errorf("%w: log %q has no record %d", store.ErrCorrupt, l.name, offset)
	}
	if err != nil {
		return record{}, damaged(err)
	}
	defer closer.Close()
	r, err := decodeRecord(key, value)
	r.data = nil
	return r, err
}

// Watch implements store.Store. A call that is under way when stop is called
// still ends; none begins after that.
func (s *Store) Watch(name store.Log, fn func(next uint64)) (stop func()) {
	w := &watcher{fn}
	s.mu.Lock()
	l := s.logOf(name)
	l.watchers = append(slices.Clone(l.watchers), w)
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.watchers = slices.DeleteFunc(slices.Clone(l.watchers), func(o *watcher) bool { return o == w })
	}
}

// tell runs the watchers of the logs that grew.
func (s *Store) tell(g *group, buf [][]*watcher) [][]*watcher {
	s.mu.Lock()
	for _, grew := range g.grown {
		buf = append(buf, grew.log.watchers)
	}
	s.mu.Unlock()
	for i, ws := range buf {
		for _, w := range ws {
			w.fn(g.grown[i].next)
		}
	}
	clear(buf)
	return buf[:0]
}
