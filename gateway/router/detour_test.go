package router

import (
	"slices"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// While the handler of one device runs without an end, for the second time, the others of its
// shard are handled; and its own events keep their order.
func TestAnEndlessHandlerHoldsUpNobodyElse(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, 10)
	var mu sync.Mutex
	attempts := 0
	var order []string
	h := &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		if in.Event.Device == "endless" && string(in.Event.Data) == "1" {
			mu.Lock()
			attempts++
			n := attempts
			mu.Unlock()
			if n == 1 {
				return event.Result{}, &plugin.Fault{Plugin: "p", Kind: plugin.FaultDeadline}
			}
			began <- struct{}{}
			<-release
		}
		mu.Lock()
		order = append(order, in.Event.Device+" "+string(in.Event.Data))
		mu.Unlock()
		return event.Result{}, nil
	}}
	f := start(t, Config{Queue: 64, Shards: 1, Retries: 5, RetryDelay: time.Millisecond, RetryDelayMax: time.Millisecond}, h)
	var all sync.WaitGroup
	submit := func(device, payload string) {
		all.Add(1)
		f.Submit(publish(device, "t", payload), nil, func(o stage.Outcome) {
			if o.Unavailable || o.Code.Refused() {
				t.Errorf("%s %s: %+v", device, payload, o)
			}
			all.Done()
		})
	}
	submit("endless", "1")
	<-began // its second attempt runs, and does not end
	submit("endless", "2")
	others := make(chan struct{})
	for i := range 20 {
		f.Submit(publish("other", "t", "x"), nil, func(stage.Outcome) {
			if i == 19 {
				close(others)
			}
		})
	}
	submit("endless", "3")
	<-others // in vain, if they wait behind it
	close(release)
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	own := slices.DeleteFunc(order, func(s string) bool { return s == "other x" })
	if !slices.Equal(own, []string{"endless 1", "endless 2", "endless 3"}) {
		t.Errorf("its own events: %q", own)
	}
}

// A device takes the detour until its penalty is over and nothing of it is under way.
func TestDetours(t *testing.T) {
	var d detours
	k := deviceKey{"demo", "d"}
	now := time.Unix(1000, 0)
	if d.takes(k, now) {
		t.Error("a device without a fault takes the detour")
	}
	d.begin(k, 1, longFault, now)
	if !d.takes(k, now.Add(penalty/2)) {
		t.Error("it does not take the detour")
	}
	d.done(k, now)
	if !d.takes(k, now.Add(2*penalty)) {
		t.Error("an event overtakes one on the detour")
	}
	d.done(k, now.Add(2*penalty))
	d.done(k, now.Add(2*penalty))
	if d.takes(k, now.Add(2*penalty)) || d.some.Load() != 0 {
		t.Error("it takes the detour for ever")
	}
	for i := range 3 * detoursMax {
		k := deviceKey{"demo", string(rune('a' + i))}
		d.begin(k, 1, longFault, now)
		d.done(k, now)
	}
	if n := len(d.devices); n > detoursMax || int64(n) != d.some.Load() {
		t.Errorf("%d devices are remembered, %d counted", n, d.some.Load())
	}
}

// An event that takes more than a trial is begun anew where nobody waits for it: its shard
// handles others meanwhile, also the first time. It is no fault: one attempt is enough even
// where none is tried again, nothing goes into quarantine, and the order of its device holds.
func TestALongHandlerHoldsUpNobodyElse(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var order []string
	h := &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		if string(in.Event.Data) == "long" {
			close(began)
			<-release
		}
		mu.Lock()
		order = append(order, in.Event.Device+" "+string(in.Event.Data))
		mu.Unlock()
		return event.Result{}, nil
	}, long: func(in *event.Inbound) bool { return string(in.Event.Data) == "long" }}
	f := start(t, Config{Queue: 64, Shards: 1, RetryDelay: time.Hour, RetryDelayMax: time.Hour}, h)
	var all sync.WaitGroup
	submit := func(device, payload string) {
		all.Add(1)
		f.Submit(publish(device, "t", payload), nil, func(o stage.Outcome) {
			if o.Unavailable || o.Code.Refused() {
				t.Errorf("%s %s: %+v", device, payload, o)
			}
			all.Done()
		})
	}
	submit("d", "long")
	<-began
	submit("d", "short")
	other := make(chan struct{})
	f.Submit(publish("other", "t", "x"), nil, func(stage.Outcome) { close(other) })
	<-other // in vain, if it waits behind it
	close(release)
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(order, []string{"other x", "d long", "d short"}) {
		t.Errorf("handled %q", order)
	}
	if n := f.metrics.retried.Load() + f.metrics.quarantined.Load(); n != 0 {
		t.Errorf("%d retries and quarantined events", n)
	}
}
