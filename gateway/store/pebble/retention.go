package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/store"
)

const (
	// slack is the part of a bound by which a log may exceed it before retention
	// cuts again, so that ranges are worth a tombstone.
	slack = 16
	// sweepAtOnce bounds how many expired keys are removed under one lock.
	sweepAtOnce = 64
	sweepMost   = 16384 // and in one round
)

// retention is a log's bounds; zero means none.
type retention struct {
	age   time.Duration
	bytes int64
	now   bool // apply to the byte, without slack
}

// tidyLoop does the work that no caller waits for, once in a while.
func (s *Store) tidyLoop() {
	defer s.loops.Done()
	tick := time.NewTicker(s.env.every)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.fs.frozen:
			s.mu.Lock()
			s.fail(fmt.Errorf("%w: %w", store.ErrFailed, s.fs.failure()))
			s.mu.Unlock()
			return
		case <-tick.C:
			s.note("sweeping expired keys", s.sweep())
			s.note("writing the witness", s.writeWitness())
			s.fs.retry()
		case <-s.kick:
		}
		s.note("applying retention", s.retain())
	}
}

func (s *Store) note(what string, err error) {
	if err != nil {
		s.stats.background.Add(1)
		s.log.Error("store: "+what, "error", err)
	}
}

// Retain implements store.Store.
func (s *Store) Retain(name store.Log, age time.Duration, bytes int64) error {
	if age < 0 || bytes < 0 {
		return fmt.Errorf("retention of log %q: age %v and bytes %d must not be negative", name, age, bytes)
	}
	s.mu.Lock()
	l := s.logOf(name)
	l.keep = retention{age, bytes, true}
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return nil
}

// retain cuts the logs that exceed their bounds.
func (s *Store) retain() error {
	s.mu.Lock()
	var due []span
	now := s.env.now()
	for _, l := range s.logs {
		if (l.keep.age > 0 || l.keep.bytes > 0) && l.first < l.durable {
			due = append(due, span{l, l.first, l.durable})
		}
	}
	s.mu.Unlock()
	for _, p := range due {
		if err := s.retainLog(p, now); err != nil {
			return fmt.Errorf("log %q: %w", p.name, err)
		}
	}
	return nil
}

func (s *Store) retainLog(p span, now time.Time) error {
	s.mu.Lock()
	keep, base := p.keep, p.base
	p.keep.now = false
	s.mu.Unlock()
	last, err := s.record(p.logState, p.next-1)
	if err != nil {
		return err
	}
	cut := p.first
	if size := int64(last.total - base); keep.bytes > 0 && size > keep.bytes &&
		(keep.now || size-keep.bytes >= keep.bytes/slack) {
		over := last.total - uint64(keep.bytes)
		// The first record to stay is the one behind the first that ends at or after over.
		at, err := s.search(p.name, func(r record) bool { return r.total >= over })
		if err != nil {
			return err
		}
		cut = max(cut, at+1)
	}
	if keep.age > 0 {
		oldest, err := s.record(p.logState, p.first)
		if err != nil {
			return err
		}
		until := nanos(now.Add(-keep.age))
		wait := int64(keep.age / slack)
		if keep.now {
			wait = 0
		}
		if oldest.latest < until-wait {
			at, err := s.search(p.name, func(r record) bool { return r.latest >= until })
			if err != nil {
				return err
			}
			cut = max(cut, at)
		}
	}
	if cut == p.first {
		return nil
	}
	end, err := s.record(p.logState, cut-1)
	if err != nil {
		return err
	}
	return s.cut(p.logState, cut, end)
}

// cut removes a log's records before first, of which end is the newest.
func (s *Store) cut(l *logState, first uint64, end record) error {
	from, to := l.key(0), l.key(first)
	floor := logPrefix(spaceFloor, l.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitForRoom(); err != nil {
		return err
	}
	g := s.open
	if err := g.batch.DeleteRange(from, to, nil); err != nil {
		return err
	}
	op := g.batch.SetDeferred(len(floor), floorLen)
	copy(op.Key, floor)
	putHeader(op.Key, op.Value, 0, first, end.total, uint64(end.latest))
	op.Finish()
	s.stats.cutBytes.Add(end.total - l.base)
	l.first, l.base = first, end.total
	s.begin(g)
	return nil
}

// sweep removes expired keys, oldest first.
func (s *Store) sweep() error {
	for range sweepMost / sweepAtOnce {
		more, err := s.sweepSome()
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (s *Store) sweepSome() (more bool, err error) {
	now := s.env.now().UnixNano()
	if now <= 0 {
		return false, nil
	}
	upper := binary.BigEndian.AppendUint64([]byte{spaceExpiry}, uint64(now)+1)
	it, err := s.db.NewIter(&pebbledb.IterOptions{LowerBound: []byte{spaceExpiry}, UpperBound: upper})
	if err != nil {
		return false, damaged(err)
	}
	var due [][]byte
	for ok := it.First(); ok && len(due) < sweepAtOnce; ok = it.Next() {
		due = append(due, append([]byte(nil), it.Key()...))
	}
	if err := it.Close(); err != nil || len(due) == 0 {
		return false, damaged(err)
	}
	return len(due) == sweepAtOnce, s.sweepKeys(due, now)
}

// sweepKeys removes entries of the expiry index, and their keys unless they were
// written again.
func (s *Store) sweepKeys(due [][]byte, now int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitForRoom(); err != nil {
		return err
	}
	g := s.open
	for _, x := range due {
		s.key = append(append(s.key[:0], spaceKey), x[9:]...)
		gone, err := s.expiredNow(s.key, now)
		if err != nil {
			return err
		}
		if gone {
			s.remove(g, s.key)
			s.stats.expired.Add(1)
		}
		if err := g.batch.Delete(x, nil); err != nil {
			return err
		}
	}
	s.begin(g)
	return nil
}

// expiredNow says whether the key exists and has expired. Under the lock.
func (s *Store) expiredNow(key []byte, now int64) (bool, error) {
	if w, ok := s.overlay[string(key)]; ok {
		return w.value != nil && undamaged(w.value).expired(now), nil
	}
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebbledb.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, damaged(err)
	}
	defer closer.Close()
	e, err := decodeEntry(key, value)
	return err == nil && e.expired(now), err
}
