package router

import (
	"fmt"
	"slices"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
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

// put and delete add a write to the batch and return by how much it changes the
// size of the state. Of several writes to a key the last one counts.
func (r *stateReader) put(e *event.Put, now time.Time) (grown int64, err error) {
	old, err := r.replace(e.Key)
	if err != nil {
		return 0, err
	}
	put := store.Put{Key: r.key(e.Key), Value: e.Value}
	if e.TTL > 0 {
		put.Expires = now.Add(e.TTL)
	}
	r.s.batch.Puts = append(r.s.batch.Puts, put)
	return stateSize(e.Key, e.Value) - old, nil
}

func (r *stateReader) delete(key string) (grown int64, err error) {
	old, err := r.replace(key)
	r.s.batch.Deletes = append(r.s.batch.Deletes, r.key(key))
	return -old, err
}

// replace takes earlier writes to a key out of the batch and returns its size so far.
func (r *stateReader) replace(name string) (size int64, err error) {
	old, _, err := r.Get(name)
	if err != nil {
		return 0, fmt.Errorf("reading the state key %q before it is written: %w", name, err)
	}
	key := r.key(name)
	r.s.batch.Puts = slices.DeleteFunc(r.s.batch.Puts, func(p store.Put) bool { return p.Key == key })
	r.s.batch.Deletes = slices.DeleteFunc(r.s.batch.Deletes, func(k store.Key) bool { return k == key })
	if old == nil {
		return 0, nil
	}
	return stateSize(name, old), nil
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
