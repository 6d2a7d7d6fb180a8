package plugin

import (
	"errors"
	"runtime"
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
// two shards at once, that is on every processor of a small machine. What the
// machine's other load costs is measured with plain Go code in the place of the
// guests and taken off; the best of several tries counts.
func TestBounds(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("bounds of time are not checked in short mode or under the race detector")
	}
	const deadline, tries = 50 * time.Millisecond, 20
	g := everything()
	g.Deadline, g.MemoryBytes = deadline, 64<<20
	for name, start := range endless(t) {
		t.Run(name, func(t *testing.T) {
			p, data := start(g)
			guest := func(shard int) {
				_, _, err := send(p, shard, data)
				var f *Fault
				if !errors.As(err, &f) {
					t.Errorf("no fault: %v", err)
				}
			}
			guest(1) // starts the second instance
			overrun, stall := time.Hour, time.Hour
			for range tries {
				o, s := measure(guest, deadline)
				co, cs := measure(func(int) { plainGo(deadline) }, deadline)
				overrun, stall = min(overrun, o-co), min(stall, s-cs)
				if overrun <= mayOverrun && stall <= mayStall {
					t.Logf("overrun %v (the machine's part %v), longest GC %v (%v)", o, co, s, cs)
					return
				}
			}
			t.Fatalf("it overran its deadline by %v (bound %v), runtime.GC took %v (bound %v)", overrun, mayOverrun, stall, mayStall)
		})
	}
}

// plainGo does for the time what a guest in an endless loop does.
func plainGo(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
		runtime.Gosched()
	}
}

// measure calls fn on two goroutines and returns how far the longer one overran
// the deadline and how long the longest garbage collection took meanwhile.
func measure(fn func(shard int), deadline time.Duration) (overrun, stall time.Duration) {
	finished := make(chan time.Duration, 2)
	for shard := range 2 {
		go func() {
			start := time.Now()
			fn(shard)
			finished <- time.Since(start)
		}()
	}
	for waiting := 2; waiting > 0; {
		start := time.Now()
		runtime.GC()
		stall = max(stall, time.Since(start))
		select {
		case took := <-finished:
			overrun = max(overrun, took-deadline)
			waiting--
		case <-time.After(time.Millisecond):
		}
	}
	return overrun, stall
}
