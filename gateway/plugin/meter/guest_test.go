package meter

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// guests are built and compiled once per test process.
var guests struct {
	sync.Mutex
	dir   string
	bytes map[string][]byte
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "meter")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	guests.dir, guests.bytes = dir, map[string][]byte{}
	return m.Run()
}

func build(t testing.TB, name string, command func(out string) *exec.Cmd) []byte {
	t.Helper()
	guests.Lock()
	defer guests.Unlock()
	if b := guests.bytes[name]; b != nil {
		return b
	}
	out := filepath.Join(guests.dir, name)
	if msg, err := command(out).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	guests.bytes[name] = b
	return b
}

func goGuest(t testing.TB) []byte { return goModule(t, "goguest") }

func jsonGuest(t testing.TB) []byte { return goModule(t, "jsonguest") }

func goModule(t testing.TB, name string) []byte {
	t.Helper()
	return build(t, name, func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./testdata/"+name)
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return cmd
	})
}

func cGuest(t testing.TB) []byte {
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("no clang: the C guest is left out")
	}
	return build(t, "c.wasm", func(out string) *exec.Cmd {
		return exec.Command("clang", "--target=wasm32", "-O2", "-msimd128", "-mbulk-memory", "-nostdlib",
			"-Wl,--no-entry", "-o", out, "testdata/cguest/guest.c")
	})
}

// guestOptions are those of all tests of the Go guest, so that it is compiled once.
var guestOptions = Options{MaxMemoryPages: 160}

func rewrite(t testing.TB, module []byte, o Options) *Module {
	t.Helper()
	m, err := Rewrite(module, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newRuntime(t testing.TB, config wazero.RuntimeConfig) wazero.Runtime {
	t.Helper()
	ctx := context.Background()
	cache, err := wazero.NewCompilationCacheWithDir(guests.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close(ctx) })
	r := wazero.NewRuntimeWithConfig(ctx, config.WithCompilationCache(cache))
	t.Cleanup(func() { r.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	return r
}

// instance is a guest with the meter's globals, if it has them.
type instance struct {
	api.Module
	meter                          *Module
	fuel, reserve, interrupt, stop api.MutableGlobal
}

func instantiate(t testing.TB, r wazero.Runtime, module []byte, m *Module) *instance {
	t.Helper()
	if m != nil {
		module = m.Bytes
	}
	return instantiateWith(t, context.Background(), r, module, m)
}

func instantiateWith(t testing.TB, ctx context.Context, r wazero.Runtime, module []byte, m *Module) *instance {
	t.Helper()
	mod, err := r.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mod.Close(context.Background()) })
	i := &instance{Module: mod, meter: m}
	if m != nil {
		global := func(name string) api.MutableGlobal {
			g, ok := mod.ExportedGlobal(name).(api.MutableGlobal)
			if !ok {
				t.Fatalf("global %s is not exported or not mutable", name)
			}
			return g
		}
		i.fuel, i.reserve = global(FuelGlobal), global(ReserveGlobal)
		i.interrupt, i.stop = global(InterruptGlobal), global(StopGlobal)
	}
	if start := mod.ExportedFunction("_initialize"); start != nil {
		i.refuel(1 << 40)
		if _, err := start.Call(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// refuel does what the host does before a call.
func (i *instance) refuel(budget uint64) {
	if i.meter == nil {
		return
	}
	fuel, reserve := i.meter.Split(budget)
	i.fuel.Set(fuel)
	i.reserve.Set(reserve)
	i.interrupt.Set(0)
	i.stop.Set(0)
}

// left is what remains of the budget; below zero when it was spent.
func (i *instance) left() int64 { return int64(i.fuel.Get()) + int64(i.reserve.Get()) }

func (i *instance) call(name string, args ...uint64) ([]uint64, error) {
	return i.ExportedFunction(name).Call(context.Background(), args...)
}
