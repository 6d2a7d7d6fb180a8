package plugin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// TestLoadRefuses checks that a module which cannot work is refused with a
// reason that names the thing.
func TestLoadRefuses(t *testing.T) {
	wants := func(name string, w Wants) []byte {
		b, err := EmbedManifest(watGuest(t, name), Manifest{Name: "guest", Version: "1.2.3", ABI: 1, Wants: w})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := []struct {
		name  string
		wasm  []byte
		grant Grant
		want  []string
	}{
		{"empty", nil, Grant{}, []string{"no WebAssembly module"}},
		{"text", []byte("(module)"), Grant{}, []string{"no WebAssembly module"}},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), Grant{}, []string{"no WebAssembly module"}},
		{"cut off", watGuest(t, "minimal")[:60], Grant{}, []string{"cut off"}},
		{"imports", watGuest(t, "imports"), Grant{}, []string{
			"imports env.abort (function (i32) → ())", "env.flag (global)", "tributary.http_call",
			"imports tributary.log as (i32, i32) → (), it is (i32, i32, i32) → ()",
		}},
		{"exports", watGuest(t, "exports"), Grant{}, []string{
			"the export tributary_abi_1 is function (i32) → (), it must be a function () → ()",
			"the export tributary_buffer (i32) → (i32) is missing",
			"the export tributary_handle is function (i32) → (i32), it must be a function (i32) → (i64)",
			"the export _initialize is function () → (i32)", `one memory of its own, exported as "memory"`,
		}},
		{"later ABI", watGuest(t, "abi2"), Grant{}, []string{"ABI 2", "knows only 1"}},
		{"endless start", watGuest(t, "start"), Grant{}, []string{"starting plugin guest"}},
		{"endless initialiser", watGuest(t, "initialize"), Grant{}, []string{"starting plugin guest", "deadline"}},
		{"buffer outside", watGuest(t, "badbuffer"), Grant{}, []string{"outside its memory", "tributary_buffer(4096)"}},
		{"starts too large", watGuest(t, "fill"), Grant{MemoryBytes: 1 << 20}, []string{"[plugins.guest.grant]\nmemory_bytes = 34078720"}},
		{"bad grant", watGuest(t, "minimal"), Grant{Publish: []string{"a/#/b"}}, []string{"plugins.guest.grant", `"a/#/b"`}},
		{"wants more", wants("minimal", Wants{
			Publish: []string{"command/+/x", "$sys/#"}, Emit: []string{"a.b", "a.c.*"}, Pass: true,
			StateBytes: 5000, MemoryBytes: 128 << 20, Fuel: maxFuel, Deadline: Duration(time.Minute),
		}), Grant{Publish: []string{"command/#"}, Emit: []string{"a.b"}}, []string{
			"[plugins.guest.grant]\n" +
				`publish = ["command/#", "$sys/#"]` + "\n" + `emit = ["a.b", "a.c.*"]` + "\npass = true\nstate_bytes = 5000\n" +
				"memory_bytes = 134217728\nfuel = 1099511627776\ndeadline = \"1m0s\"",
		}},
	}
	cfg := testConfig()
	cfg.StartDeadline, cfg.Fuel = 200*time.Millisecond, 1<<35
	h := testHost(t, cfg)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.Load(context.Background(), "guest", c.wasm, c.grant, nil)
			if err == nil {
				t.Fatal("it was loaded")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
	for _, name := range []string{"imports", "exports", "abi2"} {
		if err := CheckModule(watGuest(t, name)); err == nil || !strings.Contains(err.Error(), "ABI") {
			t.Errorf("%s, checked without a host: %v", name, err)
		}
	}
	if err := CheckModule(watGuest(t, "minimal")); err != nil {
		t.Error(err)
	}
	expensive := append(watGuest(t, "minimal"), make([]byte, 32<<20)...)
	if err := CheckModule(expensive); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a module of more than 32 MiB: %v", err)
	}
	if n := len(h.Metrics()); n != 0 {
		t.Errorf("refused plugins left %d metrics", n)
	}
}

// TestLoadGranted loads what is granted exactly.
func TestLoadGranted(t *testing.T) {
	m := Manifest{Name: "small", Version: "1.2.3", ABI: 1, Wants: Wants{Publish: []string{"a/+"}, StateBytes: 10,
		Deadline: Duration(time.Second)}}
	wasm, err := EmbedManifest(watGuest(t, "minimal"), m)
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, testHost(t, testConfig()), wasm, Grant{Publish: []string{"a/#"}, StateBytes: 10, Deadline: time.Second})
	if p.Name() != "guest" || p.Version() != "1.2.3" || p.Manifest().Name != "small" || p.Grant().MemoryBytes != Default().MemoryBytes {
		t.Errorf("name %q version %q manifest %+v grant %+v", p.Name(), p.Version(), p.Manifest(), p.Grant())
	}
	if d := p.Digest(); len(d) != len("sha256:")+64 || !strings.HasPrefix(d, "sha256:") {
		t.Errorf("digest %q", d)
	}
	if res, err := send(p, 7, "x"); err != nil || len(res.Effects) != 0 || res.Failure != nil {
		t.Errorf("result %+v, error %v", res, err)
	}
}

// TestCache loads a module twice from one directory, and keeps away from one that
// others may write to, as Kubernetes makes a volume with an fsGroup, or that cannot be
// there: neither is a reason not to start.
func TestCache(t *testing.T) {
	cfg := testConfig()
	cfg.CacheDir = filepath.Join(t.TempDir(), "a", "cache")
	for range 2 {
		h := testHost(t, cfg)
		p := load(t, h, watGuest(t, "minimal"), Grant{})
		if _, err := send(p, 0, "x"); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(cfg.CacheDir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Fatalf("cache directory: %v %v", st.Mode(), err)
	}
	files, err := filepath.Glob(filepath.Join(cfg.CacheDir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Errorf("nothing is cached: %v %v", files, err)
	}
	old := map[string][]byte{}
	for _, file := range files { // whoever may write may have written this
		old[file] = []byte("not what the gateway wrote")
		if err := os.WriteFile(file, old[file], 0o660); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(cfg.CacheDir, 0o770|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	occupied := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, reason := range map[string]string{cfg.CacheDir: "others may write to it (mode 0770)",
		filepath.Join(occupied, "cache"): "not a directory"} {
		said := &bytes.Buffer{}
		cfg.CacheDir = dir
		h, err := New(cfg, 2, slog.New(slog.NewTextHandler(said, nil)))
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		p := load(t, h, watGuest(t, "minimal"), Grant{})
		if _, err := send(p, 0, "x"); err != nil {
			t.Error(err)
		}
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if !strings.Contains(said.String(), "level=WARN") || !strings.Contains(said.String(), reason) {
			t.Errorf("said about %s:\n%s", dir, said)
		}
	}
	for file, content := range old {
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, content) {
			t.Errorf("%s was used: %v", file, err)
		}
	}
}

// TestWatGuests checks that each .wasm file is what its .wat says.
func TestWatGuests(t *testing.T) {
	if _, err := exec.LookPath("wat2wasm"); err != nil {
		t.Skip("wat2wasm is not installed")
	}
	sources, err := filepath.Glob(filepath.Join("testdata", "wat", "*.wat"))
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	for _, source := range sources {
		out := filepath.Join(t.TempDir(), "out.wasm")
		if text, err := exec.Command("wat2wasm", source, "-o", out).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", source, err, text)
		}
		want, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, watGuest(t, strings.TrimSuffix(filepath.Base(source), ".wat"))) {
			t.Errorf("%s was changed after its .wasm was made: run wat2wasm on it", source)
		}
	}
}

func TestClosed(t *testing.T) {
	cfg := testConfig()
	h := testHost(t, cfg)
	p := load(t, h, watGuest(t, "minimal"), Grant{})
	if err := h.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := send(p, 0, "x"); !errors.Is(err, errClosed) {
		t.Errorf("handle after close: %v", err)
	}
	if _, err := send(p, 1, "x"); !errors.Is(err, errClosed) {
		t.Errorf("handle of an instance that never started, after close: %v", err)
	}
	if _, err := h.Load(context.Background(), "late", watGuest(t, "minimal"), Grant{}, nil); err == nil {
		t.Error("load after close succeeded")
	}
}

func TestConfigValidate(t *testing.T) {
	good := Default()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"memory_bytes":   func(c *Config) { c.MemoryBytes = 1000 },
		"fuel":           func(c *Config) { c.Fuel = 0 },
		"deadline":       func(c *Config) { c.Deadline = 5 },
		"start_deadline": func(c *Config) { c.StartDeadline = 0 },
		"output_bytes":   func(c *Config) { c.OutputBytes = 0 },
		"log_bytes":      func(c *Config) { c.LogBytes = -1 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "wasm."+key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// Compiling stops at its deadline, with an error that names the setting, and a module that
// was stopped can be compiled with more time.
func TestCompileDeadline(t *testing.T) {
	cfg := testConfig()
	cfg.CompileDeadline, cfg.CacheDir = time.Millisecond, ""
	wasm := goGuest(t, "modes")
	_, err := testHost(t, cfg).Load(context.Background(), "slow", wasm, everything(), nil)
	if err == nil || !strings.Contains(err.Error(), "wasm.compile_deadline") {
		t.Errorf("a module of a megabyte was compiled in a millisecond: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cfg.CompileDeadline = time.Minute
	if _, err := testHost(t, cfg).Load(ctx, "stopped", wasm, everything(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever stopped it hears %v", err)
	}
	load(t, testHost(t, cfg), wasm, everything())
}
