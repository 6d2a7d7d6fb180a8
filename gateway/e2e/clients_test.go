package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// The whole path with each client: device → plugin → log → consumer group, and
// command → device.

func TestMosquitto(t *testing.T) {
	mosquittoSub, mosquittoPub := program(t, "mosquitto_sub"), program(t, "mosquitto_pub")
	for _, version := range []string{"5", "311"} {
		t.Run(version, func(t *testing.T) {
			g := start(t, demo("", ""))
			group := background(t, g, mosquittoSub, "-V", version, "-t", "$share/readers/app/demo", "-q", "1")
			g.heard(group)
			foreground(t, g, mosquittoPub, "-V", version, "-i", "m-1", "-t", "temperature", "-q", "1", "-m", `{"celsius":21.5}`)
			foreground(t, g, mosquittoPub, "-V", version, "-i", "m-1", "-t", "note", "-q", "2", "-m", `no JSON`)
			e := parse(t, &packet.Publish{Payload: []byte(nextLine(t, group, `"subject":"temperature"`))})
			if e.Device != "m-1" || string(e.Data) != `{"celsius":21.5}` {
				t.Errorf("%+v", e)
			}
			e = parse(t, &packet.Publish{Payload: []byte(nextLine(t, group, `"subject":"note"`))})
			if e.DataContentType != "application/octet-stream" || string(e.Data) != "no JSON" {
				t.Errorf("%+v", e)
			}

			// Nothing ever comes below $SYS/, but a filter there does not spoil the others. The plugin
			// grants QoS 0 for commands.
			out := foreground(t, g, mosquittoSub, "-V", version, "-i", "m-3", "-d", "-E", "-q", "1", "-t", "command/inbox/#", "-t", "$SYS/#")
			if !strings.Contains(out, "Subscribed (mid: 1): 0, 1\n") {
				t.Errorf("subscribing to $SYS/#, too: %s", out)
			}

			// A device that is there, one that was, one that never was.
			keep := []string{"-V", version, "-i", "m-2", "-t", "command/inbox/#", "-q", "1", "-v", "-c"}
			if version == "5" {
				keep = append(keep, "-x", "3600")
			}
			first := background(t, g, mosquittoSub, append(keep, "-C", "1")...)
			command := func(device, payload, code string) {
				t.Helper()
				out := foreground(t, g, mosquittoPub, "-V", "5", "-d", "-t", "command/demo/"+device+"/setTemperature", "-q", "1", "-m", payload)
				if !strings.Contains(out, "RC:"+code+")") {
					t.Errorf("a command to %s: want RC:%s: %s", device, code, out)
				}
			}
			eventually(t, "m-2 is subscribed", func() bool {
				n, _ := g.metric("tributary_mqtt_subscriptions")
				return n == 1
			})
			command("m-2", `{"value":1.23}`, "0")
			if line := nextLine(t, first, ""); line != `command/inbox//setTemperature {"value":1.23}` {
				t.Errorf("the device got %q", line)
			}
			for range first { // it has gone
			}
			eventually(t, "only the group's member and its session are left", func() bool {
				n, _ := g.metric("tributary_mqtt_connections")
				return n == 1
			})
			command("m-2", `{"value":4.56}`, "0")
			second := background(t, g, mosquittoSub, keep...)
			if line := nextLine(t, second, "4.56"); line != `command/inbox//setTemperature {"value":4.56}` {
				t.Errorf("the device that returned got %q", line)
			}
			command("m-3", "", "16")
		})
	}
}

// pahoClient is a client of paho.golang with what it got.
type pahoClient struct {
	*paho.Client
	got chan *paho.Publish
}

func (g *gateway) paho(id string) *pahoClient {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.mqtt)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.pahoOver(nc, id)
}

func (g *gateway) pahoOver(nc net.Conn, id string) *pahoClient {
	g.t.Helper()
	c := &pahoClient{got: make(chan *paho.Publish, 1000)}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn:     packets.NewThreadSafeConn(nc), // over TLS a PINGREQ would get between the writes of another packet
		ClientID: id, PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.got <- r.Packet
			return true, nil
		}},
	})
	ack, err := c.Connect(g.t.Context(), &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 30})
	if err != nil || ack.ReasonCode != 0 {
		g.t.Fatalf("paho: %v %+v", err, ack)
	}
	g.t.Cleanup(func() { c.Disconnect(&paho.Disconnect{}) })
	return c
}

// publish returns the reason code and the reason string of the PUBACK, and its
// user property status.
func (c *pahoClient) publish(t *testing.T, p *paho.Publish) (code byte, status string) {
	t.Helper()
	p.QoS = 1
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := c.Publish(ctx, p)
	if res == nil {
		t.Fatalf("paho: %v", err)
	}
	if res.Properties != nil {
		status = res.Properties.User.Get("status")
	}
	return res.ReasonCode, status
}

func (c *pahoClient) subscribe(t *testing.T, filter string, user ...paho.UserProperty) byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := c.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}, Properties: &paho.SubscribeProperties{User: user}})
	if ack == nil {
		t.Fatalf("paho: %v", err)
	}
	return ack.Reasons[0]
}

func (c *pahoClient) next(t *testing.T, want func(*paho.Publish) bool) *paho.Publish {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case p := <-c.got:
			if want(p) {
				return p
			}
		case <-late:
			t.Fatal("paho got nothing")
		}
	}
}

func TestPaho(t *testing.T) {
	g := start(t, demo("", ""))
	structured, binary := g.paho("p-structured"), g.paho("p-binary")
	if code := structured.subscribe(t, "$share/a/app/demo"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	if code := binary.subscribe(t, "$share/b/app/demo", paho.UserProperty{Key: "content-mode", Value: "binary"}); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	if code := binary.subscribe(t, "app/demo", paho.UserProperty{Key: "content-mode", Value: "batch"}); code != 0x83 {
		t.Errorf("content-mode=batch: SUBACK %#x", code)
	}

	device := g.paho("p-1")
	if code := device.subscribe(t, "command/inbox/#"); code > 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	if code, _ := device.publish(t, &paho.Publish{Topic: "temperature", Payload: []byte(`{"celsius":21.5}`),
		Properties: &paho.PublishProperties{ContentType: "application/json", User: paho.UserProperties{{Key: "x", Value: "y"}}}}); code != 0 {
		t.Errorf("PUBACK %#x", code)
	}
	p := structured.next(t, func(p *paho.Publish) bool { return bytes.Contains(p.Payload, []byte(`"temperature"`)) })
	if p.Topic != "app/demo" || p.Properties.ContentType != "application/cloudevents+json; charset=utf-8" {
		t.Errorf("structured: %+v", p)
	}
	var a event.Event
	if err := codec.ParseJSON(p.Payload, &a); err != nil {
		t.Fatal(err)
	}
	p = binary.next(t, func(p *paho.Publish) bool { return p.Properties.User.Get("subject") == "temperature" })
	if p.Topic != "app/demo" || p.Properties.ContentType != "application/json" || string(p.Payload) != `{"celsius":21.5}` {
		t.Errorf("binary: %+v %s", p, p.Payload)
	}
	for name, want := range map[string]string{"id": a.ID, "source": "drogue://demo/p%2D1", "specversion": "1.0", "device": "p-1",
		"application": "demo", "type": "io.drogue.event.v1", "datacontenttype": ""} {
		if got := p.Properties.User.Get(name); got != want {
			t.Errorf("user property %s is %q, want %q", name, got, want)
		}
	}

	// Commands.
	if code, status := structured.publish(t, &paho.Publish{Topic: "command/demo/p-1/blink", Payload: []byte{0, 255}}); code != 0 ||
		status != "delivered" {
		t.Errorf("a command: PUBACK %#x %q", code, status)
	}
	if p := device.next(t, func(*paho.Publish) bool { return true }); p.Topic != "command/inbox//blink" ||
		!bytes.Equal(p.Payload, []byte{0, 255}) {
		t.Errorf("the device got %+v", p)
	}
	away := g.kept("p-2")
	if code := away.subscribe("command/inbox/#"); code > 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	away.send(&packet.Disconnect{})
	away.recv()
	eventually(t, "the device is away and its commands queue", func() bool {
		code, status := structured.publish(t, &paho.Publish{Topic: "command/demo/p-2/blink", Payload: []byte("1")})
		return code == 0 && status == "queued"
	})
	if m := g.kept("p-2").take(); m.Topic != "command/inbox//blink" {
		t.Errorf("the device that returned got %+v", m)
	}
	if code, status := structured.publish(t, &paho.Publish{Topic: "command/demo/p-3/blink", Payload: []byte("1")}); code != 0x10 ||
		status != "no-such-device" {
		t.Errorf("a command to nobody: PUBACK %#x %q", code, status)
	}

	// Reason codes.
	for _, c := range []struct {
		name, topic, contentType, payload string
		code                              byte
	}{
		{"bad JSON", "temperature", "application/json", "{", 0x99},
		{"three levels", "a/b/c", "", "x", 0x90},
		{"for another device", "temperature/p-2", "", "x", 0x87},
		{"a command without a name", "command/demo/p-1", "", "x", 0x83},
		{"a command in no application", "command/nowhere/p-1/blink", "", "x", 0x87},
	} {
		props := &paho.PublishProperties{ContentType: c.contentType}
		if code, _ := device.publish(t, &paho.Publish{Topic: c.topic, Payload: []byte(c.payload), Properties: props}); code != c.code {
			t.Errorf("%s: PUBACK %#x, want %#x", c.name, code, c.code)
		}
	}
}

func TestMQTTjs(t *testing.T) {
	node := program(t, "node")
	env := os.Environ()
	if dir := os.Getenv("TRIBUTARY_MQTTJS_DIR"); dir != "" {
		modules, err := filepath.Abs(filepath.Join(dir, "node_modules"))
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, "NODE_PATH="+modules+string(os.PathListSeparator)+os.Getenv("NODE_PATH"))
	}
	probe := exec.Command(node, "-e", "require('mqtt')")
	probe.Env = env
	if probe.Run() != nil {
		without(t, "mqtt.js is not in NODE_PATH or TRIBUTARY_MQTTJS_DIR: npm install --prefix <directory> mqtt")
	}
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)))
	for _, x := range []struct{ url, version string }{
		{"mqtt://" + g.mqtt, "5"}, {"mqtt://" + g.mqtt, "4"},
		{"ws://" + g.out.address("mqtt.ws") + "/mqtt", "5"}, {"ws://" + g.out.address("mqtt.ws") + "/mqtt", "4"},
		{"wss://" + g.out.address("mqtt.wss") + "/mqtt", "5"}, {"mqtts://" + g.out.address("mqtt.tls"), "4"},
	} {
		scheme, _, _ := strings.Cut(x.url, ":")
		version := x.version
		t.Run("version "+version+" "+scheme, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, node, "testdata/mqttjs/path.js", x.url, version)
			cmd.Env = append(env, "NODE_EXTRA_CA_CERTS="+filepath.Join(ca.dir, "ca.pem"))
			complaints := &bytes.Buffer{}
			cmd.Stderr = complaints
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, complaints)
			}
			type answer struct {
				Code       byte
				Properties struct{ UserProperties map[string]any }
			}
			var said struct {
				Granted                                   byte
				Accepted, Delivered, Absent, Strange, Bad answer
				Delivery, Command                         struct {
					Topic, Payload string
					Properties     struct{ ContentType string }
				}
			}
			if err := json.Unmarshal(out, &said); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			e := parse(t, &packet.Publish{Payload: []byte(said.Delivery.Payload)})
			if said.Granted != 1 || said.Accepted.Code != 0 || said.Delivery.Topic != "app/demo" || e.Device != "js-1" ||
				string(e.Data) != `{"celsius":21.5}` {
				t.Errorf("the way up: %s", out)
			}
			if said.Delivered.Code != 0 || said.Command.Topic != "command/inbox//setTemperature" || said.Command.Payload != `{"value":1.23}` {
				t.Errorf("the way down: %s", out)
			}
			if version == "5" && (said.Absent.Code != 0x10 || said.Strange.Code != 0x90 || said.Bad.Code != 0x99 ||
				said.Delivered.Properties.UserProperties["status"] != "delivered") {
				t.Errorf("reason codes: %s", out)
			}
			if version == "5" && said.Delivery.Properties.ContentType != "application/cloudevents+json; charset=utf-8" {
				t.Errorf("content type: %s", out)
			}
		})
	}
}
