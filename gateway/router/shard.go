package router

import (
	"container/heap"
	"context"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

// shard is one worker. It alone calls the plugins' instances of its number, so
// no handler of a device runs twice at once and no order is lost.
type shard struct {
	r    *Router
	n    int
	in   chan *job
	stop chan struct{}

	// parked holds, per device, an event that waits for its retry and all later
	// ones of the same device; due orders the devices by the time of the retry.
	parked  map[deviceKey]*parked
	due     dueHeap
	waiting waiting

	// Scratch of the event at hand; the store keeps nothing of it.
	batch  store.Batch
	state  stateReader
	record []byte
}

// parked is a device's queue behind a retry. The first job is the one that failed.
type parked struct {
	key   deviceKey
	jobs  []*job
	at    time.Time
	index int
}

func newShard(r *Router, n int) *shard {
	return &shard{r: r, n: n, in: make(chan *job, r.cfg.Queue), stop: make(chan struct{}), parked: map[deviceKey]*parked{}}
}

func (s *shard) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		in := s.in
		if s.waiting.all.Load() >= int64(waitingQueues*s.r.cfg.Queue) {
			in = nil // bounded: listeners wait until retries succeed or end in quarantine
		}
		if len(s.due) > 0 {
			timer.Reset(time.Until(s.due[0].at))
		}
		select {
		case <-s.stop:
			s.abandon()
			return
		case j := <-in:
			s.accept(j)
		case <-timer.C:
			s.retryDue(time.Now())
			s.acceptSome(in)
		}
	}
}

// acceptSome accepts as many jobs as a device's retry may have had before them.
func (s *shard) acceptSome(in <-chan *job) {
	for range retryBurst {
		select {
		case j := <-in:
			s.accept(j)
		default:
			return
		}
	}
}

// accept takes a new job: to the detour, or behind an earlier one of its device, or at once.
func (s *shard) accept(j *job) {
	switch {
	case s.r.detour == s:
		s.arrive(j)
	case s.parked[j.key] == nil && s.r.detours.takes(j.key, time.Now()):
		s.divert(j)
	default:
		s.take(j)
	}
}

// take handles a job, or queues it behind an earlier one of its device.
func (s *shard) take(j *job) {
	if p := s.parked[j.key]; p != nil {
		p.jobs = append(p.jobs, j)
		s.waiting.add(j.key, 1)
		return
	}
	delay := s.attempt(j)
	switch {
	case delay == 0:
		s.over(j)
	case s.leaves(j, delay):
		s.r.detours.begin(j.key, 1, j.long, time.Now())
		s.divert(j)
	default:
		s.park(j, delay)
	}
}

// attempt handles a job. On the detour it rests afterwards.
func (s *shard) attempt(j *job) (retryIn time.Duration) {
	begin := time.Now()
	j.long = longNo
	retryIn = s.handle(context.Background(), j)
	if j.long != longNo && s.r.detour == s {
		s.r.detours.begin(j.key, 0, j.long, time.Now())
	}
	s.rest(begin)
	return retryIn
}

// leaves says whether a job that has to be tried again does so on the detour.
func (s *shard) leaves(j *job, delay time.Duration) bool {
	if j.long == longNo || s.r.detour == s {
		return false
	}
	j.notBefore = time.Now().Add(delay)
	return true
}

// park has a job wait for its retry, and the later ones of its device behind it.
func (s *shard) park(j *job, delay time.Duration) {
	p := &parked{key: j.key, jobs: []*job{j}, at: time.Now().Add(delay)}
	s.parked[j.key] = p
	s.waiting.add(j.key, 1)
	heap.Push(&s.due, p)
}

// waitingQueues is how many times a queue's size may wait for retries. What is in
// the queue when a device's retry begins can be all of that device, so there have to be
// more.
const waitingQueues = 4

// retryBurst is how many events that waited behind a retry are handled in one go.
const retryBurst = 16

// retryDue handles the devices whose retry is due: each until its queue is empty, its first
// event has to wait again, or retryBurst events were handled.
func (s *shard) retryDue(now time.Time) {
	for len(s.due) > 0 && !s.due[0].at.After(now) {
		p := s.due[0]
		for n := 0; len(p.jobs) > 0; n++ {
			if n == retryBurst {
				p.at = time.Now()
				break
			}
			if delay := s.attempt(p.jobs[0]); delay > 0 {
				p.at = time.Now().Add(delay)
				if s.leaves(p.jobs[0], delay) {
					s.divertAll(p)
				}
				break
			}
			s.over(p.jobs[0])
			p.jobs[0] = nil
			p.jobs = p.jobs[1:]
			s.waiting.add(p.key, -1)
		}
		if len(p.jobs) == 0 {
			heap.Remove(&s.due, p.index)
			delete(s.parked, p.key)
			continue
		}
		heap.Fix(&s.due, p.index)
	}
}

// divertAll hands the events of a device that wait to the detour, in their order.
func (s *shard) divertAll(p *parked) {
	s.r.detours.begin(p.key, len(p.jobs), p.jobs[0].long, time.Now())
	for _, j := range p.jobs {
		s.waiting.add(p.key, -1)
		s.divert(j)
	}
	p.jobs = nil
}

// abandon answers everything that is left; the sources will send it again.
func (s *shard) abandon() {
	stopping := stage.Outcome{Unavailable: true, Reason: "the gateway is stopping"}
	for _, p := range s.parked {
		for _, j := range p.jobs {
			s.r.finish(j, stopping)
		}
	}
	for {
		select {
		case j := <-s.in:
			s.r.finish(j, stopping)
		default:
			return
		}
	}
}

// retryDelay is the wait before the next attempt, doubling from attempt 1.
func (c *Config) retryDelay(attempt int) time.Duration {
	d := c.RetryDelay
	for range attempt - 1 {
		if d >= c.RetryDelayMax/2 {
			return c.RetryDelayMax
		}
		d *= 2
	}
	return min(d, c.RetryDelayMax)
}

// dueHeap orders parked devices by the time of their retry.
type dueHeap []*parked

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *dueHeap) Push(x any)        { p := x.(*parked); p.index = len(*h); *h = append(*h, p) }
func (h *dueHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
