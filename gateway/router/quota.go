package router

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// A plugin's state is counted again when the sum would exceed its quota, since keys
// that expired are still in it, but then only after some time, of which the counting
// takes a small part; and at times anyway, since shards that delete a key at the same
// moment both subtract it.
const (
	recount      = time.Second
	recountShare = 20 // times as long as it took
	recountAlso  = 10 * time.Minute
)

// quotas knows how much state each plugin keeps per application. The sum is
// counted once and then kept up by what is committed. Shards that write at the
// same moment may exceed a quota by what they write in it.
type quotas struct {
	mu   sync.Mutex
	used map[string]*usage // by the prefix of the keys
}

// usage is the sum of one plugin in one application. Those of others do not wait
// while it is counted.
type usage struct {
	bytes    atomic.Int64
	counting sync.Mutex   // held while the state is counted
	again    atomic.Int64 // from when it is worth while at the quota, Unix ns
	anyway   atomic.Int64 // when it is counted again, also if the sum says that there is room; 0: never so far

	refreshing atomic.Bool // a count that the sum did not ask for is under way
}

func (q *quotas) of(prefix string) *usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.used[prefix]
	if u == nil {
		if q.used == nil {
			q.used = map[string]*usage{}
		}
		u = &usage{}
		q.used[prefix] = u
	}
	return u
}

// reserve checks that the state under prefix may grow by delta bytes.
func (r *Router) reserve(prefix string, h Handler, delta int64) error {
	if delta <= 0 {
		return nil
	}
	u, most := r.quotas.of(prefix), h.Limits().StateBytes
	due := func() bool {
		return u.anyway.Load() == 0 || u.bytes.Load()+delta > most && time.Now().UnixNano() > u.again.Load()
	}
	stale := func() bool { return time.Now().UnixNano() > u.anyway.Load() }
	switch {
	case due():
		if err := r.count(prefix, u, due); err != nil {
			return err
		}
	case stale() && u.refreshing.CompareAndSwap(false, true): // the shard need not wait for it
		r.workers.Go(func() {
			defer u.refreshing.Store(false)
			if err := r.count(prefix, u, stale); err != nil {
				r.log.Warn("the state of a plugin could not be counted again", "error", err)
			}
		})
	}
	if has := u.bytes.Load(); has+delta > most {
		return &event.Failure{Code: event.QuotaExceeded, Message: fmt.Sprintf(
			"the plugin %s keeps %d bytes of state in this application and wants %d more; state_bytes of [plugins.%[1]s.grant] is %[4]d",
			h.Name(), has, delta, most)}
	}
	return nil
}

// growth is by how much a commit changes the size of a plugin's state.
type growth struct {
	prefix string
	bytes  int64
}

// settle adds what a commit has changed to the sum.
func (r *Router) settle(g growth) { r.quotas.of(g.prefix).bytes.Add(g.bytes) }

// count counts the state again, unless another shard did so meanwhile. What is
// settled during it may be counted twice.
func (r *Router) count(prefix string, u *usage, due func() bool) error {
	u.counting.Lock()
	defer u.counting.Unlock()
	if !due() {
		return nil
	}
	begin, before, sum := time.Now(), u.bytes.Load(), int64(0)
	err := r.store.Scan(store.State, prefix, func(name string, value []byte, _ store.Revision) bool {
		sum += stateSize(name[len(prefix):], value)
		return true
	})
	if err != nil {
		return fmt.Errorf("counting the state of a plugin: %w", err)
	}
	u.bytes.Add(sum - before)
	now := time.Now()
	u.again.Store(now.Add(max(recount, recountShare*now.Sub(begin))).UnixNano())
	u.anyway.Store(now.Add(recountAlso).UnixNano())
	return nil
}

// stateSize returns how many bytes a key and its value count.
func stateSize(key string, value []byte) int64 { return int64(len(key) + len(value)) }
