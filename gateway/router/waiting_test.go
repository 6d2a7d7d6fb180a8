package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// narrow has one shard with a queue of n.
func narrow(n int) Config {
	cfg := quick()
	cfg.Shards, cfg.Queue = 1, n
	return cfg
}

func failing() event.Result {
	return event.Result{Failure: &event.Failure{Retryable: true, Message: "later"}}
}

// However much a device or an application submits whose plugin fails, the others go
// on; and what waited comes in its order.
func TestOthersGoOn(t *testing.T) {
	const events = 200
	cfg := narrow(16)
	cfg.Retries = 1_000_000
	cfg.Routes = []Route{{Application: "*", Plugin: "p"}}
	var mended atomic.Bool
	var mu sync.Mutex
	order := map[string][]string{}
	f := start(t, cfg, &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		e := &in.Event
		if e.Subject == "broken" && !mended.Load() {
			return failing(), nil
		}
		mu.Lock()
		defer mu.Unlock()
		order[e.Device] = append(order[e.Device], string(e.Data))
		return event.Result{}, nil
	}})
	var done sync.WaitGroup
	var submitted atomic.Int64
	for _, device := range []string{"bad-1", "bad-2", "bad-3", "bad-4", "bad-5", "bad-6"} {
		done.Add(events)
		go func() {
			for i := range events {
				f.Submit(publish(device, "broken", fmt.Sprint(i)), nil, func(stage.Outcome) { done.Done() })
				submitted.Add(1)
			}
		}()
	}
	for f.shards[0].waiting.full(deviceKey{"demo", "good"}, 16) == nil { // until they have to wait
		time.Sleep(time.Millisecond)
	}
	other := publish("good", "t", "x")
	other.Event.Application = "other"
	if o := f.do(t, other); o.Code.Refused() {
		t.Errorf("%+v", o)
	}
	if n := submitted.Load(); n > 3*16+6 { // half a queue wait, a queue more may have been under way, twice
		t.Errorf("%d events were taken while none could be handled", n)
	}
	mended.Store(true)
	done.Wait()
	for device, got := range order {
		if !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) || device != "good" &&
			(len(got) != events || got[150] != "150") {
			t.Errorf("%s: %d events, %v", device, len(got), got)
		}
	}
}

// What waited behind a retry does not hold up others until all of it is handled.
func TestRetryLeavesRoom(t *testing.T) {
	const events = 100
	var handled, before atomic.Int64
	var started atomic.Pointer[shard]
	arrived := make(chan struct{})
	cfg := narrow(1024)
	cfg.Retries = 1_000_000
	f := start(t, cfg, &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		s := started.Load()
		switch {
		case in.Event.Device == "good":
			before.Store(handled.Load())
		case s == nil || handled.Load() == 0 && s.waiting.all.Load() < events: // until all the others are behind it
			return failing(), nil
		case handled.Add(1) == 5:
			close(arrived)
			for len(s.in) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		return event.Result{}, nil
	}})
	var done sync.WaitGroup
	done.Add(events)
	for i := range events {
		f.Submit(publish("slow", "t", fmt.Sprint(i)), nil, func(stage.Outcome) { done.Done() })
	}
	started.Store(f.shards[0])
	<-arrived
	f.do(t, publish("good", "t", "x"))
	done.Wait()
	if n := before.Load(); n != retryBurst {
		t.Errorf("%d events of the slow device were handled before, want %d", n, retryBurst)
	}
}

// A stop waits no longer than it is told to, whoever waits for a place.
func TestCloseWhileAPlaceIsAwaited(t *testing.T) {
	for _, queue := range []int{1, 2, 64} {
		t.Run(fmt.Sprint(queue), func(t *testing.T) {
			cfg := narrow(queue)
			cfg.RetryDelay, cfg.RetryDelayMax = time.Hour, time.Hour
			f := start(t, cfg, &handlerFunc{name: "p", fn: func(*event.Inbound, func(string) []byte) (event.Result, error) {
				return failing(),
					nil
			}})
			var done sync.WaitGroup
			done.Add(200)
			go func() {
				for i := range 200 {
					f.Submit(publish(fmt.Sprint("d", i%3), "t", "x"), nil, func(o stage.Outcome) {
						if !o.Unavailable {
							t.Errorf("%+v", o)
						}
						done.Done()
					})
				}
			}()
			for f.shards[0].waiting.all.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			done.Wait()
		})
	}
}
