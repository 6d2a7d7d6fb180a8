package plugin

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestGoGuest(t *testing.T) {
	p := load(t, testHost(t, testConfig()), goGuest(t, "modes"), everything())
	for i := range 3 {
		if got := ask(t, p, 0, "echo hello"); got != "hello clean" {
			t.Fatalf("call %d: %q", i, got)
		}
	}
}

// faultCases are the ways in which a guest breaks and what the host says of it.
var faultCases = []struct {
	mode   string
	kinds  string // any of these
	detail string
}{
	{"spin", FaultDeadline, "longer than"},
	{"recurse", FaultStack + FaultMemory + FaultFuel + FaultDeadline, ""},
	{"memory", FaultMemory, "bytes of memory"},
	{"clear", FaultDeadline, ""},
	{"log", FaultDeadline, ""},
	{"print", FaultDeadline, "flood"},
	{"panic out of cheese", FaultTrap + FaultExit, "out of cheese"},
	{"nil", FaultTrap + FaultExit, "nil pointer"},
	{"grow", FaultTrap + FaultExit, "grown"},
	{"exit", FaultExit, "code 3"},
	{"deadlock", FaultTrap + FaultExit, "deadlock"},
	{"garbage", FaultGarbage, "HandleResponse"},
	{"pointer", FaultGarbage, "outside its memory"},
	{"zero", FaultFailed, ""},
	{"output 5000000", FaultOutput, "5000000"},
	{"mark", FaultTrap + FaultExit, "stain"},
}

// TestFaults checks that every fault is reported for what it is, that the next
// event finds the instance as it was at the start, and that the neighbour on
// another shard notices nothing.
func TestFaults(t *testing.T) {
	h := testHost(t, testConfig())
	within := func(deadline time.Duration) (*Plugin, *int) {
		g := everything()
		g.MemoryBytes, g.Deadline = 48<<20, deadline
		return load(t, h, goGuest(t, "modes"), g), new(int)
	}
	slow, slowCount := within(time.Minute)
	quick, quickCount := within(700 * time.Millisecond)
	for _, c := range faultCases {
		t.Run(c.mode, func(t *testing.T) {
			p, neighbour := slow, slowCount
			if c.kinds == FaultDeadline {
				p, neighbour = quick, quickCount
			}
			done := make(chan error, 1)
			go func() {
				_, err := send(p, 0, c.mode)
				done <- err
			}()
			var err error
			for waiting := true; waiting; {
				*neighbour++
				if got, want := ask(t, p, 1, "count"), itoa(*neighbour); got != want {
					t.Fatalf("the neighbour counted %s, want %s", got, want)
				}
				select {
				case err = <-done:
					waiting = false
				default:
				}
			}
			var f *Fault
			if !errors.As(err, &f) {
				t.Fatalf("no fault: %v", err)
			}
			t.Log(f)
			if !strings.Contains(c.kinds, f.Kind) || !strings.Contains(f.Detail, c.detail) || len(f.Detail) > maxDetail {
				t.Errorf("got %s: %s; want %s: %s", f.Kind, f.Detail, c.kinds, c.detail)
			}
			if got := ask(t, p, 0, "echo after"); got != "after clean" {
				t.Errorf("after the fault the instance answers %q", got)
			}
			if got := ask(t, p, 0, "count"); got != "1" {
				t.Errorf("after the fault the instance counts %s, want 1: it was not restored", got)
			}
		})
	}
}
