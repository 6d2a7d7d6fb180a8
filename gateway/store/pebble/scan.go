package pebble

import (
	"fmt"
	"slices"
	"strings"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/store"
)

// Scan implements store.Store.
func (s *Store) Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error {
	return s.ScanRange(store.Prefix(kind, prefix), fn)
}

// ScanRange implements store.Store: in the order of names, as of the time of the call.
func (s *Store) ScanRange(r store.Range, fn func(name string, value []byte, rev store.Revision) bool) error {
	if err := s.readers.enter(); err != nil {
		return err
	}
	defer s.readers.leave()
	fresh, it, err := s.scanned(r)
	if err != nil {
		return fmt.Errorf("scanning keys from %q: %w", r.From, damaged(err))
	}
	defer it.Close()

	now := s.env.now().UnixNano()
	give := func(key string, e entry) bool {
		return e.expired(now) || fn(key[2:], e.data, store.Revision(e.rev))
	}
	ok := it.First()
	for ok || len(fresh) > 0 {
		if ok {
			key := it.Key()
			if len(fresh) == 0 || string(key) < fresh[0].key {
				value, err := it.ValueAndErr()
				if err != nil {
					return fmt.Errorf("scanning keys from %q: %w", r.From, damaged(err))
				}
				e, err := decodeEntry(key, value)
				if err != nil {
					return err
				}
				e.data = slices.Clone(e.data)
				if !give(string(key), e) {
					return nil
				}
				ok = it.Next()
				continue
			}
			if string(key) == fresh[0].key {
				ok = it.Next()
			}
		}
		w := fresh[0]
		fresh = fresh[1:]
		if w.exists && !give(w.key, w.entry) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("scanning keys from %q: %w", r.From, damaged(err))
	}
	return nil
}

type scanEntry struct {
	key    string
	exists bool
	entry
}

// scanned takes, at one moment, the overlay's entries of a range, sorted, and an
// iterator on the others.
func (s *Store) scanned(r store.Range) ([]scanEntry, *pebbledb.Iterator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, err := s.db.NewIter(bounds(r))
	if err != nil {
		return nil, nil, err
	}
	var fresh []scanEntry
	for k, w := range s.overlay {
		if k[1] != byte(r.Kind) || !r.Has(k[2:]) {
			continue
		}
		e := scanEntry{key: k}
		if w.value != nil {
			e.exists = true
			e.entry = undamaged(w.value)
			e.data = slices.Clone(e.data) // its memory goes when the group is durable
		}
		fresh = append(fresh, e)
	}
	slices.SortFunc(fresh, func(a, b scanEntry) int { return strings.Compare(a.key, b.key) })
	return fresh, it, nil
}

// bounds are the keys on disk of a range.
func bounds(r store.Range) *pebbledb.IterOptions {
	upper := []byte{spaceKey, byte(r.Kind) + 1}
	if r.To != "" {
		upper = appendKey(nil, store.Key{Kind: r.Kind, Name: r.To})
	}
	return &pebbledb.IterOptions{LowerBound: appendKey(nil, store.Key{Kind: r.Kind, Name: r.From}), UpperBound: upper}
}

// stamp is a key on disk with what an ExpectRange is about.
type stamp struct {
	key     string
	rev     uint64
	expires int64
}

func (s stamp) expired(now int64) bool { return entry{expires: s.expires}.expired(now) }

// storedRanges reads the expected ranges as pebble has them. Like storedAll's
// revisions they hold, below the overlay, until a group is dropped from it.
func (s *Store) storedRanges(expect []store.ExpectRange) ([][]stamp, error) {
	if len(expect) == 0 {
		return nil, nil
	}
	if err := s.readers.enter(); err != nil {
		return nil, err
	}
	defer s.readers.leave()
	return s.stampedAll(expect)
}

func (s *Store) stampedAll(expect []store.ExpectRange) ([][]stamp, error) {
	all := make([][]stamp, len(expect))
	for i := range expect {
		var err error
		if all[i], err = s.stamped(expect[i].Range); err != nil {
			return nil, fmt.Errorf("reading keys from %q: %w", expect[i].Range.From, damaged(err))
		}
	}
	return all, nil
}

func (s *Store) stamped(r store.Range) (stamps []stamp, err error) {
	it, err := s.db.NewIter(bounds(r))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		e, err := decodeEntry(it.Key(), value)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, stamp{string(it.Key()), e.rev, e.expires})
	}
	return stamps, it.Error()
}

// verifyRanges holds every ExpectRange against the present. Under the lock.
func (s *Store) verifyRanges(expect []store.ExpectRange, stored [][]stamp, dropped uint64) (err error) {
	if len(expect) == 0 {
		return nil
	}
	if dropped != s.dropped.Load() {
		if stored, err = s.stampedAll(expect); err != nil {
			return err
		}
	}
	now := s.env.now().UnixNano()
	for i := range expect {
		if !s.rangeHolds(&expect[i], stored[i], now) {
			s.stats.conflicts.Add(1)
			return store.ErrConflict
		}
	}
	return nil
}

func (s *Store) rangeHolds(x *store.ExpectRange, stored []stamp, now int64) bool {
	present := slices.DeleteFunc(stored, func(e stamp) bool {
		_, newer := s.overlay[e.key]
		return newer || e.expired(now)
	})
	for k, w := range s.overlay {
		if w.value == nil || k[1] != byte(x.Range.Kind) || !x.Range.Has(k[2:]) {
			continue
		}
		if e := undamaged(w.value); !e.expired(now) {
			present = append(present, stamp{k, e.rev, e.expires})
		}
	}
	slices.SortFunc(present, func(a, b stamp) int { return strings.Compare(a.key, b.key) })
	return slices.EqualFunc(present, x.Keys, func(e stamp, want store.Found) bool {
		return e.key[2:] == want.Name && store.Revision(e.rev) == want.Revision
	})
}
