package meter

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

func BenchmarkRewrite(b *testing.B) {
	module := jsonGuest(b)
	b.SetBytes(int64(len(module)))
	b.ReportAllocs()
	for b.Loop() {
		rewrite(b, module, Options{})
	}
}

// BenchmarkRatio runs the same guest with and without the meter in turn and reports the ratio of
// the median times and of the fast ones; interleaving keeps a busy machine out of the ratio.
func BenchmarkRatio(b *testing.B) {
	for _, c := range []struct {
		module func(testing.TB) []byte
		guest  string
		export string
		arg    uint64
	}{
		{jsonGuest, "go", "decode", 2},
		{goGuest, "go", "scan", 200},
		{goGuest, "go", "sieve", 10_000},
		{goGuest, "go", "recurse", 1000},
		{cGuest, "c", "hash", 50_000},
		{cGuest, "c", "xorshift", 50_000},
		{cGuest, "c", "sieve", 16_000},
		{cGuest, "c", "fib", 20},
		{cGuest, "c", "saxpy", 50},
	} {
		b.Run(fmt.Sprintf("%s/%s", c.guest, c.export), func(b *testing.B) {
			module := c.module(b)
			r := newRuntime(b, wazero.NewRuntimeConfigCompiler())
			plain := instantiate(b, r, module, nil)
			metered := instantiate(b, r, nil, rewrite(b, module, Options{}))
			var times [2][]time.Duration
			for b.Loop() {
				for k, g := range []*instance{plain, metered} {
					g.refuel(1 << 40)
					start := time.Now()
					if _, err := g.call(c.export, c.arg); err != nil {
						b.Fatal(err)
					}
					times[k] = append(times[k], time.Since(start))
				}
			}
			median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2]) }
			p, m := median(times[0]), median(times[1])
			b.ReportMetric(p, "plain-ns")
			b.ReportMetric(m, "metered-ns")
			b.ReportMetric(m/p, "ratio")
			b.ReportMetric(float64(times[1][len(times[1])/10])/float64(times[0][len(times[0])/10]), "ratio-p10")
			b.ReportMetric(float64(1<<40-metered.left()), "fuel")
		})
	}
}

// BenchmarkInterrupt raises the interrupt 200 ms into an endless guest, while another goroutine
// collects garbage all the time. It reports how long the guest went on, and the longest collection.
func BenchmarkInterrupt(b *testing.B) {
	r := newRuntime(b, wazero.NewRuntimeConfigCompiler())
	stop, err := Rewrite(testModules(b)["stop"], Options{})
	if err != nil {
		b.Fatal(err)
	}
	guest := rewrite(b, goGuest(b), Options{})
	run := func(name, export string, m *Module) {
		b.Run(name, func(b *testing.B) {
			g := instantiate(b, r, nil, m)
			var late, longest time.Duration
			for b.Loop() {
				done, worst := collect()
				late = max(late, interrupted(b, g, export, func() { time.Sleep(200 * time.Millisecond) }))
				close(done)
				longest = max(longest, <-worst)
			}
			b.ReportMetric(float64(late.Microseconds()), "late-µs")
			b.ReportMetric(float64(longest.Microseconds()), "gc-µs")
		})
	}
	b.Run("no-guest", func(b *testing.B) { // what the machine and Go's own loops cost
		var longest time.Duration
		for b.Loop() {
			done, worst := collect()
			for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
			}
			close(done)
			longest = max(longest, <-worst)
		}
		b.ReportMetric(float64(longest.Microseconds()), "gc-µs")
	})
	for _, export := range endless {
		run(export, export, stop)
	}
	run("go", "spin", guest)
}

// BenchmarkGap reports the time from one checkpoint to the next, of which a garbage collection
// waits for one at most.
func BenchmarkGap(b *testing.B) {
	r := newRuntime(b, wazero.NewRuntimeConfigCompiler())
	stop, err := Rewrite(testModules(b)["stop"], Options{ReportCheckpoints: true})
	if err != nil {
		b.Fatal(err)
	}
	guest := rewrite(b, goGuest(b), Options{ReportCheckpoints: true})
	run := func(export string, m *Module, args ...uint64) {
		b.Run(export, func(b *testing.B) {
			host := &reporter{end: -1}
			g := instantiateWith(b, host.context(), r, m.Bytes, m)
			host.gaps = host.gaps[:0]
			for b.Loop() {
				g.refuel(50_000_000)
				host.last = time.Now()
				if _, err := g.call(export, args...); err != nil && g.stop.Get() != StopFuel {
					b.Fatal(err)
				}
			}
			slices.Sort(host.gaps)
			micro := func(i int) float64 { return float64(host.gaps[i].Nanoseconds()) / 1e3 }
			b.ReportMetric(micro(len(host.gaps)/2), "median-µs")
			b.ReportMetric(micro(len(host.gaps)*99/100), "p99-µs")
			b.ReportMetric(micro(len(host.gaps)-1), "max-µs")
		})
	}
	for _, export := range endless {
		run(export, stop)
	}
	run("spin", guest)
	run("decode", rewrite(b, jsonGuest(b), Options{ReportCheckpoints: true}), 30)
}
