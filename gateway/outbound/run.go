package outbound

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

const (
	// failuresToDoubt is after how many failures in a row a host is tried by one
	// call at a time, with growing waits of at most doubtMax, while its other calls
	// wait.
	failuresToDoubt = 5
	doubtMax        = time.Minute
	// longest bounds a wait, so that a clock that was set is noticed.
	longest = 10 * time.Second
	// One application may have so much of all places: its calls to a host that is slow,
	// or answers that its plugins are slow to handle, leave the others some.
	sharePart, shareOf = 3, 4
)

// host is the state that the calls to one host share.
type host struct {
	waiting  waiting
	active   int
	failures int       // in a row
	until    time.Time // no attempt before, where the host is in doubt
}

func (h *host) failing() bool { return h.failures >= failuresToDoubt }

// places is how many more attempts the host may see now.
func (h *host) places(cfg *Config, now time.Time) int {
	switch {
	case !h.failing():
		return cfg.PerHost - h.active
	case now.Before(h.until):
		return 0
	}
	return 1 - h.active
}

// enqueue adds a call to its host. Under the lock, or before Run.
func (c *Calls) enqueue(x *call) {
	h := c.hosts[x.host]
	if h == nil {
		h = &host{}
		c.hosts[x.host] = h
	}
	heap.Push(&h.waiting, x)
}

func (c *Calls) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run makes calls until ctx ends, which ends those under way; they are made again
// after the next start.
func (c *Calls) Run(ctx context.Context) error {
	var attempts sync.WaitGroup
	defer attempts.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(c.turn(func(x *call) { attempts.Go(func() { c.attempt(ctx, x) }) }))
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// turn starts what may be started and returns how long there is nothing to do.
func (c *Calls) turn(start func(*call)) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	wait := longest
	for name, h := range c.hosts {
		for len(h.waiting) > 0 && c.active < c.cfg.Concurrency {
			next := h.waiting[0]
			if c.busy[next.application()] >= max(1, c.cfg.Concurrency*sharePart/shareOf) {
				break // the end of one of its calls wakes
			}
			if c.expired(next, now) || h.places(&c.cfg, now) > 0 && !next.next.After(now) {
				heap.Pop(&h.waiting)
				h.active++
				c.active++
				c.busy[next.application()]++
				start(next)
				continue
			}
			if h.active == 0 { // else the end of a call wakes
				wait = min(wait, max(next.next.Sub(now), h.until.Sub(now), time.Millisecond))
			} else if next.next.After(now) {
				wait = min(wait, next.next.Sub(now))
			}
			break
		}
		if len(h.waiting) == 0 && h.active == 0 {
			delete(c.hosts, name)
		}
	}
	return wait
}

func (c *Calls) expired(x *call, now time.Time) bool { return now.Sub(x.created) > c.cfg.MaxAge }

// attempt makes a call once and decides what becomes of it.
func (c *Calls) attempt(ctx context.Context, x *call) {
	key := store.Key{Kind: store.Call, Name: x.name}
	value, rev, err := c.store.Get(key)
	if err != nil || value == nil {
		// The store is closing or has failed, or the call was purged.
		c.leave(x, false, 0)
		return
	}
	e, effect, err := parse(value)
	if err != nil {
		c.log.Error("an HTTP call in the store cannot be read and stays there", "plugin", x.plugin, "error", err)
		c.leave(x, false, 0)
		return
	}
	r := response{err: errExpired}
	expired := c.expired(x, time.Now())
	if !expired {
		x.attempts++
		r = c.send(ctx, x, effect)
	}
	if ctx.Err() != nil && r.err != nil {
		c.leave(x, false, 0) // it failed because the gateway stops
		return
	}
	c.note(x, r, expired)
	if r.retry && x.attempts < c.cfg.Attempts {
		c.stats.retries.Add(1)
		delay := max(c.backoff(x.attempts), r.after)
		c.log.Debug("an HTTP call will be made again", "plugin", x.plugin, "host", x.host, "attempt", x.attempts, "in", delay, "reason",
			r.reason())
		c.leave(x, true, delay)
		return
	}
	switch {
	case r.err == nil && !r.retry:
		c.stats.answered.Add(1)
	case r.retry || expired:
		c.stats.givenUp.Add(1)
		c.log.Warn("an HTTP call was given up", "plugin", x.plugin, "host", x.host, "attempts", x.attempts, "reason", r.reason())
	default:
		c.stats.refused.Add(1)
		c.log.Warn("an HTTP call was not made", "plugin", x.plugin, "host", x.host, "reason", r.reason())
	}
	in := r.inbound(e, x.attempts)
	due := &store.Batch{Expect: []store.Expect{{Key: key, Revision: rev}}, Deletes: []store.Key{key}}
	c.router.SubmitDue(x.plugin, in, due, func(o stage.Outcome) { c.settle(x, o) })
	c.leave(x, false, 0)
}

// note remembers how the host fares.
func (c *Calls) note(x *call, r response, expired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[x.host]
	switch {
	case h == nil || expired:
	case !r.down:
		h.failures = 0
	default:
		h.failures++
		if over := h.failures - failuresToDoubt; over >= 0 {
			h.until = time.Now().Add(jitter(min(c.cfg.Backoff<<min(over, 16), doubtMax)))
		}
	}
}

// leave gives back a call's place; again queues it for another attempt.
func (c *Calls) leave(x *call, again bool, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	if c.busy[x.application()]--; c.busy[x.application()] == 0 {
		delete(c.busy, x.application())
	}
	if h := c.hosts[x.host]; h != nil {
		h.active--
	}
	if again {
		x.next = time.Now().Add(delay)
		c.enqueue(x)
	}
	c.wakeUp()
}

// settle counts a call whose answer was handled. If the answer could not be stored, the call is
// made again after the next start.
func (c *Calls) settle(x *call, o stage.Outcome) {
	if o.Unavailable || o.Overtaken {
		return
	}
	owner, _ := stage.Owner(x.name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending.Add(owner, -1)
}

// backoff is the wait after the given number of attempts.
func (c *Calls) backoff(attempts int) time.Duration {
	d := c.cfg.Backoff
	for range attempts - 1 {
		if d >= c.cfg.BackoffMax/2 {
			d = c.cfg.BackoffMax
			break
		}
		d *= 2
	}
	return jitter(min(d, c.cfg.BackoffMax))
}

// jitter shortens a wait by up to half, so that calls that failed together do not
// come back together.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/2+1) }

// waiting is a heap of calls by the time of their next attempt.
type waiting []*call

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].next.Before(w[j].next) }
func (w waiting) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(x any)        { *w = append(*w, x.(*call)) }
func (w *waiting) Pop() any {
	old := *w
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	return last
}
