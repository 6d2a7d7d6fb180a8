package router

import (
	"slices"

	"tributary.io/gateway/store"
)

// ownWrite marks a read of a value that the same batch writes: it has no
// revision yet and needs no check.
const ownWrite = ^uint64(0)

// stateReader reads a plugin's state of one application, including what
// handlers of the same batch have written so far.
type stateReader struct {
	s      *shard
	prefix string
}

func statePrefix(application, plugin string) string { return application + "\x00" + plugin + "\x00" }

func (r *stateReader) key(k string) store.Key {
	return store.Key{Kind: store.State, Name: r.prefix + k}
}

// Get returns a key's value and revision; an absent key has revision 0.
func (r *stateReader) Get(k string) ([]byte, uint64, error) {
	key := r.key(k)
	if slices.Contains(r.s.batch.Deletes, key) {
		return nil, ownWrite, nil
	}
	for i := len(r.s.batch.Puts) - 1; i >= 0; i-- {
		if r.s.batch.Puts[i].Key == key {
			return r.s.batch.Puts[i].Value, ownWrite, nil
		}
	}
	v, rev, err := r.s.r.store.Get(key)
	return v, uint64(rev), err
}
