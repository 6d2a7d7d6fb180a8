package router

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// stateReader reads a plugin's state of one application, including what
// handlers of the same batch have written so far. What it read from the store
// becomes an expectation of the batch: a commit that changes it in between makes
// the handlers run again.
type stateReader struct {
	store  Store
	batch  *store.Batch
	prefix string
}

func statePrefix(application, plugin string) string { return application + "\x00" + plugin + "\x00" }

func (r *stateReader) key(k string) store.Key {
	return store.Key{Kind: store.State, Name: r.prefix + k}
}

// Get implements plugin.StateReader.
func (r *stateReader) Get(k string) ([]byte, error) {
	key := r.key(k)
	if own, written := r.batch.Written(key); written {
		return ownValue(own), nil
	}
	v, rev, err := r.store.Get(key)
	if err == nil {
		r.batch.Expect = append(r.batch.Expect, store.Expect{Key: key, Revision: rev})
	}
	return v, err
}

// ownValue returns the value that the batch itself writes; nil if it deletes the key.
func ownValue(p *store.Put) []byte {
	switch {
	case p == nil:
		return nil
	case p.Value == nil:
		return []byte{}
	}
	return p.Value
}

// Scan implements plugin.StateReader. What was read is the range up to the key
// that fn did not take, or all that has the prefix.
func (r *stateReader) Scan(prefix, after string, fn func(key string, value []byte) bool) error {
	x := store.ExpectRange{Range: store.Prefix(store.State, r.prefix+prefix)}
	if after != "" {
		x.Range.From = max(x.Range.From, r.prefix+after+"\x00")
	}
	own := r.ownWrites(x.Range)
	stopped := false
	give := func(name string, value []byte) bool {
		if !fn(name[len(r.prefix):], value) {
			stopped, x.Range.To = true, name
		}
		return !stopped
	}
	err := r.store.ScanRange(x.Range, func(name string, value []byte, rev store.Revision) bool {
		for len(own) > 0 && own[0].Key.Name < name {
			if own[0].Value != nil && !give(own[0].Key.Name, own[0].Value) {
				return false
			}
			own = own[1:]
		}
		if len(own) > 0 && own[0].Key.Name == name { // the batch writes it: older is of no interest
			x.Keys = append(x.Keys, store.Found{Name: name, Revision: rev})
			return true
		}
		if !give(name, value) {
			return false
		}
		x.Keys = append(x.Keys, store.Found{Name: name, Revision: rev})
		return true
	})
	if err != nil {
		return fmt.Errorf("scanning the state keys %q: %w", prefix, err)
	}
	for i := 0; i < len(own) && !stopped; i++ {
		if own[i].Value != nil {
			give(own[i].Key.Name, own[i].Value)
		}
	}
	for len(x.Keys) > 0 && !x.Range.Has(x.Keys[len(x.Keys)-1].Name) {
		x.Keys = x.Keys[:len(x.Keys)-1]
	}
	r.batch.ExpectRanges = append(r.batch.ExpectRanges, x)
	return nil
}

// put and delete add a write to the batch and return by how much it changes the
// size of the state. Of several writes to a key the last one counts.
func (r *stateReader) put(e *event.Put, now time.Time) (grown int64, err error) {
	old, err := r.size(e.Key)
	if err != nil {
		return 0, err
	}
	put := store.Put{Key: r.key(e.Key), Value: e.Value}
	if e.TTL > 0 {
		put.Expires = now.Add(e.TTL)
	}
	r.batch.Put(put)
	return stateSize(e.Key, e.Value) - old, nil
}

func (r *stateReader) delete(key string) (grown int64, err error) {
	old, err := r.size(key)
	if err != nil {
		return 0, err
	}
	r.batch.Delete(r.key(key))
	return -old, nil
}

// size returns how many bytes a key counts at present. It adds no expectation to the batch: a
// handler that writes a key without reading it overwrites any value.
func (r *stateReader) size(name string) (int64, error) {
	key := r.key(name)
	own, written := r.batch.Written(key)
	value := ownValue(own)
	if !written {
		var err error
		if value, _, err = r.store.Get(key); err != nil {
			return 0, fmt.Errorf("reading the state key %q before it is written: %w", name, err)
		}
	}
	if value == nil {
		return 0, nil
	}
	return stateSize(name, value), nil
}

// ownWrites returns what the batch writes to a range, in order; a nil Value is a
// deletion.
func (r *stateReader) ownWrites(in store.Range) (own []store.Put) {
	for _, p := range r.batch.Puts {
		if p.Key.Kind == in.Kind && in.Has(p.Key.Name) {
			p.Value = ownValue(&p)
			own = append(own, p)
		}
	}
	for _, k := range r.batch.Deletes {
		if k.Kind == in.Kind && in.Has(k.Name) {
			own = append(own, store.Put{Key: k})
		}
	}
	slices.SortFunc(own, func(a, b store.Put) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	return own
}
