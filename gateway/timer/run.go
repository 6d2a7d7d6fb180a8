package timer

import (
	"container/heap"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"tributary.io/gateway/metric"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// firing is a timer on its way to its plugin.
type firing struct {
	due    string // its due key
	lane   *lane
	owner  string
	plugin string
	at     time.Time
	in     *event.Inbound
	batch  *store.Batch // what it stands for
}

// longest bounds a wait, so that a clock that was set is noticed.
const longest = 10 * time.Second

// Run fires timers until ctx ends, late ones at once. An error says that the
// store cannot be read.
func (t *Timers) Run(ctx context.Context) error {
	var lanes sync.WaitGroup
	for _, lane := range t.lanes {
		lanes.Go(func() { t.serve(ctx, lane) })
	}
	defer lanes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := t.turn()
		if err != nil {
			return fmt.Errorf("reading timers: %w", err)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// turn hands what is due to the lanes and returns how long there is nothing to do.
func (t *Timers) turn() (time.Duration, error) {
	for {
		if err := t.catchUp(); err != nil {
			return 0, err
		}
		now := time.Now()
		t.mu.Lock()
		empty, more := len(t.next) == 0, t.horizon != ""
		wait := longest
		if !empty {
			wait = min(wait, time.Unix(0, t.next[0].at()).Sub(now))
		}
		if t.behind >= maxBehind {
			t.mu.Unlock()
			return longest, nil // an answer wakes it
		}
		switch {
		case empty && more:
			t.mu.Unlock()
			if err := t.load(); err != nil {
				return 0, err
			}
		case empty || wait > 0:
			t.mu.Unlock()
			return wait, nil
		default:
			key := heap.Pop(&t.next).(dueName)
			t.held[string(key)] = inHand
			t.mu.Unlock()
			if err := t.fire(string(key), nil); err != nil {
				return 0, err
			}
		}
	}
}

// catchUp fires what waits in the backlogs of lanes that have places again.
func (t *Timers) catchUp() error {
	for _, l := range t.lanes {
		for {
			t.mu.Lock()
			if l.inHand >= maxInHand || len(l.backlog) == 0 {
				t.mu.Unlock()
				break
			}
			due := l.backlog[0]
			if l.backlog = l.backlog[1:]; len(l.backlog) == 0 {
				l.backlog = nil
			}
			t.behind--
			t.mu.Unlock()
			if err := t.fire(due, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// load fills the window with the timers that are due next.
func (t *Timers) load() error {
	t.mu.Lock()
	from := t.horizon
	t.horizon = "" // what is set while the store is read is noted at once
	t.mu.Unlock()
	r := store.Prefix(store.Timer, dueSpace)
	r.From = from
	var found []string
	horizon := ""
	err := t.store.ScanRange(r, func(name string, _ []byte, _ store.Revision) bool {
		if len(found) == window {
			horizon = name
			return false
		}
		if len(name) > dueHeader {
			if _, plugin := stage.Owner(name[dueHeader:]); t.known(plugin) {
				found = append(found, name)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range found {
		t.hold(name)
	}
	if horizon != "" && (t.horizon == "" || horizon < t.horizon) {
		t.horizon = horizon
	}
	t.trim()
	return nil
}

// add notes a timer that was set.
func (t *Timers) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.horizon != "" && name >= t.horizon {
		return
	}
	t.hold(name)
	t.trim()
	if len(t.next) > 0 && string(t.next[0]) == name {
		t.wakeUp()
	}
}

// place is where a due key is held.
type place uint8

const (
	inNext place = 1 + iota
	inHand
	// setAgain is in hand, and set again meanwhile, to the same time: perhaps by the
	// event that it became.
	setAgain
)

func (t *Timers) hold(name string) {
	switch t.held[name] {
	case inHand:
		t.held[name] = setAgain
	case 0:
		t.held[name] = inNext
		heap.Push(&t.next, dueName(name))
	}
}

// release lets go of what was in hand.
func (t *Timers) release(due string) {
	again := t.held[due] == setAgain
	delete(t.held, due)
	if again {
		t.hold(due)
	}
}

// trim leaves the latest half on disk when the window is full.
func (t *Timers) trim() {
	if len(t.next) <= 2*window {
		return
	}
	keep := make(earliest, 0, 2*window)
	for range window {
		keep = append(keep, heap.Pop(&t.next).(dueName))
	}
	t.horizon = string(t.next[0])
	for _, name := range t.next {
		delete(t.held, string(name))
	}
	t.next = keep // in order, which makes it a heap
}

func (t *Timers) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// fire reads a timer that is due and hands it to its lane, or puts it behind those
// that wait for the lane. from is the lane whose backlog it comes from; nil: it is new.
func (t *Timers) fire(due string, from *lane) error {
	name := due[dueHeader:]
	key := nameKey(name)
	value, rev, err := t.store.Get(key)
	if err != nil {
		return err
	}
	if len(value) < 8 || string(value[:8]) != due[len(dueSpace):dueHeader] {
		t.forget(due) // cancelled, or set to another time
		return nil
	}
	f := &firing{due: due, at: time.Unix(0, int64(binary.BigEndian.Uint64(value))), in: &event.Inbound{}}
	f.owner, f.plugin = stage.Owner(name)
	if err := codec.ParseEvent(value[8:], &f.in.Event); err != nil {
		t.log.Error("a timer in the store cannot be read", "plugin", f.plugin, "error", err)
		t.dropped.Add(1)
		t.forget(due)
		return nil
	}
	e := &f.in.Event
	e.ID = "timer-" + strconv.FormatUint(uint64(rev), 36) // the same when it is fired again after a crash
	e.Extensions = append(e.Extensions, event.Attribute{Name: "scheduledtime", Kind: event.Timestamp,
		Value: f.at.UTC().Format(time.RFC3339Nano)})
	f.batch = &store.Batch{Expect: []store.Expect{{Key: key, Revision: rev}}, Deletes: []store.Key{key, {Kind: store.Timer, Name: due}}}
	f.lane = t.lanes[t.router.Lane(f.in)]
	t.mu.Lock()
	if f.lane != from && (f.lane.inHand >= maxInHand || len(f.lane.backlog) > 0) {
		f.lane.backlog = append(f.lane.backlog, due)
		t.behind++
		t.mu.Unlock()
		return nil
	}
	f.lane.inHand++
	t.mu.Unlock()
	f.lane.in <- f
	return nil
}

// forget lets go of a timer that was in hand.
func (t *Timers) forget(due string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(due)
}

// serve submits the timers of one lane, one after the other.
func (t *Timers) serve(ctx context.Context, l *lane) {
	places := make(chan struct{}, perLane)
	for {
		select {
		case <-ctx.Done():
			return
		case places <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return
		case f := <-l.in:
			now := time.Now()
			f.in.Event.Time = now.UTC()
			t.late.Observe(max(0, now.Sub(f.at)))
			t.router.SubmitDue(f.plugin, f.in, f.batch, func(o stage.Outcome) {
				t.settle(f, o)
				<-places
			})
		}
	}
}

// settle ends the handling of a timer. If its event could not be stored, the timer fires again
// after the next start.
func (t *Timers) settle(f *firing, o stage.Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(f.due)
	f.lane.inHand--
	if !o.Unavailable && !o.Overtaken {
		t.pending.Add(f.owner, -1)
		t.fired.Add(1)
	}
	t.wakeUp()
}

// dueName is a due key; earliest is a heap of them.
type dueName string

func (d dueName) at() int64 {
	return int64(binary.BigEndian.Uint64([]byte(d[len(dueSpace):dueHeader])))
}

type earliest []dueName

func (h earliest) Len() int           { return len(h) }
func (h earliest) Less(i, j int) bool { return strings.Compare(string(h[i]), string(h[j])) < 0 }
func (h earliest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *earliest) Push(x any)        { *h = append(*h, x.(dueName)) }
func (h *earliest) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// Metrics returns the counters of timers.
func (t *Timers) Metrics() []metric.Sample {
	t.mu.Lock()
	pending := 0
	for _, n := range t.pending {
		pending += n
	}
	t.mu.Unlock()
	var set metric.Set
	set.Gauge("tributary_timers_pending", "Timers of plugins that have not fired.", float64(pending))
	set.Counter("tributary_timers_fired_total", "Timers whose event was handled.", t.fired.Load())
	set.Counter("tributary_timers_unreadable_total", "Timers that could not be read and stay in the store.", t.dropped.Load())
	set.Histogram("tributary_timers_late_seconds", "How late the events of timers were submitted.", &t.late)
	return set
}
