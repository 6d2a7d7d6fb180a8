package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// testConfig is a run that ends by its count; the duration is only there for a test
// that goes wrong.
func testConfig(f *fake) Config {
	c := Default()
	c.Address = f.ln.Addr().String()
	c.Publishers, c.Window, c.Messages, c.PayloadLen = 3, 8, 300, 64
	c.Duration, c.Drain = time.Minute, 20*time.Second
	return c
}

func mustRun(t *testing.T, c Config) Report {
	t.Helper()
	rep, err := Run(t.Context(), c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestPublish checks in both versions and at each QoS that every message is sent
// once, with the window used to the full and never exceeded.
func TestPublish(t *testing.T) {
	for _, version := range []byte{packet.V311, packet.V5} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%d/qos%d", version, qos), func(t *testing.T) {
				f := newFake(t, func(f *fake) {
					if qos > 0 {
						f.ackBatch = 8 // answers only full windows, of which 104 messages are 13
					}
				})
				c := testConfig(f)
				c.Version, c.QoS, c.Messages = version, qos, 3*104
				rep := mustRun(t, c)
				if want := map[string]int{"bench/0": 104, "bench/1": 104, "bench/2": 104}; !maps.Equal(f.topics, want) {
					t.Errorf("got %v, want %v", f.topics, want)
				}
				acked, window := int64(312), 8
				if qos == 0 {
					acked, window = 0, 0
				}
				if rep.Published != 312 || rep.Acknowledged != acked || rep.Unacknowledged != 0 || rep.Errors != 0 || f.maxOpen != window {
					t.Errorf("window of %d: %+v", f.maxOpen, rep)
				}
				if qos > 0 && (rep.AckLatency.Count != 312 || rep.AckLatency.P50 <= 0 || rep.AckRate <= 0) {
					t.Errorf("%+v", rep.AckLatency)
				}
			})
		}
	}
}

// TestShares says that a count that does not divide evenly is kept.
func TestShares(t *testing.T) {
	f := newFake(t, nil)
	c := testConfig(f)
	c.Messages = 301
	if rep := mustRun(t, c); rep.Acknowledged != 301 || f.topics["bench/0"] != 101 || f.topics["bench/2"] != 100 {
		t.Errorf("%d acknowledged, %v", rep.Acknowledged, f.topics)
	}
}

// TestReceiveMaximum says that the server's limit is obeyed and reported.
func TestReceiveMaximum(t *testing.T) {
	f := newFake(t, func(f *fake) { f.receiveMaximum, f.ackBatch = 5, 5 })
	if rep := mustRun(t, testConfig(f)); f.maxOpen != 5 || rep.Window != 5 || rep.Acknowledged != 300 {
		t.Errorf("window of %d: %+v", f.maxOpen, rep)
	}
}

// TestConsume runs publishers and subscribers together, in pairs and shared.
func TestConsume(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, filter string
		subscribers  int
		want         int64
	}{
		{"pairs", "", 3, 300},
		{"one takes all", "bench/+", 1, 300},
		{"everybody takes all", "bench/#", 2, 600},
		{"share", "$share/g/bench/+", 2, 300},
	} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s/qos%d", tt.name, qos), func(t *testing.T) {
				t.Parallel()
				f := newFake(t, nil)
				c := testConfig(f)
				c.Subscribers, c.ConsumeFilter, c.QoS = tt.subscribers, tt.filter, qos
				rep := mustRun(t, c)
				if rep.Consumed != tt.want || rep.EndToEnd.Count != int(tt.want) || rep.Errors != 0 {
					t.Errorf("%+v", rep)
				}
				if rep.EndToEnd.P50 <= 0 || rep.EndToEnd.Max > time.Minute || rep.ConsumeRate <= 0 {
					t.Errorf("%+v", rep.EndToEnd)
				}
			})
		}
	}
}

// TestConsumeOnly takes what somebody else sends: the count ends it, and stamps of
// another run are not measured.
func TestConsumeOnly(t *testing.T) {
	f := newFake(t, nil)
	c := testConfig(f)
	c.Publishers, c.Subscribers, c.ConsumeFilter, c.Messages = 0, 1, "bench/#", 200
	other := testConfig(f)
	other.ClientIDPrefix = "other"
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			Run(ctx, other, io.Discard)
		}
	}()
	rep := mustRun(t, c)
	stop()
	<-ended
	if rep.Consumed < 200 || rep.EndToEnd.Count != 0 || rep.ConsumeRate <= 0 {
		t.Errorf("%+v", rep)
	}
}

// TestRefused counts reason codes, of which no latency is taken.
func TestRefused(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		f := newFake(t, func(f *fake) { f.ackBatch, f.refuse = 4, packet.CodeQuotaExceeded })
		c := testConfig(f)
		c.QoS, c.Window = qos, 4
		rep := mustRun(t, c)
		if rep.Acknowledged != 150 || rep.Refused["0x97"] != 150 || rep.AckLatency.Count != 150 || rep.Unacknowledged != 0 {
			t.Errorf("qos %d: %+v", qos, rep)
		}
	}
}

// TestTrouble covers servers that misbehave in the middle of a run: it ends by itself
// and tells.
func TestTrouble(t *testing.T) {
	for _, tt := range []struct {
		name       string
		setup      func(*fake)
		unanswered int64
		want       string
	}{
		{"silence", func(f *fake) { f.mute = true }, 24, "8 messages were not acknowledged within 50ms"},
		{"hangs up", func(f *fake) { f.hangUp, f.ackBatch = 8, 8 }, 24, "the server closed the connection"},
		{"disconnects", func(f *fake) { f.disconnect, f.ackBatch = 8, 8 }, 24, "the server disconnected with code 0x97: enough"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.setup)
			c := testConfig(f)
			c.Messages = 24
			c.Drain = 50 * time.Millisecond
			rep := mustRun(t, c)
			if rep.Errors != 3 || len(rep.FirstErrors) != 3 || !strings.Contains(rep.FirstErrors[0], tt.want) {
				t.Errorf("%d errors: %q", rep.Errors, rep.FirstErrors)
			}
			if rep.Unacknowledged != tt.unanswered {
				t.Errorf("%d unacknowledged", rep.Unacknowledged)
			}
		})
	}
}

// TestSetUpFails says that a run which cannot begin is an error.
func TestSetUpFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup func(*fake)
		want  string
	}{
		{"connack", func(f *fake) { f.connectCode = packet.CodeNotAuthorized }, "refused with code 0x87"},
		{"suback", func(f *fake) { f.subackCode = packet.CodeTopicFilterInvalid }, "refused with code 0x8f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig(newFake(t, tt.setup))
			c.Subscribers = 1
			if _, err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := Default()
		c.Address = ln.Addr().String()
		ln.Close()
		if _, err := Run(t.Context(), c, io.Discard); err == nil {
			t.Error("it ran")
		}
	})
}

// TestDuration ends a run without a count by the clock, with everything answered.
func TestDuration(t *testing.T) {
	f := newFake(t, nil)
	c := testConfig(f)
	c.Messages, c.Duration = 0, 100*time.Millisecond
	rep := mustRun(t, c)
	if rep.Published == 0 || rep.Published != rep.Acknowledged {
		t.Errorf("%+v", rep)
	}
}

// TestRate sends at a pace: a rate of 200/s for half a second is 100 messages, and
// never more.
func TestRate(t *testing.T) {
	t.Parallel()
	for qos := range byte(2) {
		f := newFake(t, nil)
		c := testConfig(f)
		c.Messages, c.Duration, c.Rate, c.QoS = 0, 500*time.Millisecond, 200, qos
		if rep := mustRun(t, c); rep.Published > 102 || rep.Published < 20 {
			t.Errorf("qos %d: %d messages", qos, rep.Published)
		}
	}
}

// TestCancel stops at once and reports what there is.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, qos := range []byte{0, 1} {
		f := newFake(t, func(f *fake) { f.mute = true })
		c := testConfig(f)
		c.Messages, c.Subscribers, c.Idle, c.QoS = 0, 1, 2, qos
		ctx, cancel := context.WithCancel(t.Context())
		w := &firstWrite{wrote: make(chan struct{})}
		go func() { <-w.wrote; cancel() }()
		rep, err := Run(ctx, c, w)
		if err != context.Canceled || rep.Published == 0 || rep.Errors != 0 || qos == 1 && rep.Unacknowledged != 24 {
			t.Errorf("qos %d: %v, %+v", qos, err, rep)
		}
	}
}

// firstWrite tells when the first line of progress comes.
type firstWrite struct {
	bytes.Buffer
	wrote chan struct{}
}

func (w *firstWrite) Write(b []byte) (int, error) {
	if w.Len() == 0 {
		close(w.wrote)
	}
	return w.Buffer.Write(b)
}

// TestIdle holds connections that do nothing, and finds those that are gone.
func TestIdle(t *testing.T) {
	f := newFake(t, nil)
	c := testConfig(f)
	c.Publishers, c.Idle, c.ConsumeFilter, c.Duration = 0, 20, "cmd/{client}", 100*time.Millisecond
	rep := mustRun(t, c)
	if rep.Idle != 20 || rep.IdleAlive != 20 || rep.Errors != 0 || len(f.connects) != 20 {
		t.Errorf("%+v", rep)
	}
}

// TestIdentity checks client ids, credentials and templates on the wire.
func TestIdentity(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{packet.V311, packet.V5} {
		f := newFake(t, nil)
		c := testConfig(f)
		c.Version, c.Publishers, c.Messages, c.Subscribers = version, 2, 2, 1
		c.Topic, c.Payload = ShadowTopic, ShadowPayload
		c.ClientIDPrefix, c.Username, c.Password = "thing", "{client}@demo", "secret"
		rep := mustRun(t, c)
		var ids []string
		for _, p := range f.connects {
			ids = append(ids, p.ClientID)
			if p.Version != version || !p.CleanStart || p.Username != p.ClientID+"@demo" || string(p.Password) != "secret" {
				t.Errorf("%+v", p)
			}
		}
		slices.Sort(ids)
		if want := []string{"thing-0", "thing-1", "thing-sub-0"}; !slices.Equal(ids, want) {
			t.Errorf("client ids %q", ids)
		}
		if f.topics["$emqx/things/thing-1/shadow/update"] != 1 {
			t.Errorf("topics %v", f.topics)
		}
		shape := regexp.MustCompile(`^\{"state":\{"reported":\{.*\}\},"clientToken":"tb[0-9a-f]{22}","version":0\}$`)
		if !shape.MatchString(f.payloads[0]) || rep.PayloadBytes != len(f.payloads[0]) || rep.EndToEnd.Count != 1 {
			t.Errorf("payload %s, %+v", f.payloads[0], rep)
		}
	}
}

// TestProgress looks at the lines that a run of more than a second writes.
func TestProgress(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	c := testConfig(f)
	c.Messages, c.Duration, c.Rate, c.Subscribers, c.Idle = 0, 1100*time.Millisecond, 100, 1, 1
	var w bytes.Buffer
	if _, err := Run(t.Context(), c, &w); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^   1s  published [\d,]+/s  acknowledged [\d,]+/s  consumed [\d,]+/s  idle 1$`)
	if !line.MatchString(w.String()) {
		t.Errorf("progress:\n%s", w.String())
	}
}

// TestMosquitto runs against the real thing where it is installed.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	address := startMosquitto(t)
	for _, version := range []byte{packet.V311, packet.V5} {
		for qos := range byte(3) {
			c := Default()
			c.Address, c.Version, c.QoS = address, version, qos
			c.Publishers, c.Subscribers, c.Window, c.Messages, c.Idle = 4, 4, 10, 400, 5
			c.Duration, c.Drain = time.Minute, 20*time.Second
			rep := mustRun(t, c)
			acked := int64(400)
			if qos == 0 {
				acked = 0
			}
			if rep.Published != 400 || rep.Acknowledged != acked || rep.Consumed != 400 || rep.IdleAlive != 5 || rep.Errors != 0 {
				t.Errorf("version %d, qos %d: %+v", version, qos, rep)
			}
		}
	}
}

// startMosquitto starts a broker of its own, which ends with the test.
func startMosquitto(t *testing.T) (address string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("TRIBUTARY_REQUIRE_CLIENTS") != "" {
			t.Fatal("mosquitto is not installed")
		}
		t.Skip("mosquitto is not installed")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(path, "-p", port) // without a configuration: loopback only, anonymous
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(60 * time.Second); ; {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			nc.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not listen: %v\n%s", err, output.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
