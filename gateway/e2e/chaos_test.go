package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// chaos is the misbehaving plugin and the routes of topics chaos and chaos/#.
func chaos(limits string) string {
	return `
[plugins.chaos]
path = "` + wasm("chaos") + `"
[plugins.chaos.grant]
emit = ["test.chaos.*"]
state_bytes = 4096
` + limits + `
[[routes]]
application = "demo"
plugin = "chaos"
type = "io.tributary.publish.v1"
topic = "chaos/#"
`
}

// A plugin that loops, recurses, exhausts its memory, panics or answers garbage
// on some events: their devices hear it soon, the events end in quarantine, and
// other devices on the same plugin lose nothing and keep their order.
func TestPluginFaults(t *testing.T) {
	repeats := 3
	if testing.Short() {
		repeats = 1
	}
	// Few shards, so that good and bad devices share instances.
	g := start(t, demo(chaos("deadline = \"100ms\"\nmemory_bytes = 16777216"), ""), "--set", "router.shards=2")
	stop := make(chan struct{})
	f := newFleet(4, 2)
	for _, p := range f {
		p.topic = "chaos"
	}
	wait := f.publish(t, g.mqtt, stop)
	eventually(t, "the well-behaved devices are at it", func() bool {
		n, _ := g.metric("tributary_router_emitted_total")
		return n > 100
	})
	var bad []string
	faults := []string{"spin", "recurse", "memory", "panic", "garbage", "outside"}
	for i := range repeats {
		for _, mode := range faults {
			for _, version := range []byte{packet.V5, packet.V311} {
				d, _ := g.login(packet.Connect{Version: version, CleanStart: true, ClientID: fmt.Sprintf("bad-%d", i)})
				begin := time.Now()
				ack := d.publish("chaos", mode)
				// Two attempts, each up to its deadline, behind others on a busy machine.
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("%s was answered after %v", mode, took)
				}
				if version == packet.V5 && ack.Code != 0x83 {
					t.Errorf("%s: PUBACK %#x %s", mode, ack.Code, reason(ack.Props))
				}
				d.quiet()
				d.nc.Close()
				bad = append(bad, mode)
			}
		}
	}
	close(stop)
	wait()
	d := g.v5("after")
	d.accepted("chaos", "fine")
	log := g.events()
	f.verify(t, log)
	if f.acked() < 500 {
		t.Errorf("only %d events of others were acknowledged", f.acked())
	}
	for _, e := range log {
		if strings.HasPrefix(e.Device, "bad-") {
			t.Errorf("the log holds %q of %s", e.Data, e.Device)
		}
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	var quarantined []string
	for _, e := range g.stored(store.Quarantine("demo")) {
		quarantined = append(quarantined, string(e.Data))
		if plugin, _ := e.Extension("plugin"); plugin != "chaos" {
			t.Errorf("%q was quarantined for %q", e.Data, plugin)
		}
	}
	if !slices.Equal(quarantined, bad) {
		t.Errorf("quarantine\n%q, want\n%q", quarantined, bad)
	}
}

// State and events are committed together: a counter in a plugin's state has no
// gap and no repetition, whoever counts, also over faults and a kill.
func TestPluginState(t *testing.T) {
	g := start(t, demo(chaos(""), ""))
	want := 0
	count := func(devices, each int) {
		t.Helper()
		var clients []*client
		for i := range devices {
			c := g.v5(fmt.Sprintf("counter-%d", i))
			for n := range each {
				c.send(&packet.Publish{Topic: "chaos", QoS: 1, ID: uint16(n + 1), Payload: []byte("count")})
			}
			clients = append(clients, c)
		}
		for _, c := range clients {
			for range each {
				if ack := expect[*packet.Ack](c); ack.Code != 0 {
					t.Fatalf("PUBACK %#x %s", ack.Code, reason(ack.Props))
				}
			}
			c.nc.Close()
		}
		want += devices * each
	}
	count(4, 100) // all of them change one key at once
	if ack := g.v5("bad").publish("chaos", "panic"); ack.Code != 0x83 {
		t.Errorf("PUBACK %#x %s", ack.Code, reason(ack.Props))
	}
	count(2, 50)
	g.restart()
	count(4, 50)
	counts := slices.DeleteFunc(g.events(), func(e event.Event) bool { return e.Type != "test.chaos.count" })
	if len(counts) != want {
		t.Errorf("%d events, want %d", len(counts), want)
	}
	for i, e := range counts {
		if string(e.Data) != fmt.Sprint(i+1) {
			t.Fatalf("event %d has the count %s", i, e.Data)
		}
	}
}
