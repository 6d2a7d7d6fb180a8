package meter

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
)

var endless = []string{
	"spin", "spin_calls", "spin_in_scope", "spin_machine", "tree", "fill", "copy", "copy_small",
	"table_fill", "table_copy", "chase", "divide", "grow_forever",
}

// TestFuelIsSpent wants each endless guest to stop with the fuel spent, at the same place each time.
func TestFuelIsSpent(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	m := rewrite(t, testModules(t)["stop"], Options{MaxMemoryPages: 256})
	for _, name := range append([]string{"recurse", "indirect"}, endless...) {
		t.Run(name, func(t *testing.T) {
			var left, calls [2]uint64
			for k := range 2 {
				g := instantiate(t, r, nil, m)
				g.refuel(3_000_000)
				if name == "recurse" || name == "indirect" {
					g.refuel(300_000) // before the stack is full
				}
				if _, err := g.call(name); err == nil || !strings.HasPrefix(err.Error(), "wasm error: unreachable") {
					t.Fatalf("want a trap by the meter, got %v", err)
				}
				if g.stop.Get() != StopFuel || g.left() >= 0 {
					t.Fatalf("stop is %d with %d units left", g.stop.Get(), g.left())
				}
				left[k] = uint64(g.left())
				// It stays stopped until it gets new fuel.
				if _, err := g.call("count"); err == nil || g.stop.Get() != StopFuel {
					t.Error("the guest ran without fuel")
				}
				g.refuel(1000)
				got, err := g.call("count")
				if err != nil || g.stop.Get() != StopNone {
					t.Fatalf("with new fuel: %v, stop %d", err, g.stop.Get())
				}
				calls[k] = got[0]
			}
			if left[0] != left[1] || calls != [2]uint64{1, 1} {
				t.Errorf("two runs differ: left %d, calls %d", left, calls)
			}
		})
	}
}

func TestOwnTrapIsNotTheMeters(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	g := instantiate(t, r, nil, rewrite(t, testModules(t)["stop"], Options{}))
	g.refuel(1 << 40)
	if _, err := g.call("own_trap"); err == nil || g.stop.Get() != StopNone {
		t.Errorf("own unreachable: %v, stop %d", err, g.stop.Get())
	}
	if _, err := g.call("recurse"); err == nil || !strings.Contains(err.Error(), "stack overflow") || g.stop.Get() != StopNone {
		t.Errorf("stack overflow: %v, stop %d", err, g.stop.Get())
	}
}

// interrupted does something while the guest runs, then raises the interrupt, and returns how long the guest went on.
func interrupted(t testing.TB, g *instance, name string, meanwhile func()) time.Duration {
	t.Helper()
	g.refuel(1 << 62)
	full, ended, raised := g.left(), make(chan struct{}), make(chan time.Time, 1)
	go func() {
		for g.left() == full { // it has not begun
			select {
			case <-ended:
				return
			case <-time.After(time.Millisecond):
			}
		}
		meanwhile()
		now := time.Now()
		g.interrupt.Set(1)
		raised <- now
	}()
	_, err := g.call(name)
	stopped := time.Now()
	close(ended)
	if err == nil || g.stop.Get() != StopInterrupt {
		t.Fatalf("%s: want an interrupt, got %v with stop %d", name, err, g.stop.Get())
	}
	return stopped.Sub(<-raised)
}

// collect collects garbage until done is closed and then sends the longest time that it took.
func collect() (done chan struct{}, longest chan time.Duration) {
	done, longest = make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		for {
			select {
			case <-done:
				longest <- worst
				return
			default:
				start := time.Now()
				runtime.GC()
				worst = max(worst, time.Since(start))
			}
		}
	}()
	return done, longest
}

// TestInterrupt stops every endless guest from outside, after garbage collections that began and
// ended while it ran: one that had to wait for the guest would wait for ever. BenchmarkInterrupt
// has the times.
func TestInterrupt(t *testing.T) {
	collections := func() {
		for range 3 {
			runtime.GC()
		}
	}
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	m := rewrite(t, testModules(t)["stop"], Options{})
	for _, name := range endless {
		t.Run(name, func(t *testing.T) {
			g := instantiate(t, r, nil, m)
			interrupted(t, g, name, collections)
		})
	}
	t.Run("go", func(t *testing.T) {
		interrupted(t, instantiate(t, r, nil, rewrite(t, goGuest(t), guestOptions)), "spin", collections)
	})
}

func TestGoGuestFaults(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	m := rewrite(t, goGuest(t), guestOptions)
	for _, c := range []struct {
		export string
		arg    []uint64
		fuel   uint64
		stop   uint64
	}{
		{"spin", nil, 50_000_000, StopFuel},
		{"recurse", []uint64{1 << 40}, 1 << 40, StopNone}, // Go's own stack limit, or memory
		{"recurse", []uint64{1 << 40}, 2_000_000, StopFuel},
		{"hoard", []uint64{64}, 1 << 40, StopNone}, // out of memory
		{"fail", nil, 1 << 40, StopNone},
	} {
		g := instantiate(t, r, nil, m)
		g.refuel(c.fuel)
		if _, err := g.call(c.export, c.arg...); err == nil || g.stop.Get() != c.stop {
			t.Errorf("%s: %v, stop is %d, want %d", c.export, err, g.stop.Get(), c.stop)
		}
		if pages := g.Memory().Size() >> 16; pages > 160 {
			t.Errorf("%s: memory has %d pages", c.export, pages)
		}
	}
}

// snapshot is what the host keeps, see the package comment.
type snapshot struct {
	memory  []byte
	globals []uint64
}

func (g *instance) snapshot() snapshot {
	view, _ := g.Memory().Read(0, g.Memory().Size())
	s := snapshot{memory: append([]byte(nil), view...)}
	for _, name := range g.meter.Globals {
		s.globals = append(s.globals, g.ExportedGlobal(name).Get())
	}
	return s
}

func (g *instance) restore(s snapshot) error {
	view, _ := g.Memory().Read(0, g.Memory().Size())
	clear(view[copy(view, s.memory):])
	for i, name := range g.meter.Globals {
		global, ok := g.ExportedGlobal(name).(interface{ Set(uint64) })
		if !ok {
			return errors.New(name + " is not mutable")
		}
		global.Set(s.globals[i])
	}
	return nil
}

// TestRestore wants a guest that was restored to be like new, however much memory it took.
func TestRestore(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	g := instantiate(t, r, nil, rewrite(t, testModules(t)["stop"], Options{}))
	s := g.snapshot()
	for range 3 {
		for _, step := range []struct {
			export string
			args   []uint64
			want   []uint64
		}{
			{"count", nil, []uint64{1}},
			{"peek", []uint64{100}, []uint64{0}},
			{"poke", []uint64{100, 7}, nil},
			{"pages", []uint64{1000}, []uint64{1, 1001}},
			{"peek", []uint64{1000 << 16}, []uint64{0}},
			{"poke", []uint64{1000 << 16, 7}, nil},
			{"pages", []uint64{24}, []uint64{0xffffffff, 1001}},
			{"pages", []uint64{23}, []uint64{1001, 1024}},
			{"pages", []uint64{0xffffffff}, []uint64{0xffffffff, 1024}},
		} {
			g.refuel(1 << 20)
			got, err := g.call(step.export, step.args...)
			if err != nil {
				t.Fatal(err)
			}
			for i := range step.want {
				if got[i] != step.want[i] {
					t.Fatalf("%s(%d) = %d, want %d", step.export, step.args, got, step.want)
				}
			}
		}
		g.refuel(1 << 20)
		if _, err := g.call("spin"); err == nil {
			t.Fatal("spin ended")
		}
		if err := g.restore(s); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreGo restores a Go guest after faults many times: it must neither remember nor run out of memory.
func TestRestoreGo(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	g := instantiate(t, r, nil, rewrite(t, goGuest(t), guestOptions))
	s := g.snapshot()
	for i := range 8 {
		g.refuel(1 << 40)
		if _, err := g.call("hoard", 2); err != nil {
			t.Fatalf("round %d: 2 MiB: %v", i, err)
		}
		if n, err := g.call("count"); err != nil || n[0] != 1 {
			t.Fatalf("round %d: count is %d, %v", i, n, err)
		}
		if _, err := g.call([]string{"hoard", "fail"}[i%2], []uint64{64}[i%2:]...); err == nil {
			t.Fatalf("round %d: no fault", i)
		}
		if err := g.restore(s); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTablesAreCapped keeps a guest from taking the host's memory by table.grow.
func TestTablesAreCapped(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	withEnv(t, r, testModules(t))
	g := instantiate(t, r, nil, rewrite(t, testModules(t)["tables"], Options{MaxTableElements: 32}))
	g.refuel(1 << 40)
	for _, c := range [][2]uint64{{9, 0xffffffff}, {8, 24}, {1, 0xffffffff}} {
		if got, err := g.call("grow", c[0]); err != nil || got[0] != c[1] {
			t.Errorf("table.grow(%d) = %d, %v, want %d", c[0], got, err, c[1])
		}
	}
	if _, err := Rewrite(testModules(t)["tables"], Options{MaxTableElements: 10}); err == nil {
		t.Error("a table that starts too large was accepted")
	}
	if _, err := Rewrite(testModules(t)["memory"], Options{MaxMemoryPages: 1}); err == nil {
		t.Error("a memory that starts too large was accepted")
	}
}

// reporter is an allocator as the host's: a request for all 4 GiB is a checkpoint.
type reporter struct {
	memory      []byte
	checkpoints int
	end         int // panic at this one
	last        time.Time
	gaps        []time.Duration // between checkpoints
}

var errReported = errors.New("reported")

func (r *reporter) Reallocate(size uint64) []byte {
	if size == 1<<32 {
		now := time.Now()
		r.gaps = append(r.gaps, now.Sub(r.last))
		r.last = now
		if r.checkpoints++; r.checkpoints == r.end {
			panic(errReported)
		}
		return nil
	}
	r.memory = append(r.memory, make([]byte, size-uint64(len(r.memory)))...)
	return r.memory
}

func (r *reporter) Free() {}

func (r *reporter) context() context.Context {
	return experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(
		func(uint64, uint64) experimental.LinearMemory { return r }))
}

// TestReportCheckpoints wants the host's allocator to hear of each checkpoint, to be able to end the call, and the
// declared maximum of the memory to hold nevertheless.
func TestReportCheckpoints(t *testing.T) {
	r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
	m := rewrite(t, testModules(t)["stop"], Options{Interval: 10_000, MaxMemoryPages: 20, ReportCheckpoints: true})
	host := &reporter{end: -1}
	g := instantiateWith(t, host.context(), r, m.Bytes, m)
	g.refuel(1_000_000)
	if _, err := g.call("spin"); err == nil || g.stop.Get() != StopFuel || host.checkpoints != 100 {
		t.Errorf("%v, stop %d, %d checkpoints", err, g.stop.Get(), host.checkpoints)
	}
	g.refuel(1 << 40)
	host.end = host.checkpoints + 1000
	if _, err := g.call("spin"); !errors.Is(err, errReported) || g.stop.Get() != StopNone {
		t.Errorf("%v, stop %d", err, g.stop.Get())
	}
	for _, c := range [][3]uint64{{20, 0xffffffff, 1}, {19, 1, 20}, {1, 0xffffffff, 20}, {0, 20, 20}} {
		if got, err := g.call("pages", c[0]); err != nil || got[0] != c[1] || got[1] != c[2] {
			t.Errorf("memory.grow(%d) = %d, %v, want %d", c[0], got, err, c[1:])
		}
	}
}
