package router

import (
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/stage"
)

const (
	// penalty is how long the events of a device take the detour after one of them took more
	// than a trial. It doubles with each one that missed its deadline or burnt its fuel, up to
	// penaltyMax.
	penalty    = 10 * time.Second
	penaltyMax = 10 * time.Minute
	// detoursMax bounds the devices that are remembered without an event of theirs under way.
	detoursMax = 4096
	// restAfter is from how long a handler's run on the detour is followed by a rest, so that
	// long handlers leave the processors to others. The rest is restTimes as long as the run: a
	// device hears of its fault after several runs and rests, so they must not be much longer.
	restAfter = 10 * time.Millisecond
	restTimes = 4
	restMax   = 5 * time.Second
)

// detours are the devices whose handlers run too long. One extra worker handles their events,
// so that they wait for each other and hold up no other device. An event takes the detour as
// long as an earlier event of its device is on it, which keeps their order. It is safe for
// concurrent use.
type detours struct {
	some atomic.Int64 // devices; 0: takes need not look

	mu      sync.Mutex
	devices map[deviceKey]*detour
}

// detour is that of one device.
type detour struct {
	pending int // events on it
	faults  int
	until   time.Time // of the penalty
}

// takes says whether an event of a device has to take the detour, and counts it there if so.
func (d *detours) takes(k deviceKey, now time.Time) bool {
	if d.some.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.devices[k]
	switch {
	case x == nil:
		return false
	case x.pending == 0 && !x.until.After(now):
		d.remove(k)
		return false
	}
	x.pending++
	return true
}

// long says in which way an event's handler ran too long.
type long uint8

const (
	longNo    long = iota
	longTrial      // more than a trial, which is no fault
	longFault      // it missed its deadline or burnt its fuel
)

// begin begins or prolongs a detour; events says how many are on it in addition.
func (d *detours) begin(k deviceKey, events int, why long, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.devices[k]
	if x == nil {
		if d.devices == nil {
			d.devices = map[deviceKey]*detour{}
		}
		if len(d.devices) >= detoursMax {
			d.forget(now)
		}
		x = &detour{}
		d.devices[k] = x
		d.some.Add(1)
	}
	x.pending += events
	if until := now.Add(min(penalty<<min(x.faults, 10), penaltyMax)); until.After(x.until) {
		x.until = until
	}
	if why == longFault {
		x.faults++
	}
}

// done counts an event that is over.
func (d *detours) done(k deviceKey, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.devices[k]
	if x == nil {
		return
	}
	if x.pending--; x.pending == 0 && !x.until.After(now) {
		d.remove(k)
	}
}

// forget drops devices that have no event under way. The caller holds mu.
func (d *detours) forget(now time.Time) {
	for k, x := range d.devices {
		if x.pending == 0 && (!x.until.After(now) || len(d.devices) >= detoursMax) {
			d.remove(k)
		}
	}
}

func (d *detours) remove(k deviceKey) {
	delete(d.devices, k)
	d.some.Add(-1)
}

// divert hands an event to the worker of the detours. It has room for all that may wait for
// retries; if there is none all the same, the shard waits, since an event that stayed would
// overtake those of its device that went.
func (s *shard) divert(j *job) {
	j.origin = s
	s.waiting.add(j.key, 1) // the device's share of what waits, as for retries
	s.r.metrics.diverted.Add(1)
	select {
	case s.r.detour.in <- j:
	case <-s.stop:
		s.r.finish(j, stage.Outcome{Unavailable: true, Reason: "the gateway is stopping"})
	}
}

// arrive takes an event on the detour.
func (s *shard) arrive(j *job) {
	if wait := time.Until(j.notBefore); wait > 0 && s.parked[j.key] == nil {
		s.park(j, wait)
		return
	}
	s.take(j)
}

// over notes that an event on the detour is done with.
func (s *shard) over(j *job) {
	if j.origin != nil {
		j.origin.waiting.add(j.key, -1)
		s.r.detours.done(j.key, time.Now())
	}
}

// rest is the pause after a run that began then.
func (s *shard) rest(begin time.Time) {
	took := time.Since(begin)
	if s.r.detour != s || took < restAfter {
		return
	}
	timer := time.NewTimer(min(restTimes*took, restMax))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.stop:
	}
}
