package router

import (
	"fmt"
	"sync"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// recount is how often a plugin at its quota may have its state counted again:
// keys that expired are still in the running sum.
const recount = time.Second

// quotas knows how much state each plugin keeps per application. The sum is
// counted once and then kept up by what is committed. Shards that write at the
// same moment may exceed a quota by what they write in it.
type quotas struct {
	mu   sync.Mutex
	used map[string]*usage // by the prefix of the keys
}

type usage struct {
	bytes   int64
	counted time.Time
}

// reserve checks that the state under prefix may grow by delta bytes.
func (r *Router) reserve(prefix string, h Handler, delta int64) error {
	if delta <= 0 {
		return nil
	}
	q := &r.quotas
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.used[prefix]
	if u == nil || u.bytes+delta > h.Limits().StateBytes && time.Since(u.counted) > recount {
		var err error
		if u, err = r.count(prefix); err != nil {
			return err
		}
		if q.used == nil {
			q.used = map[string]*usage{}
		}
		q.used[prefix] = u
	}
	if u.bytes+delta > h.Limits().StateBytes {
		return &event.Failure{Code: 0x97, Message: fmt.Sprintf(
			"the plugin %s keeps %d bytes of state in this application and wants %d more; state_bytes of [plugins.%[1]s.grant] is %[4]d",
			h.Name(), u.bytes, delta, h.Limits().StateBytes)}
	}
	return nil
}

// growth is by how much a commit changes the size of a plugin's state.
type growth struct {
	prefix string
	bytes  int64
}

// settle adds what a commit has changed to the sum, if there is one.
func (r *Router) settle(g growth) {
	r.quotas.mu.Lock()
	defer r.quotas.mu.Unlock()
	if u := r.quotas.used[g.prefix]; u != nil {
		u.bytes += g.bytes
	}
}

func (r *Router) count(prefix string) (*usage, error) {
	u := &usage{counted: time.Now()}
	err := r.store.Scan(store.State, prefix, func(name string, value []byte, _ store.Revision) bool {
		u.bytes += stateSize(name[len(prefix):], value)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("counting the state of a plugin: %w", err)
	}
	return u, nil
}

// stateSize is what a key counts for.
func stateSize(key string, value []byte) int64 { return int64(len(key) + len(value)) }
