package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// SIGTERM under load: the exit status is 0, clients are told, and what was
// acknowledged is there after the restart.
func TestGracefulShutdown(t *testing.T) {
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	g := start(t, demo("", ""))
	f := newFleet(6, 64)
	for range rounds {
		idle5, idle3 := g.v5("idle-5"), g.v3("idle-3")
		reader := g.consumer()
		go func() { // a consumer under load
			for {
				p, err := reader.read()
				if err != nil {
					return
				}
				if m, ok := p.(*packet.Publish); ok && reader.write(&packet.Ack{Type: packet.PUBACK, ID: m.ID}) != nil {
					return
				}
			}
		}()
		wait := f.publish(t, g.mqtt, nil)
		time.Sleep(150 * time.Millisecond) // the load
		if status := g.stop(); status != 0 {
			t.Fatalf("exit status %d\n%s", status, g.out.tail())
		}
		wait()
		for _, p := range f {
			if p.last != packet.CodeServerShuttingDown {
				t.Errorf("%s: the last packet was no DISCONNECT 0x8B but %#x", p.device, p.last)
			}
			p.last = 0
		}
		if d := expect[*packet.Disconnect](idle5); d.Code != packet.CodeServerShuttingDown {
			t.Errorf("an idle client got DISCONNECT %#x", d.Code)
		}
		if p := idle3.recv(); p != nil {
			t.Errorf("an idle client of MQTT 3.1.1 got %T", p)
		}
		g.run()
	}
	f.verify(t, g.events())
}

// A second signal ends a gateway that cannot end in order at once.
func TestSecondSignal(t *testing.T) {
	// A plugin that needs longer than the test for an event, so that the stop waits.
	g := start(t, demo(chaos("deadline = \"60s\"\nfuel = 1_000_000_000_000"), ""))
	stuck := g.v5("stuck")
	stuck.send(&packet.Publish{Topic: "chaos", QoS: 1, ID: 1, Payload: []byte("spin")})
	eventually(t, "the plugin has the event", func() bool {
		n, _ := g.metric("tributary_router_received_total")
		return n > 0
	})
	g.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "it is stopping", func() bool {
		c, err := open(g.mqtt, packet.V5)
		if err == nil {
			c.nc.Close()
		}
		return err != nil
	})
	select {
	case <-g.ended:
		t.Fatal("it ended with an event in flight")
	case <-time.After(200 * time.Millisecond):
	}
	begin := time.Now()
	g.cmd.Process.Signal(syscall.SIGTERM)
	if status := g.wait(); status == 0 {
		t.Error("exit status 0")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the end took %v", took)
	}
	g.run()
	g.v5("after").accepted("temperature", "1")
}

// SIGHUP, which a process gets when its terminal goes away, is as good as SIGTERM, and
// nothing where whoever started the gateway had it ignored.
func TestHangUp(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP) // else the gateway inherits it as ignored, if the tests were started so
	g := start(t, demo("", ""))
	c := g.v5("d")
	c.accepted("x", "1")
	g.cmd.Process.Signal(syscall.SIGHUP)
	if d := expect[*packet.Disconnect](c); d.Code != packet.CodeServerShuttingDown {
		t.Errorf("DISCONNECT %#x", d.Code)
	}
	if status := g.wait(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}

	signal.Ignore(syscall.SIGHUP) // which the gateway inherits, as from nohup
	defer signal.Reset(syscall.SIGHUP)
	g.run()
	g.cmd.Process.Signal(syscall.SIGHUP)
	g.v5("d").accepted("x", "2")
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
}

// Whoever reads the log, or does not, cannot stop the gateway.
func TestLogReaders(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(log *os.File) // with the end that is read
	}{
		{"it goes away", func(log *os.File) { log.Close() }},
		{"it stops reading", func(*os.File) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := &gateway{t: t, dir: t.TempDir(), config: configured(t, demo("", "")), options: []string{"--log-level", "debug"}, out: newOutput(),
				ended: make(chan error, 1)}
			log := g.unread()
			defer log.Close()
			in := bufio.NewReader(log)
			for g.out.address("admin") == "" || g.out.address("mqtt.tcp") == "" {
				line, err := in.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				g.out.line(strings.TrimSpace(line))
			}
			g.mqtt, g.admin = g.out.address("mqtt.tcp"), g.out.address("admin")
			eventually(t, "it is ready", func() bool { status, _ := g.get("/readyz"); return status == 200 })
			tt.then(log)
			long := strings.Repeat("x", 200)
			c := g.v5("d")
			for n := 0; n < 40_000; n++ { // each is refused, which is a line
				if n%1000 == 0 {
					if dropped, _ := g.metric("tributary_log_dropped_lines_total"); dropped > 0 {
						break
					}
				}
				c.publish("command/demo/"+long+"/x", "1")
			}
			if dropped, _ := g.metric("tributary_log_dropped_lines_total"); dropped == 0 {
				t.Error("no lines were dropped, so nothing was tested")
			}
			c.accepted("x", "1")
			if status := g.stop(); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

// unread starts the process and returns the end of its log that is to be read.
func (g *gateway) unread() *os.File {
	g.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		g.t.Fatal(err)
	}
	defer w.Close()
	g.cmd = g.command()
	g.cmd.Stderr = w
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func(cmd *exec.Cmd) { g.ended <- cmd.Wait() }(g.cmd)
	g.t.Cleanup(func() {
		if g.cmd != nil {
			g.kill()
		}
	})
	return r
}
