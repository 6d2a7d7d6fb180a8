package mqtt

import (
	"bufio"
	"context"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// tool finds an outside client. TRIBUTARY_REQUIRE_CLIENTS makes a missing one an
// error.
func tool(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("TRIBUTARY_REQUIRE_CLIENTS") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed; left out", name)
	}
	return path
}

func TestMosquittoClients(t *testing.T) {
	sub, pub := tool(t, "mosquitto_sub"), tool(t, "mosquitto_pub")
	for _, version := range []string{"311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			f := start(t, nil, nil)
			_, port, _ := net.SplitHostPort(f.addr)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			// defects: a will without payload
			s := exec.CommandContext(ctx, sub, "-V", version, "-p", port, "-i", "s", "-t", "t/#", "-q", qos, "-C", "3", "-v", "--will-topic", "w/t")
			out, err := s.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return f.counted("subscriptions") == 1 })
			for _, payload := range []string{"one", "two", "three"} {
				if b, err := exec.CommandContext(ctx, pub, "-V", version, "-p", port, "-i", "p", "-t", "t/"+payload, "-q", qos, "-m",
					payload).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, b)
				}
			}
			var got []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				got = append(got, lines.Text())
			}
			if err := s.Wait(); err != nil || strings.Join(got, ",") != "t/one one,t/two two,t/three three" {
				t.Errorf("version %s QoS %s: %v %q", version, qos, err, got)
			}
		}
	}
}

// The whole path as the quick start has it, with fakes for what lies behind.
func TestMosquittoConsumes(t *testing.T) {
	sub := tool(t, "mosquitto_sub")
	f := start(t, alice, nil)
	_, port, _ := net.SplitHostPort(f.addr)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s := exec.CommandContext(ctx, sub, "-V", "5", "-p", port, "-t", "app/my-app", "-q", "1", "-C", "1", "-D", "subscribe", "user-property",
		"stream-offset", "first")
	go func() {
		m := f.member()
		m.deliver(record(3, `{"celsius":21.5}`))
	}()
	b, err := s.CombinedOutput()
	if err != nil || !strings.Contains(string(b), `"data":{"celsius":21.5}`) {
		t.Fatalf("%v: %s", err, b)
	}
}

func TestPaho(t *testing.T) {
	f := start(t, nil, func(_ *settings, f *fixture) {
		f.router.unrouted = false
		f.router.respond = func(in *event.Inbound) stage.Outcome {
			if in.Event.Type == event.TypeSubscribe {
				return stage.Outcome{Code: event.NoMatchingSubscribers}
			}
			return stage.Outcome{}
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got := make(chan *paho.Publish, 10)
	server, _ := url.Parse("mqtt://" + f.addr)
	arrived := func(p paho.PublishReceived) (bool, error) {
		got <- p.Packet
		return true, nil
	}
	cm, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{server}, KeepAlive: 20, CleanStartOnInitialConnection: true, SessionExpiryInterval: 60,
		ConnectTimeout: 5 * time.Second,
		ClientConfig:   paho.ClientConfig{ClientID: "paho", OnPublishReceived: []func(paho.PublishReceived) (bool, error){arrived}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cm.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	id := 7
	if _, err := cm.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "t/+", QoS: 2}},
		Properties: &paho.SubscribeProperties{SubscriptionIdentifier: &id}}); err != nil {
		t.Fatal(err)
	}
	for qos := range byte(3) {
		r, err := cm.Publish(ctx, &paho.Publish{Topic: "t/x", QoS: qos, Payload: []byte{'0' + qos},
			Properties: &paho.PublishProperties{ContentType: "text/plain"}})
		if err != nil || r != nil && r.ReasonCode >= packet.CodeUnspecified {
			t.Fatalf("%v %+v", err, r)
		}
	}
	seen := map[string]bool{}
	for range 3 {
		select {
		case p := <-got:
			if p.QoS != p.Payload[0]-'0' || p.Properties.ContentType != "text/plain" || *p.Properties.SubscriptionIdentifier != 7 {
				t.Fatalf("%+v", p)
			}
			seen[string(p.Payload)] = true
		case <-ctx.Done():
			t.Fatalf("got only %v", seen)
		}
	}
	if err := cm.Disconnect(ctx); err != nil {
		t.Fatal(err)
	}
}
