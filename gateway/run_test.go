package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// startGateway runs "tributary run" with the options until stop is called or
// the test ends, and returns the addresses that it logs.
func startGateway(t *testing.T, options ...string) (mqtt, admin string, stop func() (status int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	logs, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, options...),
			&terminal{in: strings.NewReader(""), out: io.Discard, err: w})
		w.Close()
	}()
	stop = func() int {
		cancel()
		status, ok := <-done
		if ok {
			close(done)
		}
		return status
	}
	t.Cleanup(func() { stop() })
	listening := regexp.MustCompile(`listener=([\w.]+) address=(\S+)`)
	lines := bufio.NewScanner(logs)
	for lines.Scan() {
		t.Log(lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil && m[1] == "mqtt.tcp" {
			mqtt = m[2]
		} else if m != nil {
			admin = m[2]
		}
		if strings.Contains(lines.Text(), "the gateway is ready") {
			go io.Copy(io.Discard, logs)
			return mqtt, admin, stop
		}
	}
	t.Fatal("the gateway did not start")
	return "", "", nil
}

// publish sends one message at QoS 1 as an anonymous device and waits for its
// acknowledgement.
func publish(t *testing.T, address, device, topic, payload string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	frames := (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: device}).Append(nil, packet.V5)
	frames = (&packet.Publish{Topic: topic, QoS: 1, ID: 1, Payload: []byte(payload)}).Append(frames, packet.V5)
	conn.Write(frames)
	s := &subscriber{conn: conn, in: bufio.NewReader(conn)}
	for {
		p, err := s.read()
		if err != nil {
			t.Fatal(err)
		}
		if ack, ok := p.(*packet.Ack); ok {
			if ack.Code != 0 {
				t.Fatalf("PUBACK 0x%02X", ack.Code)
			}
			return
		}
	}
}

// The bundled plugin is built, checked and run with the file of the root; a
// message goes all the way, and is still there after a restart.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a plugin and runs the gateway: left out by -short")
	}
	dir := t.TempDir()
	module := filepath.Join(dir, "out", "drogue.wasm")
	status, out, errs := tributary(t, t.Context(), "", nil, "plugin", "build", "../plugins/drogue", "-o", module)
	if status != 0 || !strings.HasPrefix(out, module+": plugin drogue ") {
		t.Fatalf("%d %s %s", status, out, errs)
	}
	options := []string{"--config", "../gateway.toml", "--data-dir", dir, "--set", "plugins.drogue.path=" + module}
	status, out, errs = tributary(t, t.Context(), "", nil, append([]string{"check"}, options...)...)
	if status != 0 || !strings.HasSuffix(out, "gateway.toml is fine: 1 application, 0 users, 1 plugin, 1 route\n") {
		t.Fatalf("check: %d %s %s", status, out, errs)
	}

	mqtt, admin, stop := startGateway(t, options...)
	publish(t, mqtt, "sensor-1", "temperature", `{"celsius":21.5}`)
	for path, want := range map[string]string{"/readyz": `{"ready":true`, "/healthz": "ok",
		"/metrics": "tributary_registry_logins_total{verdict=\"accepted\"} 1"} {
		resp, err := http.Get("http://" + admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s lacks %s: %v", path, want, err)
		}
	}
	if status := stop(); status != 0 {
		t.Errorf("the gateway ended with status %d", status)
	}

	mqtt, _, stop = startGateway(t, options...)
	status, out, errs = tributary(t, t.Context(), "", nil, "tail", "demo", "--address", mqtt, "--from", "first", "--count", "1")
	if status != 0 || !strings.Contains(out, `  sensor-1  io.drogue.event.v1  temperature  {"celsius":21.5}`+"\n") {
		t.Errorf("tail: %d\n%s%s", status, out, errs)
	}
	status, _, errs = tributary(t, t.Context(), "", nil, "tail", "nope", "--address", mqtt)
	if status != 1 || !strings.Contains(errs, "(0x87)") {
		t.Errorf("tail of an unknown application: %d %s", status, errs)
	}
	if status := stop(); status != 0 {
		t.Errorf("the gateway ended with status %d", status)
	}
}

// A route may be there before its application. Only the registry knows whether it is.
func TestRunWarnsOfRoutesToNothing(t *testing.T) {
	file := write(t, "stray.toml", "[applications.fleet]\n[plugins.p]\npath = \"plugin/testdata/wat/minimal.wasm\"\n"+
		"[[routes]]\napplication = \"fleets\"\nplugin = \"p\"\n[[routes]]\napplication = \"garden\"\nplugin = \"p\"\n[[routes]]\napplication "+
		"= \"*\"\nplugin = \"p\"\n")
	dir := t.TempDir()
	for _, wait := range []struct{ admin, warnings string }{
		{"127.0.0.1:0", `[0].application is "fleets", and no application of this name is there yet; did you mean "fleet"? [1].application is "garden", and no application of this name is there yet`},
		{"", `[1].application is "garden", and no application of this name is there yet`},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		logs, w := io.Pipe()
		done := make(chan int, 1)
		go func() {
			done <- run(ctx, []string{"run", "--config", file, "--data-dir", dir, "--set", "admin.address=" + wait.admin, "--listen", "127.0.0.1:0"},
				&terminal{in: strings.NewReader(""), out: io.Discard, err: w})
			w.Close()
		}()
		var warnings []string
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			line := strings.ReplaceAll(lines.Text(), `\"`, `"`)
			if m := regexp.MustCompile(`level=WARN msg="routes(.*)"$`).FindStringSubmatch(line); m != nil {
				warnings = append(warnings, m[1])
			}
			if m := regexp.MustCompile(`listener=admin address=(\S+)`).FindStringSubmatch(line); m != nil {
				wait.admin = m[1]
			}
			if strings.Contains(line, "the gateway is ready") {
				go func(admin string) { // while the log is read
					defer cancel()
					if admin == "" {
						return
					}
					status, _, errs := tributary(t, ctx, "", nil, "app", "create", "fleets", "--url", "http://"+admin, "--token-file",
						filepath.Join(dir, "admin.token"))
					if status != 0 {
						t.Errorf("app create: %d %s", status, errs)
					}
				}(wait.admin)
			}
		}
		cancel()
		if status := <-done; status != 0 {
			t.Errorf("the gateway ended with status %d", status)
		}
		if got := strings.Join(warnings, " "); got != wait.warnings {
			t.Errorf("it warns of\n%s\nwant\n%s", got, wait.warnings)
		}
	}
}
