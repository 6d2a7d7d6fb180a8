package meter

import (
	"bytes"
	"context"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

func testModules(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/wat/*.wasm")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test modules: %v", err)
	}
	modules := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		modules[strings.TrimSuffix(filepath.Base(f), ".wasm")] = b
	}
	return modules
}

func withEnv(t testing.TB, r wazero.Runtime, modules map[string][]byte) {
	t.Helper()
	if _, err := r.InstantiateWithConfig(context.Background(), modules["env"], wazero.NewModuleConfig().WithName("env")); err != nil {
		t.Fatal(err)
	}
}

// TestSameResults runs each exported function of each module with and without the meter, one
// after the other on the same instance, and compares results, traps, memory and globals.
func TestSameResults(t *testing.T) {
	engines := map[string]wazero.RuntimeConfig{
		"compiler":    wazero.NewRuntimeConfigCompiler(),
		"interpreter": wazero.NewRuntimeConfigInterpreter(),
	}
	modules := testModules(t)
	for engine, config := range engines {
		for name, module := range modules {
			if name == "stop" {
				continue // without the meter it does not
			}
			t.Run(engine+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := newRuntime(t, config)
				withEnv(t, r, modules)
				plain := instantiate(t, r, module, nil)
				metered := instantiate(t, r, nil, rewrite(t, module, Options{}))
				compareCalls(t, plain, metered)
			})
		}
	}
}

var arguments = [][]uint64{
	{0, 0, 0}, {1, 2, 3}, {10, 5, 20}, {3, 1, 0}, {2, 9, 7}, {7, 3, 2}, {31, 17, 4}, {200, 100, 3000},
	{65535, 65530, 100}, {131072, 0, 0}, {131073, 0, 0}, {math.MaxUint32, 1, 1},
	{math.MaxUint32, math.MaxUint32, math.MaxUint32}, {1 << 31, math.MaxInt32, 8},
	{math.Float64bits(-1.5), uint64(math.Float32bits(2.5e9)), 1}, {math.Float64bits(math.NaN()), uint64(math.Float32bits(-7)), 0},
	{10, 7, 2_000_000}, {30, 3, 2_490_000}, {3, 30, 2_490_000}, {2_000_000, 3, 700_000},
}

func compareCalls(t *testing.T, plain, metered *instance) {
	t.Helper()
	functions := plain.ExportedFunctionDefinitions()
	for _, args := range arguments {
		for _, name := range slices.Sorted(maps.Keys(functions)) {
			params := functions[name].ParamTypes()
			in := slices.Clone(args[:len(params)])
			for i, p := range params {
				if p == api.ValueTypeI32 || p == api.ValueTypeF32 {
					in[i] &= math.MaxUint32
				}
			}
			want, wantErr := plain.call(name, in...)
			metered.refuel(1 << 40)
			got, gotErr := metered.call(name, in...)
			if diff := cmp.Diff(want, got); diff != "" || trap(wantErr) != trap(gotErr) {
				t.Fatalf("%s(%d): %v, with the meter %v\n%s", name, in, wantErr, gotErr, diff)
			}
			if metered.stop.Get() != StopNone {
				t.Fatalf("%s(%d): the meter stopped it", name, in)
			}
			compareState(t, name, plain, metered)
		}
	}
}

func compareState(t *testing.T, after string, plain, metered *instance) {
	t.Helper()
	for _, name := range metered.meter.Globals {
		a, b := plain.ExportedGlobal(name), metered.ExportedGlobal(name)
		if a != nil && a.Get() != b.Get() {
			t.Fatalf("after %s: global %s is %d, with the meter %d", after, name, a.Get(), b.Get())
		}
	}
	memory := plain.ExportedMemory("memory")
	if memory == nil {
		return
	}
	a, _ := memory.Read(0, memory.Size())
	b, _ := metered.Memory().Read(0, metered.Memory().Size())
	if !bytes.Equal(a, b) {
		t.Fatalf("after %s: memory of %d bytes differs from memory of %d bytes with the meter", after, len(a), len(b))
	}
}

// trap is the message of a guest fault without its stack.
func trap(err error) string {
	if err == nil {
		return ""
	}
	msg, _, _ := strings.Cut(err.Error(), "\n")
	return msg
}

// TestGuests runs what real compilers emit. A Go guest takes long to compile, so its results were
// written down without the meter.
func TestGuests(t *testing.T) {
	t.Run("go", func(t *testing.T) {
		m := rewrite(t, goGuest(t), guestOptions)
		t.Logf("%d bytes, %d with the meter, %d checkpoints", len(goGuest(t)), len(m.Bytes), m.Checkpoints)
		if len(m.Unrestorable) > 0 || len(m.Globals) < 9 {
			t.Errorf("the host cannot restore it: %q, globals %q", m.Unrestorable, m.Globals)
		}
		g := instantiate(t, newRuntime(t, wazero.NewRuntimeConfigCompiler()), nil, m)
		for export, c := range map[string][2]uint64{"scan": {10, 1013250}, "sieve": {1000, 168}, "recurse": {5000, 12502500}} {
			g.refuel(1 << 40)
			if got, err := g.call(export, c[0]); err != nil || got[0] != c[1] {
				t.Errorf("%s(%d) = %d, %v, want %d", export, c[0], got, err, c[1])
			}
		}
	})
	t.Run("c", func(t *testing.T) {
		m := rewrite(t, cGuest(t), guestOptions)
		if len(m.Unrestorable) > 0 {
			t.Errorf("the host cannot restore it: %q", m.Unrestorable)
		}
		r := newRuntime(t, wazero.NewRuntimeConfigCompiler())
		plain, metered := instantiate(t, r, cGuest(t), nil), instantiate(t, r, nil, m)
		for export, arg := range map[string]uint64{"hash": 1000, "xorshift": 1000, "sieve": 1000, "fib": 15, "saxpy": 3} {
			want, err := plain.call(export, arg)
			if err != nil {
				t.Fatal(err)
			}
			metered.refuel(1 << 40)
			if got, err := metered.call(export, arg); err != nil || got[0] != want[0] {
				t.Errorf("%s(%d) = %d, %v, want %d", export, arg, got, err, want)
			}
		}
	})
}
