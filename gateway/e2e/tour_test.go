package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	sdkevent "github.com/cloudevents/sdk-go/v2/event"

	"tributary.io/gateway/listener/mqtt/packet"
)

// The first thing that anybody does: the unchanged gateway.toml, and the two
// commands that "make run" prints.
func TestTour(t *testing.T) {
	settings, err := os.ReadFile("../../gateway.toml")
	if err != nil {
		t.Fatal(err)
	}
	mosquittoSub, mosquittoPub := program(t, "mosquitto_sub"), program(t, "mosquitto_pub")
	g := start(t, string(settings), "--set", "plugins.drogue.path="+wasm("drogue"))
	lines := background(t, g, mosquittoSub, "-V", "5", "-t", "app/demo", "-q", "1")
	g.heard(lines)
	foreground(t, g, mosquittoPub, "-i", "sensor-1", "-t", "temperature", "-q", "1", "-m", `{"celsius":21.5}`)

	line := nextLine(t, lines, `"subject":"temperature"`)
	e := parse(t, &packet.Publish{Payload: []byte(line)})
	if e.Device != "sensor-1" || e.Application != "demo" || e.Subject != "temperature" || e.Sender != "sensor-1" ||
		e.DataContentType != "application/json" || string(e.Data) != `{"celsius":21.5}` {
		t.Errorf("not the event of the tour: %s", line)
	}
	judge := reference(t, []byte(line))
	if judge.Subject() != "temperature" || judge.Extensions()["device"] != "sensor-1" ||
		judge.Extensions()["application"] != "demo" || string(judge.Data()) != `{"celsius":21.5}` {
		t.Errorf("sdk-go reads it as %v", judge)
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// heard waits until a consumer of application demo that prints what it gets is
// subscribed: others cannot see that, so that events are sent until one is printed.
func (g *gateway) heard(lines <-chan string) {
	g.t.Helper()
	probe := g.v5("probe")
	defer probe.nc.Close()
	for end := time.Now().Add(patience); ; {
		probe.accepted("probe", "are you there?")
		select {
		case _, ok := <-lines:
			if !ok {
				g.t.Fatal("the consumer ended")
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			g.t.Fatal("the consumer prints nothing")
		}
	}
}

// reference parses a structured event with cloudevents/sdk-go.
func reference(t testing.TB, payload []byte) sdkevent.Event {
	t.Helper()
	var e sdkevent.Event
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Fatalf("sdk-go: %v\n%s", err, payload)
	}
	if err := e.Validate(); err != nil {
		t.Fatalf("sdk-go: %v\n%s", err, payload)
	}
	return e
}

// at puts the gateway's address behind the arguments of a mosquitto client.
func (g *gateway) at(args []string) []string {
	host, port, err := net.SplitHostPort(g.mqtt)
	if err != nil {
		g.t.Fatal(err)
	}
	return append(args, "-h", host, "-p", port)
}

// background starts a mosquitto client until the test ends and returns the
// lines that it prints.
func background(t testing.TB, g *gateway, name string, args ...string) <-chan string {
	t.Helper()
	return process(t, exec.Command(name, g.at(args)...))
}

// process starts a program until the test ends and returns the lines that it
// prints.
func process(t testing.TB, cmd *exec.Cmd) <-chan string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	complaints := &bytes.Buffer{}
	cmd.Stderr = complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		cmd.Wait()
		if t.Failed() && complaints.Len() > 0 {
			t.Logf("%s: %s", cmd.Path, complaints)
		}
	})
	return lines
}

// foreground runs a mosquitto client to its end and returns its output.
func foreground(t testing.TB, g *gateway, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, g.at(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// nextLine is the next line that contains a text.
func nextLine(t testing.TB, lines <-chan string, text string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the client ended before it printed %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-late:
			t.Fatalf("the client did not print %q", text)
		}
	}
}
