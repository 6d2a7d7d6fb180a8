package plugin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tributary.io/sdk-plugin/event"
)

// shared holds what the tests build once: the guests and the compiled code.
var shared struct {
	dir    string
	mu     sync.Mutex
	guests map[string][]byte
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tributary-plugin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared.dir, shared.guests = dir, map[string][]byte{}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// goGuest builds testdata/<name> with the plain Go toolchain.
func goGuest(t testing.TB, name string) []byte {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if b, ok := shared.guests[name]; ok {
		return b
	}
	out := filepath.Join(shared.dir, name+".wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building guest %s: %v\n%s", name, err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	shared.guests[name] = b
	return b
}

// watGuest reads testdata/wat/<name>.wasm, which wat2wasm made of the .wat beside it.
func watGuest(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "wat", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testConfig() Config {
	cfg := Default()
	cfg.CacheDir = filepath.Join(shared.dir, "cache")
	// Generous for the race detector; tests of a limit set their own.
	cfg.Deadline = 20 * time.Second
	cfg.StartDeadline = time.Minute
	cfg.Fuel = maxFuel
	return cfg
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testHost(t testing.TB, cfg Config) *Host {
	t.Helper()
	return logHost(t, cfg, io.Discard)
}

func logHost(t testing.TB, cfg Config, w io.Writer) *Host {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	h, err := New(cfg, 2, slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func everything() Grant {
	return Grant{Publish: []string{"#"}, Emit: []string{"*"}, Pass: true, StateBytes: 1 << 20}
}

func load(t testing.TB, h *Host, wasm []byte, g Grant) *Plugin {
	t.Helper()
	p, err := h.Load(context.Background(), "guest", wasm, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func inbound(data string) *event.Inbound {
	return &event.Inbound{
		Event: event.Event{
			ID: "id-1", Source: "/applications/a/devices/d", Type: event.TypePublish,
			Application: "a", Device: "d", Sender: "d", Data: []byte(data),
		},
		Transport: event.Transport{Protocol: "mqtt", Topic: "t", ClientID: "d"},
	}
}

var testTime = time.Date(2026, 11, 21, 10, 0, 0, 123456789, time.UTC)

// send hands data to the plugin on a shard.
func send(p *Plugin, shard int, data string) (event.Result, error) {
	return p.Handle(context.Background(), shard, inbound(data), testTime, nil)
}

// ask returns the data of the one event that the plugin emits.
func ask(t testing.TB, p *Plugin, shard int, data string) string {
	t.Helper()
	res, err := send(p, shard, data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return emitted(t, res)
}

func emitted(t testing.TB, res event.Result) string {
	t.Helper()
	if res.Failure != nil || len(res.Effects) != 1 {
		t.Fatalf("not one effect: %+v %v", res.Effects, res.Failure)
	}
	e, ok := res.Effects[0].(*event.Emit)
	if !ok {
		t.Fatalf("not an emit: %T", res.Effects[0])
	}
	return string(e.Event.Data)
}

// logBuffer is a log that may be written from several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
