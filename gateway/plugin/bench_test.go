package plugin

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// shadowUpdate is vector FL01 of the Fleets contract with what travels beside it.
func shadowUpdate() *event.Inbound {
	in := inbound(`{"state":{"reported":{"temperature":21.5,"targetTemperature":22}},"clientToken":"a","version":3}`)
	in.Event.ID = "0193b2c4-7a51-7cc0-8000-1f2e3d4c5b6a"
	in.Event.Time = testTime
	in.Event.DataContentType = "application/json"
	in.Transport.Topic = "$emqx/things/t1/shadow/update"
	in.Transport.QoS = 1
	in.Transport.Peer = "127.0.0.1:50123"
	return in
}

const reading = `{"celsius":21.5,"target":22,"version":3}`

// BenchmarkHandle is the whole call as the router makes it.
func BenchmarkHandle(b *testing.B) {
	cfg := Default()
	cfg.CacheDir = filepath.Join(shared.dir, "cache")
	p := load(b, testHost(b, cfg), goGuest(b, "fleets"), Grant{Emit: []string{"test.reading"}})
	in := shadowUpdate()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Handle(context.Background(), 0, in, testTime, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandleNothing is the host's own part of a call: the guest does nothing.
func BenchmarkHandleNothing(b *testing.B) {
	p := load(b, testHost(b, testConfig()), watGuest(b, "minimal"), Grant{})
	in := shadowUpdate()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Handle(context.Background(), 0, in, testTime, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHandleLimits compares the call with the same guest without fuel, in
// turns, so that the machine's other load hits both. limits/plain is the promise
// of at most 1.3.
func BenchmarkHandleLimits(b *testing.B) {
	c := newComparison(b)
	const calls = 50
	var limited, plain []time.Duration
	for b.Loop() {
		limited = append(limited, c.round(b, true, calls))
		plain = append(plain, c.round(b, false, calls))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(limited))/calls, "limits-ns/call")
	b.ReportMetric(float64(median(plain))/calls, "plain-ns/call")
	b.ReportMetric(ratio(limited, plain), "limits/plain")
}

// TestLimitsCost holds the promise about the cost of limits, in the best of
// several tries.
func TestLimitsCost(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("times are not compared in short mode or under the race detector")
	}
	c := newComparison(t)
	var got float64
	for range 10 {
		var limited, plain []time.Duration
		for range 60 {
			limited = append(limited, c.round(t, true, 20))
			plain = append(plain, c.round(t, false, 20))
		}
		if got = ratio(limited, plain); got <= 1.3 {
			t.Logf("a call with limits costs %.2f of one without", got)
			return
		}
	}
	t.Errorf("a call with limits costs %.2f of one without, at most 1.3 is promised", got)
}

// comparison is one guest with limits and one without, called in the same way.
type comparison struct {
	limited *instance
	plain   plainGuest
	in      *event.Inbound
}

func newComparison(t testing.TB) *comparison {
	cfg := Default()
	cfg.CacheDir = filepath.Join(shared.dir, "cache")
	h := testHost(t, cfg)
	p := load(t, h, goGuest(t, "fleets"), Grant{Emit: []string{"test.reading"}})
	c := &comparison{limited: p.slots[0].in, plain: newPlainGuest(t, p), in: shadowUpdate()}
	for _, limits := range []bool{true, false} {
		c.round(t, limits, 500)
	}
	return c
}

func (c *comparison) round(t testing.TB, limits bool, calls int) time.Duration {
	start := time.Now()
	for range calls {
		var res event.Result
		var err error
		if limits {
			res, err = c.limited.handleEvent(c.in, testTime, nil, 1<<40)
		} else {
			res, err = c.plain.handleEvent(c.in, testTime)
		}
		if err != nil || string(res.Effects[0].(*event.Emit).Event.Data) != reading {
			t.Fatal(err, res)
		}
	}
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// ratio is the median of the ratios of rounds that were made next to each other.
func ratio(a, b []time.Duration) float64 {
	var r []float64
	for i := range a {
		r = append(r, float64(a[i])/float64(b[i]))
	}
	slices.Sort(r)
	return r[len(r)/2]
}

// plainGuest runs a module as it was built: no fuel, no checkpoints.
type plainGuest struct {
	ctx    context.Context
	mem    api.Memory
	handle api.Function
	buf    requestBuffer
}

func newPlainGuest(t testing.TB, p *Plugin) plainGuest {
	rt := p.host.rt
	compiled, err := rt.CompileModule(context.Background(), goGuest(t, "fleets"))
	if err != nil {
		t.Fatal(err)
	}
	in := &instance{p: p, lin: &linear{}}
	in.begin("", testTime, time.Hour, nil)
	g := plainGuest{ctx: context.WithValue(context.Background(), instanceKey{}, in)}
	mod, err := rt.InstantiateModule(g.ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions(exportInit))
	if err != nil {
		t.Fatal(err)
	}
	g.mem, g.handle = mod.Memory(), mod.ExportedFunction(exportHandle)
	ptr, err := mod.ExportedFunction(exportBuffer).Call(g.ctx, firstBuffer)
	if err != nil {
		t.Fatal(err)
	}
	g.buf = requestBuffer{uint32(ptr[0]), firstBuffer}
	return g
}

func (g *plainGuest) handleEvent(in *event.Inbound, now time.Time) (event.Result, error) {
	view, _ := g.mem.Read(g.buf.ptr, g.buf.cap)
	stack := [1]uint64{uint64(len(codec.AppendRequest(view[:0], in, now, nil)))}
	if err := g.handle.CallWithStack(g.ctx, stack[:]); err != nil {
		return event.Result{}, err
	}
	out, _ := g.mem.Read(uint32(stack[0]>>32), uint32(stack[0]))
	return codec.ParseResponse(append(make([]byte, 0, len(out)), out...))
}

// TestAllocations holds the host to two allocations per call beyond those of
// the parsed result: the copy of the guest's answer and one to spare.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := load(t, testHost(t, testConfig()), goGuest(t, "fleets"), everything())
	in := shadowUpdate()
	call := func() {
		if _, err := p.Handle(context.Background(), 0, in, testTime, nil); err != nil {
			t.Fatal(err)
		}
	}
	call()
	answer := codec.AppendResponse(nil, &event.Result{Effects: []event.Effect{&event.Emit{Event: event.Event{
		Type: "test.reading", Subject: "temperature", DataContentType: "application/json", Data: []byte(reading),
	}}}})
	parse := testing.AllocsPerRun(100, func() {
		if _, err := codec.ParseResponse(answer); err != nil {
			t.Fatal(err)
		}
	})
	whole := testing.AllocsPerRun(100, call)
	t.Logf("%v allocations per call, %v of them for the result", whole, parse)
	if whole-parse > 2 {
		t.Errorf("%v allocations per call, %v of them for the result: more than 2 are the host's", whole, parse)
	}
}

// BenchmarkRestore is what a fault costs beside the call itself.
func BenchmarkRestore(b *testing.B) {
	p := load(b, testHost(b, testConfig()), goGuest(b, "fleets"), everything())
	b.SetBytes(int64(len(p.snapshot.memory)))
	b.ReportAllocs()
	for b.Loop() {
		s := &p.slots[0]
		s.poisoned = true
		if err := p.ready(s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad loads a Go plugin that was never compiled here, and one that was.
func BenchmarkLoad(b *testing.B) {
	wasm := goGuest(b, "fleets")
	for _, cached := range []bool{false, true} {
		b.Run(map[bool]string{false: "cold", true: "cached"}[cached], func(b *testing.B) {
			cfg := testConfig()
			cfg.CacheDir = b.TempDir()
			if err := makePrivate(cfg.CacheDir); err != nil {
				b.Fatal(err)
			}
			if cached {
				loadOnce(b, cfg, wasm)
			}
			for b.Loop() {
				if !cached {
					cfg.CacheDir = b.TempDir()
				}
				loadOnce(b, cfg, wasm)
			}
		})
	}
}

func loadOnce(b *testing.B, cfg Config, wasm []byte) {
	h, err := New(cfg, 2, discard())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := h.Load(context.Background(), "guest", wasm, everything(), nil); err != nil {
		b.Fatal(err)
	}
	if err := h.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStart is a further instance of a plugin that is loaded.
func BenchmarkStart(b *testing.B) {
	p := load(b, testHost(b, testConfig()), goGuest(b, "fleets"), everything())
	b.ReportAllocs()
	for b.Loop() {
		in, err := p.newInstance()
		if err != nil {
			b.Fatal(err)
		}
		in.close()
	}
}
