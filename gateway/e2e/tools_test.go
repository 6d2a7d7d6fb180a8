package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// tool runs a subcommand to its end.
func tool(t testing.TB, input string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	watched()
	if artefacts.problem != nil {
		t.Fatal(artefacts.problem)
	}
	cmd := exec.Command(artefacts.binary, args...)
	cmd.Dir, cmd.Env = t.TempDir(), environment()
	cmd.Stdin = strings.NewReader(input)
	out, complaints := &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, complaints
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

func hashed(t testing.TB, password string) string {
	t.Helper()
	hash, stderr, status := tool(t, password+"\n", "hash-password")
	if shown := strings.Contains(hash+stderr, password) && len(password) > 6; status != 0 || shown { // a short one may come about by chance
		t.Fatalf("hash-password: status %d: %s%s", status, hash, stderr)
	}
	return strings.TrimSpace(hash)
}

// An application that nobody enters without a password: hashes from
// hash-password, devices and users by their logins, tail as a user.
func TestPasswords(t *testing.T) {
	g := start(t, demo("", `
[[routes]]
application = "plant"
plugin = "drogue"
[applications.plant.devices.pump-1]
password_hashes = ["`+hashed(t, "secret of the pump")+`", "`+hashed(t, "its next one")+`"]
[applications.plant.devices.pump-2]
password_hashes = ["`+hashed(t, "another")+`"]
disabled = true
[users.alice]
password_hashes = ["`+hashed(t, "pässwörd of alice")+`"]
read = ["plant"]
write = ["plant"]
[users.bob]
password_hashes = ["`+hashed(t, "bobs")+`"]
read = ["plant"]
`))
	connect := func(version byte, id, username, password string) (*client, byte) {
		t.Helper()
		c := g.dial(version)
		p := packet.Connect{Version: version, CleanStart: true, ClientID: id, Username: username, HasUsername: username != ""}
		if password != "" {
			p.Password, p.HasPassword = []byte(password), true
		}
		c.send(&p)
		return c, expect[*packet.Connack](c).Code
	}
	for _, c := range []struct {
		username, password string
		v5, v3             byte
	}{
		{"pump-1@plant", "secret of the pump", 0, 0},
		{"pump-1@plant", "its next one", 0, 0},
		{"pump-1@plant", "wrong", 0x86, 4},
		{"pump-1@plant", "", 0x86, 4},
		{"pump-1@demo", "secret of the pump", 0x86, 4},
		{"pump-2@plant", "another", 0x87, 5},
		{"nobody@plant", "x", 0x86, 4},
		{"@plant", "", 0x87, 5},
		{"alice", "pässwörd of alice", 0, 0},
		{"alice", "bobs", 0x86, 4},
	} {
		for version, want := range map[byte]byte{packet.V5: c.v5, packet.V311: c.v3} {
			if _, code := connect(version, "x/1", c.username, c.password); code != want {
				t.Errorf("%s %q, version %d: CONNACK %#x, want %#x", c.username, c.password, version, code, want)
			}
		}
	}

	pump, _ := connect(packet.V5, "any client id", "pump-1@plant", "secret of the pump")
	alice, _ := connect(packet.V5, "alice's", "alice", "pässwörd of alice")
	bob, _ := connect(packet.V5, "bob's", "bob", "bobs")
	for filter, want := range map[string]byte{"app/plant": 1, "app/demo": 0x87, "$share/g/app/demo": 0x87} {
		for _, user := range []*client{alice, bob} {
			if code := user.subscribe(filter); code != want {
				t.Errorf("%s: SUBACK %#x, want %#x", filter, code, want)
			}
		}
	}
	alice.send(&packet.Unsubscribe{ID: 2, Topics: []string{"app/plant"}})
	expect[*packet.Unsuback](alice)
	if code := pump.subscribe("app/plant"); code < 0x80 {
		t.Errorf("a device may read the log: SUBACK %#x", code)
	}
	if code := pump.subscribe("command/inbox/#"); code > 1 {
		t.Errorf("SUBACK %#x", code)
	}
	pump.accepted("pressure", `{"bar":2}`)
	if e := bob.event(); e.Device != "pump-1" || e.Application != "plant" {
		t.Errorf("%+v", e)
	}
	if ack := alice.publish("command/plant/pump-1/stop", ""); user(ack.Props, "status") != "delivered" {
		t.Errorf("a command: PUBACK %#x %s", ack.Code, reason(ack.Props))
	}
	if m := pump.next(); m.Topic != "command/inbox//stop" {
		t.Errorf("the pump got %s", m.Topic)
	}
	if ack := bob.publish("command/plant/pump-1/stop", ""); ack.Code != 0x87 {
		t.Errorf("a command without the right to: PUBACK %#x", ack.Code)
	}
	outsider := g.v5("outsider")
	if ack := outsider.publish("command/plant/pump-1/stop", ""); ack.Code != 0x87 {
		t.Errorf("a command of an outsider: PUBACK %#x", ack.Code)
	}
	if code := outsider.subscribe("app/plant"); code != 0x87 {
		t.Errorf("an outsider's subscription: SUBACK %#x", code)
	}

	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("pässwörd of alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, status := tool(t, "", "tail", "plant", "--address", g.mqtt, "--username", "alice", "--password-file", file, "--from", "first",
		"--count", "1")
	if status != 0 || !strings.Contains(out, "pump-1") || !strings.Contains(out, `{"bar":2}`) {
		t.Errorf("tail: status %d: %s%s", status, out, stderr)
	}
	out, stderr, status = tool(t, "wrong\n", "tail", "plant", "--address", g.mqtt, "--username", "alice", "--password-file", "-", "--from",
		"first", "--count", "1")
	if status == 0 || out != "" || !strings.Contains(stderr, "0x86") {
		t.Errorf("tail with a wrong password: status %d: %s%s", status, out, stderr)
	}
	g.stop()
	if log := g.out.tail(); strings.Contains(log, "secret") || strings.Contains(log, "argon2") {
		t.Errorf("the log tells secrets:\n%s", log)
	}
}

func TestTail(t *testing.T) {
	g := start(t, demo("", ""))
	g.v5("sensor-1").accepted("temperature", `{"celsius":21.5}`)
	out, stderr, status := tool(t, "", "tail", "demo", "--address", g.mqtt, "--from", "first", "--count", "1", "--json")
	if status != 0 {
		t.Fatalf("status %d: %s%s", status, out, stderr)
	}
	if e := parse(t, &packet.Publish{Payload: []byte(strings.TrimSpace(out))}); e.Device != "sensor-1" ||
		string(e.Data) != `{"celsius":21.5}` {
		t.Errorf("%+v", e)
	}
	lines := process(t, exec.Command(artefacts.binary, "tail", "demo", "--address", g.mqtt))
	g.heard(lines)
	g.v5("sensor-2").accepted("note", "live")
	if line := nextLine(t, lines, "sensor-2"); !strings.Contains(line, "note") {
		t.Errorf("tail prints %q", line)
	}
	if _, stderr, status := tool(t, "", "tail", "nowhere", "--address", g.mqtt); status == 0 || !strings.Contains(stderr, "0x87") {
		t.Errorf("tail of no application: status %d: %s", status, stderr)
	}
}

func TestCheck(t *testing.T) {
	check := func(config string) (string, int) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "gateway.toml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		out, stderr, status := tool(t, "", "check", "--config", file, "--set", "wasm.cache_dir="+artefacts.cache)
		return out + stderr, status
	}
	if said, status := check(demo(chaos(""), "")); status != 0 || !strings.Contains(said, "2 plugins") {
		t.Errorf("status %d: %s", status, said)
	}
	for _, c := range []struct{ name, config, says string }{
		{"an unknown key", demo("", "colour = 1"), "colour"},
		{"a wrong type", demo("", "messaging = 7"), "messaging"},
		{"a plugin that does not exist", strings.Replace(demo("", ""), "drogue.wasm", "drog.wasm", 1), "drog.wasm"},
		{"a plugin that is none", strings.Replace(demo("", ""), wasm("drogue"), artefacts.binary, 1), "drogue"},
		{"a route to no plugin", demo("[[routes]]\napplication = \"demo\"\nplugin = \"nothing\"", ""), "nothing"},
		{"a grant that is too small", strings.Replace(demo("", ""), `"io.drogue.event.v1", `, "", 1), "io.drogue.event.v1"},
	} {
		if said, status := check(c.config); status == 0 || !strings.Contains(said, c.says) {
			t.Errorf("%s: status %d: %s", c.name, status, said)
		}
	}
}

// After traffic the admin endpoint shows it, stage by stage.
func TestAdmin(t *testing.T) {
	g := start(t, demo(chaos(""), ""))
	if status, body := g.get("/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %s", status, body)
	}
	var ready struct {
		Ready   bool
		Reasons []string
	}
	if status, body := g.get("/readyz"); status != 200 || json.Unmarshal([]byte(body), &ready) != nil || !ready.Ready {
		t.Errorf("/readyz: %d %s", status, body)
	}
	member := g.member("m", "$share/g/app/demo", 3)
	g.fill(0, 10)
	d := g.v5("d1")
	d.publish("temperature", "{", &packet.Properties{ContentType: ptr("application/json")})
	d.publish("chaos", "panic")
	d.publish("a/b/c", "")
	member.next()
	eventually(t, "the group's lag is 9", func() bool {
		lag, _ := g.metric(`tributary_consumer_group_lag_records{group="s.g",log="e/demo"}`)
		return lag == 9
	})
	_, page := g.get("/metrics")
	for _, c := range []struct {
		sample string
		value  float64
	}{
		{`tributary_mqtt_received_messages_total{qos="1"}`, 13},
		{`tributary_router_outcomes_total{outcome="refused"}`, 3},
		{`tributary_router_emitted_total`, 10},
		{`tributary_router_quarantined_total`, 2},
		{`tributary_router_retries_total`, 1},
		{`tributary_consumer_group_members{group="s.g",log="e/demo"}`, 1},
		{`tributary_consumer_group_unacknowledged_records{group="s.g",log="e/demo"}`, 3},
	} {
		if value, ok := g.metric(c.sample); !ok || value != c.value {
			t.Errorf("%s is %v (%v), want %v", c.sample, value, ok, c.value)
		}
	}
	for _, family := range []string{"tributary_mqtt_received_bytes_total", "tributary_mqtt_sent_bytes_total",
		"tributary_router_latency_seconds_bucket",
		"tributary_plugin_", "tributary_store_", "tributary_registry_logins_total", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(page, "\n"+family) {
			t.Errorf("no metric %s", family)
		}
	}
}
