package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/store"
)

// Get implements store.Store.
func (s *Store) Get(k store.Key) ([]byte, store.Revision, error) {
	if err := s.readers.enter(); err != nil {
		return nil, 0, err
	}
	defer s.readers.leave()
	buf := keyBuffers.Get().(*[]byte)
	defer keyBuffers.Put(buf)
	key := appendKey((*buf)[:0], k)
	*buf = key
	now := s.env.now().UnixNano()

	s.mu.Lock()
	if w, ok := s.overlay[string(key)]; ok {
		defer s.mu.Unlock()
		if w.value == nil {
			return nil, 0, nil
		}
		return copied(undamaged(w.value), now)
	}
	s.mu.Unlock()

	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebbledb.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading key %q: %w", k.Name, damaged(err))
	}
	defer closer.Close()
	e, err := decodeEntry(key, value)
	if err != nil {
		return nil, 0, err
	}
	return copied(e, now)
}

// copied is what Get gives for an entry: never nil data for a key that exists.
func copied(e entry, now int64) ([]byte, store.Revision, error) {
	if e.expired(now) {
		return nil, 0, nil
	}
	return append(make([]byte, 0, len(e.data)), e.data...), store.Revision(e.rev), nil
}

// Scan implements store.Store: in the order of names, as of the time of the call.
func (s *Store) Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error {
	if err := s.readers.enter(); err != nil {
		return err
	}
	defer s.readers.leave()
	lower := appendKey(nil, store.Key{Kind: kind, Name: prefix})
	fresh, it, err := s.scanned(lower)
	if err != nil {
		return fmt.Errorf("scanning keys %q: %w", prefix, damaged(err))
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
					return fmt.Errorf("scanning keys %q: %w", prefix, damaged(err))
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
		return fmt.Errorf("scanning keys %q: %w", prefix, damaged(err))
	}
	return nil
}

type scanEntry struct {
	key    string
	exists bool
	entry
}

// scanned takes, at one moment, the overlay's entries with a prefix, sorted, and
// an iterator on the others.
func (s *Store) scanned(prefix []byte) ([]scanEntry, *pebbledb.Iterator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, err := s.db.NewIter(&pebbledb.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return nil, nil, err
	}
	var fresh []scanEntry
	for k, w := range s.overlay {
		if !strings.HasPrefix(k, string(prefix)) {
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

func (s *Store) loadRevision() error {
	key := []byte{spaceRevision}
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebbledb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the newest revision: %w", damaged(err))
	}
	defer closer.Close()
	if !intact(key, value, revisionLen) {
		return fmt.Errorf("%w: the newest revision", store.ErrCorrupt)
	}
	s.rev = number(value, 0)
	s.durable.Store(s.rev)
	return nil
}

func putExpiryKey(dst []byte, expires int64, key []byte) {
	dst[0] = spaceExpiry
	binary.BigEndian.PutUint64(dst[1:], uint64(expires))
	copy(dst[9:], key[1:])
}
