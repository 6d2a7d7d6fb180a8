package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// demo is a configuration like that of gateway.toml: application demo, open to
// this machine, drogue for every event. Tests put their own routes before its
// route and their own tables behind it.
func demo(routes, tables string) string {
	return `
[plugins.drogue]
path = "` + wasm("drogue") + `"
[plugins.drogue.grant]
emit = ["io.drogue.event.v1", "io.drogue.connection.v1", "com.example.*"]
publish = ["command/inbox/#"]
[plugins.drogue.settings]
connection_events = "false"
` + routes + `
[[routes]]
application = "demo"
plugin = "drogue"

[applications.demo]
anonymous = true
` + tables
}

// gateway is a process. Its methods are for one goroutine.
type gateway struct {
	t       testing.TB
	dir     string // its working and data directory
	config  string
	options []string
	within  string // its root directory; empty: that of everybody

	mqtt, admin string // addresses
	cmd         *exec.Cmd
	out         *output
	ended       chan error
}

// start runs the gateway with a configuration in a new directory, until the test
// ends at the latest.
func start(t testing.TB, config string, options ...string) *gateway {
	t.Helper()
	return startIn(t, t.TempDir(), config, options...)
}

func startIn(t testing.TB, dir, config string, options ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: dir, config: configured(t, config), options: options}
	g.run()
	t.Cleanup(func() {
		if g.cmd != nil {
			g.kill()
		}
	})
	return g
}

// configured writes a configuration, and checks that there is something to start.
func configured(t testing.TB, config string) (file string) {
	t.Helper()
	watched()
	if artefacts.problem != nil {
		t.Fatal(artefacts.problem)
	}
	file = filepath.Join(t.TempDir(), "gateway.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run starts the process and waits until it is ready.
func (g *gateway) run() {
	g.t.Helper()
	if err := g.try(); err != nil {
		g.t.Fatalf("the gateway did not start: %v\n%s", err, g.out.tail())
	}
}

func (g *gateway) try() error {
	if err := g.spawn(); err != nil {
		return err
	}
	select {
	case <-g.out.ready:
		g.mqtt, g.admin = g.out.address("mqtt.tcp"), g.out.address("admin")
		return nil
	case err := <-g.ended:
		g.ended <- err
		return fmt.Errorf("it ended with status %d", g.wait())
	case <-time.After(patience):
		return errors.New("it was not ready in time")
	}
}

// spawn starts the process and does not wait.
func (g *gateway) spawn() error {
	cmd := g.command()
	g.out = newOutput()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	g.cmd, g.ended = cmd, make(chan error, 1)
	go func(out *output, ended chan error) {
		out.read(stderr)
		ended <- cmd.Wait()
	}(g.out, g.ended)
	return nil
}

// command is the gateway, not yet started.
func (g *gateway) command() *exec.Cmd {
	args := append([]string{"run", "--config", g.config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--data-dir", g.dir, "--set", "wasm.cache_dir=" + artefacts.cache, "--set", "log.format=json"}, g.options...)
	cmd := exec.Command(artefacts.binary, args...)
	cmd.Dir = g.dir
	cmd.Env = environment()
	if g.within != "" {
		cmd = exec.Command("/tributary", "run", "--config", "/gateway.toml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir",
			"/data", "--set", "log.format=json")
		cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{}, &syscall.SysProcAttr{Chroot: g.within}
	}
	return cmd
}

// environment is this process's, without what would be settings to the gateway.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TRIBUTARY_") })
}

// kill ends the process at once, as a power cut would end it for the process.
func (g *gateway) kill() {
	g.t.Helper()
	g.cmd.Process.Kill()
	g.wait()
}

// stop asks the process to end and returns its exit status.
func (g *gateway) stop() int {
	g.t.Helper()
	g.cmd.Process.Signal(syscall.SIGTERM)
	return g.wait()
}

// wait waits for the end and returns the exit status, -1 after a signal.
func (g *gateway) wait() int {
	g.t.Helper()
	cmd := g.cmd
	g.cmd = nil
	select {
	case <-g.ended:
	case <-time.After(patience):
		cmd.Process.Signal(syscall.SIGQUIT)
		<-g.ended
		g.t.Errorf("the gateway did not end:\n%s", g.out.tail())
	}
	g.out.mu.Lock()
	defer g.out.mu.Unlock()
	if len(g.out.crash) > 0 {
		g.t.Errorf("the gateway crashed:\n%s", strings.Join(g.out.crash, "\n"))
	}
	return cmd.ProcessState.ExitCode()
}

// restart kills the process and starts it again on the same data.
func (g *gateway) restart() {
	g.t.Helper()
	g.kill()
	g.run()
}

// get fetches a page of the admin endpoint.
func (g *gateway) get(path string) (status int, body string) {
	g.t.Helper()
	client := http.Client{Timeout: patience}
	res, err := client.Get("http://" + g.admin + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// metric is the value of a sample such as name{label="x"}; ok is false where
// there is none.
func (g *gateway) metric(sample string) (value float64, ok bool) {
	g.t.Helper()
	_, page := g.get("/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(sample) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		return 0, false
	}
	value, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		g.t.Fatalf("%s: %v", sample, err)
	}
	return value, true
}

// eventually waits for a condition that only polling can see.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// disk opens the store of the stopped gateway.
func (g *gateway) disk() *pebble.Store {
	g.t.Helper()
	cfg := pebble.Default()
	cfg.Dir = filepath.Join(g.dir, "store")
	st, err := pebble.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		g.t.Fatal(err)
	}
	return st
}

// stored reads a log of the stopped gateway from its store.
func (g *gateway) stored(l store.Log) []event.Event {
	g.t.Helper()
	st := g.disk()
	defer st.Close()
	var list []event.Event
	for next, more := uint64(0), true; more; {
		more = false
		err := st.Read(l, next, 1000, func(offset uint64, _ time.Time, record []byte) bool {
			var e event.Event
			if err := codec.ParseEvent(bytes.Clone(record), &e); err != nil {
				g.t.Errorf("record %d of %s: %v", offset, l, err)
			}
			list = append(list, e)
			next, more = offset+1, true
			return true
		})
		if err != nil {
			g.t.Fatal(err)
		}
	}
	return list
}

// output is what a gateway logs.
type output struct {
	ready chan struct{} // closed when the gateway says that it is

	mu        sync.Mutex
	addresses map[string]string
	lines     []string // the last ones
	crash     []string // what no gateway may ever print, and what follows it
}

func newOutput() *output { return &output{ready: make(chan struct{}), addresses: map[string]string{}} }

func (o *output) read(r io.Reader) {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			o.line(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return
		}
	}
}

// crashes matches the beginnings of a Go program's last words.
var crashes = regexp.MustCompile(`^(panic:|fatal error:|WARNING: DATA RACE|unexpected fault|SIG[A-Z]+: )`)

func (o *output) line(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.crash) > 0 && len(o.crash) < 60 || crashes.MatchString(text) {
		o.crash = append(o.crash, text)
	}
	if o.lines = append(o.lines, text); len(o.lines) > 400 {
		o.lines = append(o.lines[:0], o.lines[200:]...)
	}
	var entry struct{ Msg, Listener, Address string }
	if json.Unmarshal([]byte(text), &entry) != nil {
		return
	}
	switch entry.Msg {
	case "listening":
		o.addresses[entry.Listener] = entry.Address
	case "the gateway is ready":
		close(o.ready)
	}
}

func (o *output) address(listener string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.addresses[listener]
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines[max(0, len(o.lines)-40):], "\n")
}
