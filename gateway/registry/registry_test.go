package registry

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// cheap hashes a password at the lowest price, so that tests are quick.
func cheap(t testing.TB, password string) string {
	t.Helper()
	h, err := newHash([]byte(password), 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// plant is a configuration with one of everything.
func plant(t testing.TB) Config {
	open, closed := DefaultApplication(), DefaultApplication()
	open.Anonymous, open.Messaging = true, true
	device := func(change func(*Device)) Device {
		d := DefaultDevice()
		change(&d)
		return d
	}
	open.Devices = map[string]Device{
		"safe":   device(func(d *Device) { d.PasswordHashes = []string{cheap(t, "secret")} }),
		"off":    device(func(d *Device) { d.Disabled = true }),
		"narrow": device(func(d *Device) { d.Publish = []string{"data/#"} }),
	}
	closed.Devices = map[string]Device{
		"gw": device(func(d *Device) {
			d.GatewayFor = []string{"sensor-*", "pump"}
			d.PasswordHashes = []string{cheap(t, "gw-pw")}
		}),
		"gw2": device(func(d *Device) { d.GatewayFor = []string{"*-7"} }),
		"dead": device(func(d *Device) {
			d.GatewayFor = []string{"*"}
			d.Disabled = true
			d.PasswordHashes = []string{cheap(t, "x")}
		}),
		"sensor-9": device(func(d *Device) {
			d.PasswordHashes = []string{cheap(t, "old"), cheap(t, "new")}
		}),
		"sensor-3": device(func(d *Device) { d.Disabled = true }),
		"a@b":      device(func(d *Device) { d.PasswordHashes = []string{cheap(t, "at")} }),
	}
	return Config{
		Applications: map[string]Application{"open": open, "plant": closed},
		Users: map[string]User{
			"alice": {PasswordHashes: []string{cheap(t, "key")}, Read: []string{"plant", "open"}, Write: []string{"plant"}},
		},
	}
}

func connect(r *Registry, peer, client string, userAndPassword ...string) (*access.Grant, error) {
	c := &access.Credentials{Listener: "mqtt", Protocol: "mqtt", ClientID: client, Peer: netip.MustParseAddrPort(peer)}
	if len(userAndPassword) > 0 && userAndPassword[0] != "-" {
		c.Username, c.HasUsername = userAndPassword[0], true
	}
	if len(userAndPassword) > 1 {
		c.Password, c.HasPassword = []byte(userAndPassword[1]), true
	}
	return judge(context.Background(), r, c)
}

const near, far = "127.0.0.1:5000", "192.0.2.7:5000"

func TestConnect(t *testing.T) {
	r := open(t, plant(t), nil)
	device := func(app, name string, credential ...string) *access.Grant {
		return &access.Grant{Credential: "registry/" + strings.Join(append(credential, "password-1")[:1], ""),
			Principal: "device:" + app + "/" + name, Namespace: app, Application: app, Device: name, Publish: []string{"#"},
			Subscribe: []string{"#"}, Messaging: app == "open"}
	}
	anonymous := func(client string, publish ...string) *access.Grant {
		g := &access.Grant{Principal: "anonymous:open/" + client, Namespace: "open", Messaging: true, Read: []string{"open"},
			Write: []string{"open"}}
		if publish != nil {
			g.Application, g.Device, g.Publish, g.Subscribe = "open", client, publish, []string{"#"}
		}
		return g
	}
	tests := []struct {
		name         string
		peer, client string
		login        []string // user name ("-" for none), password
		grant        *access.Grant
		code         event.Code
	}{
		{"device", far, "any", []string{"gw@plant", "gw-pw"}, device("plant", "gw"), 0},
		{"device with @ in its name", far, "any", []string{"a@b@plant", "at"}, device("plant", "a@b"), 0},
		{"device of an anonymous application", far, "safe", []string{"safe@open", "secret"}, device("open", "safe"), 0},
		{"first of two passwords", far, "x", []string{"sensor-9@plant", "old"}, device("plant", "sensor-9"), 0},
		{"second of two passwords", far, "x", []string{"sensor-9@plant", "new"}, device("plant", "sensor-9", "password-2"), 0},
		{"user", far, "x", []string{"alice", "key"}, &access.Grant{Credential: "registry/password-1", Principal: "user:alice",
			Namespace: "user:alice", Read: []string{"plant", "open"}, Write: []string{"plant"}}, 0},
		{"anonymous device", near, "sensor-1", nil, anonymous("sensor-1", "#"), 0},
		{"anonymous over IPv6", "[::1]:1", "sensor-1", nil, anonymous("sensor-1", "#"), 0},
		{"anonymous over mapped IPv4", "[::ffff:127.0.0.1]:1", "sensor-1", nil, anonymous("sensor-1", "#"), 0},
		{"anonymous by application", near, "sensor-1", []string{"@open"}, anonymous("sensor-1", "#"), 0},
		{"anonymous declared device", near, "narrow", nil, anonymous("narrow", "data/#"), 0},
		{"anonymous reader without client id", near, "", nil, anonymous(""), 0},
		{"anonymous client id that is no device", near, "a/b", nil, nil, event.ClientIdentifierNotValid},
		{"anonymous client id that is a place in a path", near, "..", nil, nil, event.ClientIdentifierNotValid},
		{"anonymous client id that is a wildcard", near, "#", nil, nil, event.ClientIdentifierNotValid},
		{"anonymous client id that is too long", near, strings.Repeat("x", 129), nil, nil, event.ClientIdentifierNotValid},

		{"wrong password", far, "x", []string{"gw@plant", "nope"}, nil, event.BadUserNameOrPassword},
		{"password of another device", far, "x", []string{"gw@plant", "at"}, nil, event.BadUserNameOrPassword},
		{"empty password", far, "x", []string{"gw@plant", ""}, nil, event.BadUserNameOrPassword},
		{"long password", far, "x", []string{"gw@plant", strings.Repeat("x", 60000)}, nil, event.BadUserNameOrPassword},
		{"unknown device", far, "x", []string{"nope@plant", "gw-pw"}, nil, event.BadUserNameOrPassword},
		{"unknown application", far, "x", []string{"gw@nope", "gw-pw"}, nil, event.BadUserNameOrPassword},
		{"device in another application", far, "x", []string{"gw@open", "gw-pw"}, nil, event.BadUserNameOrPassword},
		{"unknown user", far, "x", []string{"bob", "key"}, nil, event.BadUserNameOrPassword},
		{"device without a password", far, "x", []string{"gw2@plant", ""}, nil, event.BadUserNameOrPassword},
		{"disabled device", far, "x", []string{"dead@plant", "x"}, nil, event.NotAuthorized},
		{"disabled device, wrong password", far, "x", []string{"dead@plant", "y"}, nil, event.BadUserNameOrPassword},
		{"password only", far, "x", []string{"-", "token"}, nil, event.BadUserNameOrPassword},
		{"user name only", far, "x", []string{"alice"}, nil, event.BadUserNameOrPassword},
		{"anonymous from afar", far, "sensor-1", nil, nil, event.NotAuthorized},
		{"anonymous from afar by application", far, "sensor-1", []string{"@open"}, nil, event.NotAuthorized},
		{"anonymous in a closed application", near, "sensor-1", []string{"@plant"}, nil, event.NotAuthorized},
		{"anonymous in no application", near, "sensor-1", []string{"@nope"}, nil, event.NotAuthorized},
		{"anonymous as a protected device", near, "safe", nil, nil, event.NotAuthorized},
		{"anonymous as a disabled device", near, "off", nil, nil, event.NotAuthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := connect(r, tt.peer, tt.client, tt.login...)
			var refusal *stage.Error
			if tt.grant == nil {
				if !errors.As(err, &refusal) || refusal.Code != tt.code || refusal.Reason == "" {
					t.Fatalf("got %+v, %v; want a refusal 0x%02X with a reason", got, err, byte(tt.code))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.grant, got); d != "" {
				t.Errorf("grant (-want +got):\n%s", d)
			}
		})
	}
}

func TestConnectAnonymousNeedsOneApplication(t *testing.T) {
	anonymous := DefaultApplication()
	anonymous.Anonymous = true
	for n, apps := range []map[string]Application{
		{"closed": DefaultApplication()},
		{"one": anonymous},
		{"one": anonymous, "two": anonymous},
	} {
		r := open(t, Config{Applications: apps}, nil)
		if _, err := connect(r, near, "d"); (err == nil) != (n == 1) {
			t.Errorf("%d applications allow it: %v", n, err)
		}
		g, err := connect(r, near, "d", "@one")
		if n > 0 && (err != nil || g.Application != "one") {
			t.Errorf("by name with %d applications: %+v, %v", n, g, err)
		}
	}
}

// A failed login costs the same number of hash computations whatever was wrong.
func TestConnectCostTellsNothing(t *testing.T) {
	r := open(t, plant(t), nil)
	if d := r.verify.price.Load().dummy; d.memory != 8 || d.passes != 1 {
		t.Errorf("the stand-in hash costs m=%d t=%d, the real ones m=8 t=1", d.memory, d.passes)
	}
	for _, login := range []string{"gw@plant", "sensor-9@plant", "gw2@plant", "nope@plant", "gw@nope", "alice", "bob", "dead@plant"} {
		before := r.verify.hashed.Load()
		_, err := connect(r, far, "c", login, "wrong")
		if e := (*stage.Error)(nil); !errors.As(err, &e) || e.Reason != "the user name or the password is wrong" {
			t.Errorf("%s: %v", login, err)
		}
		if n := r.verify.hashed.Load() - before; n != 2 {
			t.Errorf("%s: %d hashes computed, want 2", login, n)
		}
	}
}

func TestConnectRemembersSuccess(t *testing.T) {
	r := open(t, plant(t), nil)
	now := time.Unix(1e9, 0)
	r.verify.now = func() time.Time { return now }
	cost := func(user, password string) uint64 {
		before := r.verify.hashed.Load()
		connect(r, far, "c", user, password)
		return r.verify.hashed.Load() - before
	}
	if n := cost("gw@plant", "gw-pw"); n != 1 {
		t.Errorf("first login: %d hashes, want 1", n)
	}
	if n := cost("gw@plant", "gw-pw"); n != 0 {
		t.Errorf("second login: %d hashes, want 0", n)
	}
	if n := cost("gw@plant", "gw-pw2"); n != 2 {
		t.Errorf("another password: %d hashes, want 2", n)
	}
	now = now.Add(rememberFor)
	if n := cost("gw@plant", "gw-pw"); n != 1 {
		t.Errorf("login after %v: %d hashes, want 1", rememberFor, n)
	}
}

func TestVerifierForgets(t *testing.T) {
	v, err := newVerifier()
	if err != nil {
		t.Fatal(err)
	}
	for i := range rememberMost + 100 {
		v.remember(v.key(fmt.Sprint(i), "", nil))
	}
	if len(v.known) != rememberMost {
		t.Errorf("%d logins are remembered, want %d", len(v.known), rememberMost)
	}
	if !v.remembers(v.key(fmt.Sprint(rememberMost+99), "", nil)) {
		t.Error("the newest login is forgotten")
	}
}

func TestConnectGivesUpWaiting(t *testing.T) {
	r := open(t, plant(t), nil)
	for range cap(r.verify.slots) {
		r.verify.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := judge(ctx, r, &access.Credentials{Username: "alice", HasUsername: true, Password: []byte("key"), HasPassword: true})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestConnectConcurrently(t *testing.T) {
	r := open(t, plant(t), nil)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			good := i%2 == 0
			password := map[bool]string{true: "key", false: "bad"}[good]
			if _, err := connect(r, far, "c", "alice", password); (err == nil) != good {
				t.Errorf("password %s: %v", password, err)
			}
		})
	}
	wg.Wait()
}

func TestQuestions(t *testing.T) {
	r := open(t, plant(t), nil)
	if got := r.Applications(); !slices.Equal(got, []string{"open", "plant"}) {
		t.Errorf("applications: %v", got)
	}
	if !r.Exists("plant") || r.Exists("nope") {
		t.Error("Exists")
	}
	if age, bytes := r.Retention("plant"); age != 168*time.Hour || bytes != 1<<30 {
		t.Errorf("retention: %v, %d", age, bytes)
	}
	for _, tt := range []struct {
		app, device     string
		known, disabled bool
	}{
		{"open", "safe", true, false},
		{"open", "implicit", true, false},
		{"open", "off", true, true},
		{"open", "", false, false},
		{"open", "a/b", false, false},
		{"open", ".", false, false},
		{"open", "..", false, false},
		{"open", "...", true, false},
		{"open", "a\x00b", false, false},
		{"open", "a\u0085b", false, false},
		{"open", "a\uFFFEb", false, false},
		{"open", "a\xffb", false, false},
		{"plant", "gw", true, false},
		{"plant", "sensor-1", true, false}, // by gw
		{"plant", "pump", true, false},
		{"plant", "pump2", false, false},
		{"plant", "sensor-3", true, true},
		{"nope", "x", false, false},
	} {
		if known, disabled := r.Device(tt.app, tt.device); known != tt.known || disabled != tt.disabled {
			t.Errorf("Device(%q, %q) = %v, %v; want %v, %v", tt.app, tt.device, known, disabled, tt.known, tt.disabled)
		}
	}
	for _, tt := range []struct {
		app, gateway, device string
		want                 bool
	}{
		{"plant", "gw", "sensor-1", true},
		{"plant", "gw", "sensor-", true},
		{"plant", "gw", "pump", true},
		{"plant", "gw", "pump2", false},
		{"plant", "gw", "sensor-3", false}, // disabled
		{"plant", "gw", "sensor-a/b", false},
		{"plant", "dead", "sensor-1", false},
		{"plant", "dead", "dead", false},
		{"plant", "sensor-9", "sensor-1", false},
		{"plant", "sensor-9", "sensor-9", true},
		{"plant", "nope", "sensor-1", false},
		{"open", "gw", "sensor-1", false}, // of another application
		{"open", "implicit", "other", false},
		{"open", "implicit", "implicit", true},
		{"nope", "x", "x", false},
	} {
		if got := r.Trusts(tt.app, tt.gateway, tt.device); got != tt.want {
			t.Errorf("Trusts(%q, %q, %q) = %v", tt.app, tt.gateway, tt.device, got)
		}
	}
	for device, want := range map[string][]string{
		"sensor-7": {"gw", "gw2"},
		"pump":     {"gw"},
		"valve":    nil,
		"sensor-3": nil,
	} {
		if got := r.Gateways("plant", device); !slices.Equal(got, want) {
			t.Errorf("Gateways(%q) = %v, want %v", device, got, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "x", true}, {"a*", "a", true},
		{"a*b", "ab", true}, {"a*b", "axxb", true}, {"a*b", "abx", false}, {"a*a", "a", false},
		{"*a*b*", "xaxbx", true}, {"*ab*ab", "ab", false}, {"*ab*ab", "abab", true}, {"a**b", "ab", true},
		{"*-7", "sensor-77", false}, {"*-7", "a-7-7", true},
	} {
		if got := glob(tt.pattern, tt.name); got != tt.want {
			t.Errorf("glob(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	cfg := plant(t)
	long := strings.Repeat("x", 65)
	cfg.Applications["Bad_Name"] = Application{RetentionAge: -1, RetentionBytes: -1}
	cfg.Applications[long] = Application{}
	cfg.Applications["plant"].Devices["a/b"] = Device{GatewayFor: []string{"x/*"}, Publish: []string{"a/#/b"}, Subscribe: []string{""}}
	cfg.Applications["plant"].Devices["c"] = Device{PasswordHashes: []string{"hunter2"}, Certificates: []string{"12:34"},
		Aliases: []string{"gw", "serial"}}
	cfg.Applications["plant"].Devices["e"] = Device{Aliases: []string{"serial"}, Publish: []string{"{devcie}/#", "{device}/{x"},
		MessageRate: -1}
	cfg.Applications["plant"].Devices[".."] = Device{Aliases: []string{"."}}
	cfg.Users["."] = User{PasswordHashes: cfg.Users["alice"].PasswordHashes}
	cfg.Tokens = map[string]Token{"ci": {Hash: "hunter2", Role: "root"}}
	cfg.Users["d@plant"] = User{Read: []string{"No", "*"}, Write: []string{"a/b", "later"}}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("the error shows a secret")
	}
	for _, want := range []string{
		"applications.Bad_Name: an application's name",
		"applications.Bad_Name.retention_age: ",
		"applications.Bad_Name.retention_bytes: ",
		"applications." + long + ": an application's name",
		`applications.plant.devices."a/b": a device's name`,
		`applications.plant.devices."a/b".gateway_for: "x/*"`,
		`applications.plant.devices."a/b".publish: "a/#/b"`,
		`applications.plant.devices."a/b".subscribe: ""`,
		"applications.plant.devices.c.password_hashes: number 1: this is no argon2id hash",
		`users."d@plant": a user's name`,
		`users."d@plant": a user needs password_hashes`,
		`users."d@plant".read: "No" is no name of an application`,
		`users."d@plant".write: "a/b" is no name of an application`,
		`applications.plant.devices.c.certificates: "12:34" is no SHA-256 fingerprint`,
		`applications.plant.devices.c.aliases: "gw" is the name of a device`,
		`applications.plant.devices.e.aliases: "serial" is an alias of c already`,
		`applications.plant.devices.e.publish: "{devcie}/#" has the unknown placeholder {devcie}; there are {application}`,
		`applications.plant.devices.e.message_rate: -1 is negative`,
		`applications.plant.devices."..": a device's name`,
		`applications.plant.devices."..".aliases: "." cannot be an alias`,
		`users.".": a user's name`,
		`tokens.ci.hash: this is no hash of a token`,
		`tokens.ci.role: the role is "root"; use reader, operator or admin`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 23 {
		t.Errorf("%d problems, want 23:\n%v", n, err)
	}
	if _, err := New(cfg, &memory{}, discard()); err == nil {
		t.Error("New accepts it")
	}
}

func TestHash(t *testing.T) {
	s, err := Hash([]byte("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	if !h.matches([]byte("correct horse")) || h.matches([]byte("correct horsf")) {
		t.Error("the hash does not tell right from wrong")
	}
	for _, bad := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := Hash([]byte(bad)); err == nil {
			t.Errorf("a password of %d bytes is hashed", len(bad))
		}
	}
}

// testdata/hashes.txt says where its vectors come from.
func TestParseHashVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/hashes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verdict, s, _ := strings.Cut(line, " ")
		h, err := parseHash(s)
		switch verdict {
		case "bad":
			if err == nil {
				t.Errorf("%s is accepted", s)
			}
		default:
			if err != nil {
				t.Errorf("%s: %v", s, err)
			} else if !h.matches([]byte(verdict)) {
				t.Errorf("%s does not match %q", s, verdict)
			}
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$kJBHXWGOPdNSP2AQBRhSwJGXmeTPQHm3Vk2jVYXQYm8")
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			return
		}
		if h.memory > maxMemory || h.passes > maxPasses || h.threads == 0 || len(h.sum) == 0 {
			t.Errorf("out of bounds: %+v", h)
		}
		if h.String() != s {
			t.Errorf("%q is read as %q", s, h.String())
		}
	})
}

func BenchmarkConnectRemembered(b *testing.B) {
	r := open(b, plant(b), nil)
	c := &access.Credentials{Username: "gw@plant", HasUsername: true, Password: []byte("gw-pw"), HasPassword: true}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := judge(context.Background(), r, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConnectFirst(b *testing.B) {
	s, err := Hash([]byte("pw"))
	if err != nil {
		b.Fatal(err)
	}
	h, _ := parseHash(s)
	b.ReportAllocs()
	for b.Loop() {
		h.matches([]byte("wrong"))
	}
}

func BenchmarkTrusts(b *testing.B) {
	r := open(b, plant(b), nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Trusts("plant", "gw", "sensor-1")
	}
}
