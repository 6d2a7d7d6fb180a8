package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"

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

// copied returns what Get returns for an entry: never nil data for a key that exists.
func copied(e entry, now int64) ([]byte, store.Revision, error) {
	if e.expired(now) {
		return nil, 0, nil
	}
	return append(make([]byte, 0, len(e.data)), e.data...), store.Revision(e.rev), nil
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
