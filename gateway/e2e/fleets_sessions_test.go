package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/event"
)

// The whole walk with a client library: shadow, event, command, job.
func TestFleetsPaho(t *testing.T) {
	g := start(t, fleets(t, ""))
	w := g.witness()
	device := g.paho("walker")
	root, requests := "$emqx/things/walker/", "$emqx/commands/things/walker/executions/"
	for _, filter := range []string{root + "shadow/update/+", root + "shadow/update", root + "jobs/#", requests + "+/request"} {
		if code := device.subscribe(t, filter); code != 1 {
			t.Fatalf("%s: SUBACK %#x", filter, code)
		}
	}
	say := func(topic, payload string) {
		t.Helper()
		if code, _ := device.publish(t, &paho.Publish{Topic: topic, Payload: []byte(payload)}); code != 0 {
			t.Fatalf("%s: PUBACK %#x", topic, code)
		}
	}
	hear := func(topic string, out any) *paho.Publish {
		t.Helper()
		m := device.next(t, func(m *paho.Publish) bool {
			if m.Topic == root+"shadow/update" {
				t.Errorf("the device hears itself: %s", m.Payload)
			}
			return strings.HasPrefix(m.Topic, topic)
		})
		if err := json.Unmarshal(m.Payload, out); err != nil {
			t.Fatal(err)
		}
		return m
	}
	var doc struct {
		Version   int64
		Action    string
		Execution *struct {
			JobID         string
			Status        string
			VersionNumber int64
			JobDocument   map[string]any
		}
	}
	say(root+"shadow/update", `{"state":{"reported":{"t":20}}}`)
	hear(root+"shadow/update/accepted", &doc)
	g.asked("PUT", "/api/v1/things/walker/shadow/desired", `{"state":{"t":22}}`, 200, nil)
	if hear(root+"shadow/update/delta", &doc); doc.Version != 2 {
		t.Errorf("version %d", doc.Version)
	}
	say(root+"shadow/update", `{"state":{"reported":{"t":22}},"version":2}`)
	hear(root+"shadow/update/accepted", &doc)
	say(root+"events/high", `{"severity":"warn","data":{"t":22}}`)

	var command struct{ ExecutionID, Status string }
	g.asked("POST", "/api/v1/commands", `{"thingName":"walker","action":"blink","ttl":60}`, 201, &command)
	if m := hear(requests, &doc); m.Topic != requests+command.ExecutionID+"/request" || doc.Action != "blink" ||
		*m.Properties.MessageExpiry > 60 {
		t.Errorf("%+v %s", m, m.Payload)
	}
	say(requests+command.ExecutionID+"/response", `{"status":"SUCCEEDED"}`)
	if g.asked("GET", "/api/v1/commands/executions/"+command.ExecutionID, "", 200, &command); command.Status != "SUCCEEDED" {
		t.Errorf("the command is %s", command.Status)
	}

	var job struct{ JobID, Status string }
	g.asked("POST", "/api/v1/jobs", `{"document":{"go":1},"targets":{"thingNames":["walker"]}}`, 201, &job)
	if hear(root+"jobs/notify-next", &doc); doc.Execution == nil || doc.Execution.JobID != job.JobID {
		t.Fatalf("%+v", doc.Execution)
	}
	say(root+"jobs/start-next", `{}`)
	if hear(root+"jobs/start-next/accepted", &doc); doc.Execution.Status != "IN_PROGRESS" || doc.Execution.JobDocument["go"] != 1.0 {
		t.Errorf("%+v", doc.Execution)
	}
	say(root+"jobs/"+job.JobID+"/update", `{"status":"SUCCEEDED","expectedVersion":2}`)
	hear(root+"jobs/"+job.JobID+"/update/accepted", &doc)
	if g.asked("GET", "/api/v1/jobs/"+job.JobID, "", 200, &job); job.Status != "COMPLETED" {
		t.Errorf("the job is %s", job.Status)
	}
	eventually(t, "the last event", func() bool {
		return w.seen(false, func(e *event.Event) bool { return e.Type == "io.tributary.fleets.job.v1" && e.Subject == "COMPLETED" })
	})
	checkFleetsEvents(t, w)
}

// registered is application fleet with the devices d1 and d2, which the registry
// knows, each with its name as its password.
func registered(t testing.TB) string {
	var b strings.Builder
	for _, name := range []string{"d1", "d2"} {
		fmt.Fprintf(&b, `
[applications.fleet.devices.%s]
password_hashes = ["%s"]
publish = ["$emqx/things/{device}/#", "$emqx/commands/things/{device}/#"]
subscribe = ["$emqx/things/{device}/#", "$emqx/commands/things/{device}/#"]
`, name, hashed(t, name))
	}
	return b.String()
}

// as is a CONNECT of a registered device's client.
func as(device, id string, version byte) packet.Connect {
	return packet.Connect{Version: version, CleanStart: true, ClientID: id, Username: device + "@fleet", HasUsername: true,
		Password: []byte(device), HasPassword: true}
}

// A device may speak and hear only of its own thing, whatever its client is called,
// also where the registry's filters have placeholders.
func TestFleetsRights(t *testing.T) {
	g := start(t, fleets(t, registered(t)))
	for _, version := range []byte{packet.V311, packet.V5} {
		d := g.thing("d1", as("d1", "some-client", version))
		if code := d.want("$emqx/things/d1/#"); code != 1 {
			t.Errorf("its own topics: SUBACK %#x", code)
		}
		if code := d.say("$emqx/things/d1/shadow/update", []byte(`{"state":{"reported":{"v":1}}}`)); code != 0 {
			t.Errorf("its own shadow: PUBACK %#x", code)
		}
		d.heard("$emqx/things/d1/shadow/update/accepted")
		for _, filter := range []string{"$emqx/things/d2/#", "$emqx/things/+/shadow/update/delta", "$emqx/things/#", "$emqx/#", "#",
			"+/things/d2/#",
			"$emqx/commands/things/d2/executions/+/request", "$share/g/$emqx/things/d2/#", "$emqx/things/{device}/#", "$emqx/things/some-client/#"} {
			if code := d.want(filter); code < 0x80 {
				t.Errorf("MQTT %d: %s: SUBACK %#x", version, filter, code)
			}
		}
		for _, topic := range []string{"$emqx/things/d2/shadow/update", "$emqx/things/some-client/shadow/update",
			"$emqx/things/{device}/shadow/update",
			"$emqx/commands/things/d2/executions/e/response", "elsewhere"} {
			c := g.thing("d1", as("d1", "some-client-2", version)) // a 3.1.1 client is told by the end of its connection, or by nothing
			c.send(&packet.Publish{Topic: topic, Payload: []byte(`{"state":{"reported":{"v":1}}}`), QoS: 1, ID: 1})
			switch ack := c.recv().(type) {
			case *packet.Ack:
				if version == packet.V5 && ack.Code != 0x87 {
					t.Errorf("%s: PUBACK %#x", topic, ack.Code)
				}
			case nil:
			default:
				t.Errorf("%s: %+v", topic, ack)
			}
			c.nc.Close()
		}
	}
	var shadow struct{ Version int64 }
	for name, want := range map[string]int64{"d1": 2, "d2": 0, "some-client": 0, "%7Bdevice%7D": 0} {
		if g.asked("GET", "/api/v1/thing-datas/"+name+"/shadow", "", 200, &shadow); shadow.Version != want {
			t.Errorf("the shadow of %s has version %d, want %d", name, shadow.Version, want)
		}
	}
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/thing-datas/d1/shadow", "", 200},
		{"GET", "/thing-datas/d2/shadow", "", 403},
		{"POST", "/thing-datas/shadow/reported", `{"thingName":"d1","state":{"reported":{"v":2}}}`, 200},
		{"POST", "/thing-datas/shadow/reported", `{"thingName":"d2","state":{"reported":{"v":2}}}`, 403},
		{"POST", "/thing-datas/jobs/start-next", `{"thingName":"d2"}`, 403},
		{"POST", "/thing-datas/events", `{"thingName":"d2","eventType":"x","severity":"info"}`, 403},
		{"GET", "/things", "", 403},
		{"PUT", "/things/d1/shadow/desired", `{"state":{"v":3}}`, 403},
		{"POST", "/commands", `{"thingName":"d1","action":"x"}`, 403},
		{"POST", "/jobs", `{"document":{},"targets":{"thingNames":["d1"]}}`, 403},
	} {
		status, answer, err := g.rest(c.method, "/api/v1"+c.path, []byte(c.body), "d1@fleet:d1")
		if err != nil || status != c.want {
			t.Errorf("%s %s %s: %d %s %v, want %d", c.method, c.path, c.body, status, answer, err, c.want)
		}
	}
}

// What a device with a persistent session is to hear while it is away waits for it,
// over the gateway's death too; a command that is over does not.
func TestFleetsAway(t *testing.T) {
	g := start(t, fleets(t, ""))
	connects := map[string]packet.Connect{
		"old": {Version: packet.V311, ClientID: "old"},
		"new": {Version: packet.V5, ClientID: "new", Props: &packet.Properties{SessionExpiry: ptr(uint32(3600))}},
	}
	for name, p := range connects {
		d := g.thing(name, p)
		for _, filter := range []string{"$emqx/things/" + name + "/shadow/update/delta", "$emqx/things/" + name + "/jobs/#",
			"$emqx/commands/things/" + name + "/executions/+/request"} {
			if code := d.want(filter); code != 1 {
				t.Fatalf("SUBACK %#x", code)
			}
		}
		d.settled()
		d.send(&packet.Disconnect{})
		d.recv()
	}
	type command struct{ ExecutionID, Status string }
	live, dead, jobs := map[string]string{}, map[string]string{}, map[string]string{}
	for name := range connects {
		eventually(t, name+" is away", func() bool {
			var th struct{ Status string }
			g.asked("GET", "/api/v1/things/"+name, "", 200, &th)
			return th.Status == "offline"
		})
		g.asked("PUT", "/api/v1/things/"+name+"/shadow/desired", `{"state":{"mode":"eco"}}`, 200, nil)
		var c command
		g.asked("POST", "/api/v1/commands", `{"thingName":"`+name+`","action":"wake","ttl":600}`, 201, &c)
		live[name] = c.ExecutionID
		g.asked("POST", "/api/v1/commands", `{"thingName":"`+name+`","action":"hurry","ttl":1}`, 201, &c)
		dead[name] = c.ExecutionID
		var j struct{ JobID string }
		g.asked("POST", "/api/v1/jobs", `{"document":{"n":1},"targets":{"thingNames":["`+name+`"]}}`, 201, &j)
		jobs[name] = j.JobID
	}
	g.restart()
	status := func(id string) string {
		var c command
		g.asked("GET", "/api/v1/commands/executions/"+id, "", 200, &c)
		return c.Status
	}
	for name := range connects {
		eventually(t, "the short command is over", func() bool { return status(dead[name]) == "TIMED_OUT" })
	}
	time.Sleep(time.Second) // the request's message expiry began a moment later than the command
	for name, p := range connects {
		d := g.thing(name, p)
		root, requests := "$emqx/things/"+name+"/", "$emqx/commands/things/"+name+"/executions/"
		d.settled()
		d.heard(root + "shadow/update/delta")
		d.heard(requests + live[name] + "/request")
		for _, topic := range []string{root + "jobs/notify", root + "jobs/notify-next"} {
			if m := d.heard(topic); !strings.Contains(string(m.Payload), jobs[name]) {
				t.Errorf("%s %s", m.Topic, m.Payload)
			}
		}
		for _, m := range d.inbox {
			t.Errorf("%s: %s %s", name, m.Topic, m.Payload)
		}
		if code := d.say(requests+live[name]+"/response", []byte(`{"status":"SUCCEEDED"}`)); code != 0 || status(live[name]) != "SUCCEEDED" {
			t.Errorf("%s: PUBACK %#x, the command is %s", name, code, status(live[name]))
		}
	}
}

// Updates of one shadow that name the version which they expect, from two sessions
// of one device and two clients of REST at once: each version is made by one update,
// and who is refused was late.
func TestFleetsConflicts(t *testing.T) {
	const each = 60
	g := start(t, fleets(t, registered(t)))
	g.asked("POST", "/api/v1/thing-datas/shadow/reported", `{"thingName":"d1","state":{"reported":{"v":0}}}`, 200, nil)
	var mu sync.Mutex
	made := map[int64]string{1: "the first"}
	conflicts := 0
	type answer struct {
		Code        any
		Version     int64
		ClientToken string
	}
	// writer makes its updates; send does one and returns the answer, current reads the version.
	writer := func(name string, send func(body string) answer, current func() int64) {
		version := int64(1)
		for n := 0; n < each; {
			token := fmt.Sprintf("%s-%d", name, n)
			a := send(fmt.Sprintf(`{"thingName":"d1","state":{"reported":{"%s":%d}},"version":%d,"clientToken":"%s"}`, name, n, version, token))
			if a.ClientToken != token {
				t.Errorf("%s: the answer to %s is %+v", name, token, a)
				return
			}
			if a.Code == nil {
				mu.Lock()
				if a.Version != version+1 || made[a.Version] != "" {
					t.Errorf("%s: an update that expects %d made %d, as did %q", name, version, a.Version, made[a.Version])
				}
				made[a.Version] = token
				mu.Unlock()
				version = a.Version
				n++
				continue
			}
			mu.Lock()
			conflicts++
			mu.Unlock()
			late := version
			if version = current(); a.Code != 409.0 || version <= late {
				t.Errorf("%s: %+v at version %d: the shadow has %d", name, a, late, version)
				return
			}
		}
	}
	overREST := func(body string) (a answer) {
		_, text, err := g.rest("POST", "/api/v1/thing-datas/shadow/reported", []byte(body))
		if err != nil || json.Unmarshal(text, &a) != nil {
			t.Errorf("%s %v", text, err)
		}
		return a
	}
	versionOverREST := func() int64 {
		_, text, err := g.rest("GET", "/api/v1/thing-datas/d1/shadow", nil)
		var a answer
		if err != nil || json.Unmarshal(text, &a) != nil {
			t.Errorf("%s %v", text, err)
		}
		return a.Version
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { writer(fmt.Sprint("rest", i), overREST, versionOverREST) })
		d := g.thing("d1", as("d1", fmt.Sprint("session", i), packet.V5))
		ask := func(verb, body string) (a answer) {
			topic := "$emqx/things/d1/shadow/" + verb
			if code := d.say(topic, []byte(body)); code != 0 {
				t.Errorf("PUBACK %#x", code)
			}
			is := func(m *packet.Publish) bool {
				return strings.HasPrefix(m.Topic, topic+"/") && !strings.HasSuffix(m.Topic, "/delta")
			}
			if !slices.ContainsFunc(d.inbox, is) {
				d.until(func(p packet.Packet) bool { m, ok := p.(*packet.Publish); return ok && is(m) })
			}
			if err := json.Unmarshal(d.inbox[len(d.inbox)-1].Payload, &a); err != nil {
				t.Error(err)
			}
			d.inbox = nil
			return a
		}
		wg.Go(func() {
			writer(fmt.Sprint("mqtt", i), func(body string) answer { return ask("update", body) }, func() int64 { return ask("get", `{}`).Version })
		})
	}
	wg.Wait()
	if last := versionOverREST(); last != 4*each+1 || len(made) != 4*each+1 {
		t.Errorf("%d updates were accepted, the version is %d", len(made), last)
	}
	t.Logf("%d updates, %d conflicts", len(made), conflicts)
	w := g.witness()
	eventually(t, "the last update in the log", func() bool {
		return w.seen(false, func(e *event.Event) bool {
			return strings.Contains(string(e.Data), fmt.Sprintf(`"version":%d,`, 4*each+1))
		})
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	next := int64(1)
	for _, e := range w.log {
		var a answer
		if e.Type != "io.tributary.fleets.shadow.v1" {
			continue
		}
		if err := json.Unmarshal(e.Data, &a); err != nil || a.Version != next || next > 1 && made[next] != a.ClientToken {
			t.Fatalf("after version %d: %s %v", next-1, e.Data, err)
		}
		next++
	}
}
