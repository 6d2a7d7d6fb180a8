package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/registry"
	"tributary.io/gateway/resource"
)

// anywhere has drogue handle the events of every application.
const anywhere = `
[[routes]]
application = "*"
plugin = "drogue"
`

// cli runs the command line beside the gateway, with the token that it left.
func (g *gateway) cli(args ...string) (status int, out, errs string) {
	g.t.Helper()
	return g.cliAs("", args...)
}

// cliAs runs the command line with a token.
func (g *gateway) cliAs(token string, args ...string) (status int, out, errs string) {
	g.t.Helper()
	cmd := exec.Command(artefacts.binary, args...)
	cmd.Env = append(environment(), "TRIBUTARY_URL=http://"+g.admin, "TRIBUTARY_TOKEN_FILE="+filepath.Join(g.dir, "admin.token"))
	if token != "" {
		cmd.Env = append(cmd.Env, "TRIBUTARY_TOKEN="+token)
	}
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.Run()
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// did runs a command that has to work, and returns what it prints.
func (g *gateway) did(args ...string) string {
	g.t.Helper()
	status, out, errs := g.cli(args...)
	if status != 0 {
		g.t.Fatalf("tributary %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// present logs in with a user name and a password or key.
func (g *gateway) present(id, username, password string) (*client, byte) {
	g.t.Helper()
	c := g.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id, Username: username, HasUsername: true,
		Password: []byte(password), HasPassword: true})
	return c, expect[*packet.Connack](c).Code
}

// in is present where it has to work.
func (g *gateway) in(id, username, password string) *client {
	g.t.Helper()
	c, code := g.present(id, username, password)
	if code != 0 {
		g.t.Fatalf("%s: CONNACK %#x", username, code)
	}
	return c
}

// The registry's whole life on a running gateway: what is made connects, what is
// taken away ends.
func TestAdminWalk(t *testing.T) {
	g := start(t, demo(anywhere, ""))
	g.did("app", "create", "plant", "--retention-age", "2d")
	g.did("device", "create", "plant", "pump-1", "--alias", "A0000007", "--publish", "{device}")
	key := strings.TrimSpace(g.did("key", "create", "pump-1@plant", "--label", "first"))
	g.did("user", "create", "alice", "--read", "plant")
	password := strings.TrimSpace(g.did("key", "create", "alice", "--kind", "password"))

	reader := g.in("reader", "alice", password)
	if code := reader.subscribe("app/plant"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	pump := g.in("pump", "A0000007@plant", key)
	pump.accepted("pump-1", "21.5")
	if e := reader.event(); e.Application != "plant" || e.Device != "pump-1" || string(e.Data) != "21.5" {
		t.Errorf("event %+v", e)
	}
	if ack := pump.publish("pump-2", "1"); ack.Code != 0x87 {
		t.Errorf("beyond its rights: PUBACK %#x", ack.Code)
	}
	if _, code := g.present("pump", "pump-1@plant", key+"x"); code != 0x86 && code != 0x87 {
		t.Errorf("a wrong key: CONNACK %#x", code)
	}

	if out := g.did("connection", "list", "--application", "plant"); !strings.Contains(out, "device:plant/pump-1") {
		t.Errorf("connections:\n%s", out)
	}
	if out := g.did("device", "list", "plant"); !regexp.MustCompile(`pump-1 +- +key first +A0000007`).MatchString(out) {
		t.Errorf("devices:\n%s", out)
	}

	// A right that is taken away holds on a live connection.
	g.did("device", "set", "plant", "pump-1", "--publish", "other")
	eventually(t, "the right is gone", func() bool { return pump.publish("pump-1", "2").Code == 0x87 })
	g.did("device", "set", "plant", "pump-1", "--publish", "{device}")
	eventually(t, "the right is back", func() bool { return pump.publish("pump-1", "3").Code == 0 })

	g.did("connection", "kick", "plant", "pump")
	pump.ends(0x98)
	pump = g.in("pump", "pump-1@plant", key) // nothing keeps it away
	second := strings.TrimSpace(g.did("key", "create", "pump-1@plant", "--label", "second"))
	other := g.in("other", "pump-1@plant", second)
	g.did("key", "delete", "pump-1@plant", g.keyID("pump-1@plant", "first"), "--yes")
	pump.ends(0x87)
	other.quiet() // the other key's connection lives
	if _, code := g.present("pump", "pump-1@plant", key); code == 0 {
		t.Error("a revoked key is right")
	}
	g.did("device", "disable", "plant", "pump-1")
	other.ends(0x87)
	if _, code := g.present("pump", "pump-1@plant", second); code != 0x87 {
		t.Errorf("a disabled device: CONNACK %#x", code)
	}
	g.did("device", "enable", "plant", "pump-1")

	g.restart() // kill -9: what was answered is there
	pump = g.in("pump", "pump-1@plant", second)
	pump.accepted("pump-1", "22")
	reader = g.in("reader", "alice", password)
	if code := reader.subscribe("app/plant", "stream-offset", "last"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	if e := reader.event(); string(e.Data) != "22" {
		t.Errorf("event %+v", e)
	}
	g.did("device", "delete", "plant", "pump-1", "--yes")
	pump.ends(0x87)
	g.did("user", "delete", "alice", "--yes")
	reader.ends(0x87)
	g.did("app", "delete", "plant", "--purge", "--yes")
	if status, _, errs := g.cli("app", "show", "plant"); status != 3 || !strings.Contains(errs, "there is no application plant") {
		t.Errorf("status %d: %s", status, errs)
	}
	eventually(t, "the log is purged", func() bool {
		left, _ := g.metric(`tributary_store_log_records{log="e/plant"}`)
		return left == 0
	})
	g.noSecrets(key, second, password)
}

// ends expects the gateway to end the connection with a code.
func (c *client) ends(code byte) {
	c.t.Helper()
	for {
		switch p := c.recv().(type) {
		case *packet.Disconnect:
			if p.Code != code {
				c.t.Errorf("DISCONNECT %#x %s, want %#x", p.Code, reason(p.Props), code)
			}
			return
		case nil:
			c.t.Errorf("the connection ended without a word, want %#x", code)
			return
		}
	}
}

// keyID is the id of a credential with a label.
func (g *gateway) keyID(login, label string) string {
	g.t.Helper()
	var list []struct{ ID, Label string }
	if err := json.Unmarshal([]byte(g.did("key", "list", login, "--output", "json")), &list); err != nil {
		g.t.Fatal(err)
	}
	for _, c := range list {
		if c.Label == label {
			return c.ID
		}
	}
	g.t.Fatalf("%s has no credential %s: %v", login, label, list)
	return ""
}

// noSecrets looks for secrets in everything that the gateway wrote.
func (g *gateway) noSecrets(secrets ...string) {
	g.t.Helper()
	g.stop()
	token, err := os.ReadFile(filepath.Join(g.dir, "admin.token"))
	if err != nil {
		g.t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(g.dir, "admin.token")); err != nil || info.Mode().Perm() != 0o600 {
		g.t.Errorf("admin.token: %v, %v", info.Mode(), err)
	}
	secrets = append(secrets, strings.TrimSpace(string(token)))
	files, err := filepath.Glob(filepath.Join(g.dir, "store", "*"))
	if err != nil || len(files) == 0 {
		g.t.Fatal("no files", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // a directory
		}
		for _, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				g.t.Errorf("%s holds a secret", file)
			}
		}
	}
	g.out.mu.Lock()
	defer g.out.mu.Unlock()
	for _, line := range g.out.lines {
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				g.t.Errorf("logged: %s", line)
			}
		}
	}
}

// What is answered with success survives a kill at any moment.
func TestAdminSurvivesKill(t *testing.T) {
	g := start(t, demo(anywhere, ""))
	g.did("app", "create", "plant")
	for round := range 3 {
		token, err := os.ReadFile(filepath.Join(g.dir, "admin.token"))
		if err != nil {
			t.Fatal(err)
		}
		answered := make([]int, 4)
		started := make(chan struct{}, len(answered))
		var wg sync.WaitGroup
		for w := range answered {
			wg.Go(func() {
				for n := 0; ; n++ {
					req, _ := http.NewRequest(http.MethodPut, fmt.Sprintf("http://%s/api/v1/applications/plant/devices/d%d-%d-%d", g.admin, round, w, n),
						strings.NewReader(`{}`))
					req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
					req.Header.Set("Content-Type", "application/json")
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						return
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusCreated {
						t.Errorf("status %d", resp.StatusCode)
						return
					}
					if answered[w] = n + 1; n == 20 {
						started <- struct{}{}
					}
				}
			})
		}
		<-started
		g.kill()
		wg.Wait()
		g.run()
		var devices []struct{ Name string }
		if err := json.Unmarshal([]byte(g.did("device", "list", "plant", "--prefix", fmt.Sprintf("d%d-", round), "--output", "json")),
			&devices); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, d := range devices {
			there[d.Name] = true
		}
		for w, n := range answered {
			for i := range n {
				if name := fmt.Sprintf("d%d-%d-%d", round, w, i); !there[name] {
					t.Errorf("%s was answered and is lost", name)
				}
			}
		}
	}
}

// Tokens, roles, the file and what a wrong command line is told.
func TestAdminTokens(t *testing.T) {
	status, out, errs := tributary("token", "create", "ops", "--role", "reader", "--application", "demo", "--print-config")
	declared, lines, _ := strings.Cut(out, "\n")
	if status != 0 || !strings.HasPrefix(declared, "tra_") || !strings.Contains(lines, "[tokens.ops]") {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	g := start(t, demo(anywhere, "[applications.demo.devices.fixed]\n"+lines))
	operator := strings.TrimSpace(g.did("token", "create", "ci", "--role", "operator", "--expires", "1d"))
	for _, tt := range []struct {
		token, line string
		status      int
		err         string
	}{
		{declared, "app list", 0, ""},
		{declared, "device create demo d", 1, "this needs the role operator; the token ops has reader"},
		{declared, "user list", 1, "for some applications only"},
		{declared, "group list plant", 1, "not for application plant"},
		{operator, "device create demo d", 0, ""},
		{operator, "device create demo d", 1, "device d exists already"},
		{operator, "device set demo d", 2, "nothing is to be changed"},
		{operator, "device set demo d --publish a#", 1, "publish: \"a#\" is no MQTT topic filter"},
		{operator, "device set demo fixed --disabled", 1, "declared in gateway.toml"},
		{operator, "device show demo nope", 3, "there is no device nope in application demo"},
		{operator, "app create x", 1, "this needs the role admin"},
		{operator, "device list", 2, "it takes: device list <application>"},
		{operator, "device list demo --output yaml", 2, "table or json"},
		{operator, "key create d@demo --expires soon", 2, "neither a time"},
		{operator, "connection kick demo nobody", 3, "no connection of nobody"},
		{operator, "device delete demo ..", 3, "there is no device .."},
		{operator, "device delete demo .. --yes", 3, "there is no device .."},
		{operator, "key delete d@demo .. --yes", 3, "there is no credential .."},
		{operator, "device create demo ..", 1, "neither . nor .."},
		{operator, "device delete demo d", 2,
			"this deletes device d of application demo with its 0 credentials; standard input is no terminal to confirm it on, so say --yes"},
		{operator, "device show demo d", 0, ""},
		{"tra_wrong", "app list", 1, "the token is wrong, expired or revoked; the token came from $TRIBUTARY_TOKEN. One from admin.token_file " +
			"ends with its gateway: name the file of the gateway that runs with --token-file"},
		{operator, "app list --url http://127.0.0.1:1", 1, "is it running, and is --url"},
		{operator, "app list --token-file nope", 1, "reading the token: open nope"},
	} {
		status, out, errs := g.cliAs(tt.token, strings.Fields(tt.line)...)
		if status != tt.status || !strings.Contains(errs, tt.err) {
			t.Errorf("%s: status %d, want %d\n%s%s\nwant %s", tt.line, status, tt.status, out, errs, tt.err)
		}
	}
	g.did("token", "delete", "ci", "--yes")
	if status, _, errs := g.cliAs(operator, "app", "list"); status != 1 || !strings.Contains(errs, "revoked") {
		t.Errorf("a revoked token: %d %s", status, errs)
	}
	if out := g.did("token", "list"); !regexp.MustCompile(`ops +reader +demo +.*gateway.toml`).MatchString(out) {
		t.Errorf("tokens:\n%s", out)
	}
	for path, want := range map[string]int{"/api/v1/applications": 401, "/api/nope": 401, "/api/": 200, "/api/v1/openapi.json": 200,
		"/metrics": 200} {
		if status, _ := g.get(path); status != want {
			t.Errorf("%s without a token: %d, want %d", path, status, want)
		}
	}
}

// tributary runs the command line with no gateway.
func tributary(args ...string) (status int, out, errs string) {
	cmd := exec.Command(artefacts.binary, args...)
	cmd.Env = environment()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.Run()
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// Groups can be seen and forgotten.
func TestAdminGroups(t *testing.T) {
	g := start(t, demo("", ""))
	member := g.member("m", "$share/billing/app/demo", 10)
	g.v5("d").accepted("x", "1")
	member.next()
	if out := g.did("group", "list", "demo"); !regexp.MustCompile(`s\.billing +- +\d+ +\d+ +1 `).MatchString(out) {
		t.Errorf("groups:\n%s", out)
	}
	if status, _, errs := g.cli("group", "delete", "demo", "s.billing", "--yes"); status != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("a group in use: %d %s", status, errs)
	}
	member.nc.Close()
	eventually(t, "the group can be deleted", func() bool {
		status, _, _ := g.cli("group", "delete", "demo", "s.billing", "--yes")
		return status == 0
	})
	if out := g.did("group", "list", "demo", "--output", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("groups after it: %s", out)
	}
}

// Sessions of an application go when it is purged, those of clients that nobody
// registered too, and do not come back.
func TestPurgedSessions(t *testing.T) {
	g := guarded(t, `"anonymous"`, "")
	g.api("PUT", "/applications/yard", map[string]any{"name": "yard", "anonymous": true, "messaging": true}, nil)
	expiry := uint32(3600)
	p := attempt{username: "@yard"}.connect(packet.V5)
	p.CleanStart, p.Props = false, &packet.Properties{SessionExpiry: &expiry}
	g.login(p)
	sessions := func() float64 {
		n, _ := g.metric("tributary_mqtt_sessions")
		return n
	}
	if n := sessions(); n != 1 {
		t.Fatalf("%v sessions", n)
	}
	g.api("DELETE", "/applications/yard?purge=true", nil, nil)
	if n := sessions(); n != 0 {
		t.Errorf("%v sessions when the application is purged", n)
	}
	g.restart()
	if n := sessions(); n != 0 {
		t.Errorf("%v sessions after a restart", n)
	}
}

// What a crash left of a purge goes at the next start, also where the application
// is there again by then.
func TestPurgeOverCrash(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("again=", again), func(t *testing.T) {
			g := guarded(t, `"anonymous"`, "")
			yard := map[string]any{"name": "yard", "anonymous": true, "messaging": true}
			g.api("PUT", "/applications/yard", yard, nil)
			expiry := uint32(3600)
			p := attempt{username: "@yard"}.connect(packet.V5)
			p.CleanStart, p.Props = false, &packet.Properties{SessionExpiry: &expiry}
			g.login(p)
			g.stop()
			g.interruptPurge("yard")
			if again {
				g.options = append(g.options, "--set", "applications.yard.anonymous=true")
			}
			g.run()
			if n, _ := g.metric("tributary_mqtt_sessions"); n != 0 {
				t.Errorf("%v sessions after the start", n)
			}
			if !again {
				g.api("PUT", "/applications/yard", yard, nil) // nothing is left that would be in its way
			}
		})
	}
}

// interruptPurge deletes an application in the store of the stopped gateway, as far
// as a gateway gets that crashes then.
func (g *gateway) interruptPurge(application string) {
	g.t.Helper()
	st := g.disk()
	reg, err := registry.New(registry.Config{}, st, slog.New(slog.DiscardHandler))
	if err == nil {
		err = reg.DeleteApplication(application, true, resource.Precondition{})
	}
	if err := errors.Join(err, st.Close()); err != nil {
		g.t.Fatal(err)
	}
}
