package plugin

import (
	"errors"
	"runtime"
	runtimemetrics "runtime/metrics"
	"testing"
	"time"
)

// endless are the guests that never return by themselves.
func endless(t testing.TB) map[string]func(Grant) (*Plugin, string) {
	h := testHost(t, testConfig())
	cases := map[string]func(Grant) (*Plugin, string){}
	for _, mode := range []string{"spin", "recurse", "memory", "clear", "log", "print"} {
		cases[mode] = func(g Grant) (*Plugin, string) { return load(t, h, goGuest(t, "modes"), g), mode }
	}
	for _, name := range []string{"recurse", "fill", "copy", "grow"} {
		cases["wat "+name] = func(g Grant) (*Plugin, string) { return load(t, h, watGuest(t, name), g), "" }
	}
	return cases
}

// The bounds that the gateway promises.
const (
	mayOverrun = 10 * time.Millisecond // beyond the deadline
	mayStall   = 20 * time.Millisecond // runtime.GC() because of a guest
)

// TestBounds checks the promises against every endless guest while it runs on
// two shards at once, that is on every processor of a small machine, and garbage
// is collected all the time. What a collection waits for is measured by Go's
// runtime: from its wish to stop the goroutines until the last one has stopped.
// The best of several tries counts, since the machine has other load.
func TestBounds(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("bounds of time are not checked in short mode or under the race detector")
	}
	const deadline, tries = 50 * time.Millisecond, 10
	g := everything()
	g.Deadline, g.MemoryBytes = deadline, 64<<20
	for name, start := range endless(t) {
		t.Run(name, func(t *testing.T) {
			p, data := start(g)
			guest := func(shard int) {
				_, err := send(p, shard, data)
				var f *Fault
				if !errors.As(err, &f) {
					t.Errorf("no fault: %v", err)
				}
			}
			guest(1) // starts the second instance
			overrun, stall := time.Hour, time.Hour
			for range tries {
				o, s := measure(guest, deadline)
				overrun, stall = min(overrun, o), min(stall, s)
				if overrun <= mayOverrun && stall <= mayStall {
					t.Logf("overrun %v, longest wait of the garbage collector %v", o, s)
					return
				}
			}
			t.Fatalf("it overran its deadline by %v (bound %v), the garbage collector waited %v (bound %v)", overrun, mayOverrun, stall, mayStall)
		})
	}
}

// measure calls fn on two goroutines and returns how far the longer one overran
// the deadline and the longest time that a garbage collection waited meanwhile.
func measure(fn func(shard int), deadline time.Duration) (overrun, stall time.Duration) {
	finished := make(chan time.Duration, 2)
	before := stops()
	for shard := range 2 {
		go func() {
			start := time.Now()
			fn(shard)
			finished <- time.Since(start)
		}()
	}
	for waiting := 2; waiting > 0; {
		runtime.GC()
		select {
		case took := <-finished:
			overrun = max(overrun, took-deadline)
			waiting--
		case <-time.After(time.Millisecond):
		}
	}
	after := stops()
	for i, n := range after.Counts {
		if n > before.Counts[i] {
			stall = time.Duration(after.Buckets[i+1] * float64(time.Second)) // the bucket's upper bound
		}
	}
	return overrun, stall
}

// stops is how long the garbage collector's stops took to stop all goroutines.
func stops() *runtimemetrics.Float64Histogram {
	s := []runtimemetrics.Sample{{Name: "/sched/pauses/stopping/gc:seconds"}}
	runtimemetrics.Read(s)
	return s[0].Value.Float64Histogram()
}
