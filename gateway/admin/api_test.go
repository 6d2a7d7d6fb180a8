package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/registry"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store/pebble"
)

// fixture is an API over a real registry, with fake connections and groups.
type fixture struct {
	t        *testing.T
	registry *registry.Registry
	handler  http.Handler
	tokens   map[string]string // by role, "limited" is an admin for application plant
	logs     *syncBuffer
	host     int // tells addresses apart
	document *validator

	connections []resource.Connection
	kicked      []string
	groups      []resource.Group
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (f *fixture) Connections(match func(*resource.Connection) bool, namespace, client string, limit int) (list []resource.Connection) {
	for _, c := range f.connections {
		behind := c.Namespace > namespace || c.Namespace == namespace && c.ClientID > client
		if behind && match(&c) && len(list) < limit {
			list = append(list, c)
		}
	}
	return list
}

func (f *fixture) Kick(namespace, client string, forget bool) bool {
	f.kicked = append(f.kicked, fmt.Sprint(namespace, " ", client, " ", forget))
	return slices.ContainsFunc(f.connections, func(c resource.Connection) bool { return c.Namespace == namespace && c.ClientID == client })
}

func (f *fixture) Groups(application string) (list []resource.Group) {
	for _, g := range f.groups {
		if g.Application == application {
			list = append(list, g)
		}
	}
	return list
}

func (f *fixture) DeleteGroup(application string, quarantine bool, name string) error {
	for i, g := range f.groups {
		if g.Application == application && g.Name == name && g.Quarantine == quarantine {
			f.groups = slices.Delete(f.groups, i, i+1)
			return nil
		}
	}
	return &resource.Fault{Kind: resource.NotFound, Reason: "there is no group " + name}
}

func routedInTests(application string) bool { return application == "plant" }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, logs: &syncBuffer{}, tokens: map[string]string{}, document: newValidator(t)}
	log := slog.New(slog.NewTextHandler(f.logs, nil))
	cfg := pebble.Default()
	cfg.Dir = t.TempDir()
	st, err := pebble.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	filed := registry.DefaultApplication()
	filed.Devices = map[string]registry.Device{"fixed": registry.DefaultDevice()}
	if f.registry, err = registry.New(registry.Config{Applications: map[string]registry.Application{"filed": filed}}, st, log); err != nil {
		t.Fatal(err)
	}
	for role, token := range map[string]resource.Token{
		"reader": {Role: resource.Reader}, "operator": {Role: resource.Operator}, "admin": {Role: resource.Admin},
		"limited": {Role: resource.Admin, Applications: []string{"plant"}},
	} {
		token.Name = role
		if _, f.tokens[role], err = f.registry.CreateToken(token); err != nil {
			t.Fatal(err)
		}
	}
	f.connections = []resource.Connection{
		{Listener: "mqtt", Protocol: "mqtt/5", Namespace: "filed", ClientID: "c", Principal: "device:filed/fixed", Application: "filed",
			Device: "fixed", Method: "password", Online: true, Since: time.Unix(1e9, 0).UTC(), Peer: "192.0.2.1:1"},
		{Listener: "mqtt", Protocol: "mqtt/5", Namespace: "plant", ClientID: "a/b", Principal: "device:plant/x", Application: "plant",
			Device: "x", Method: "key", Since: time.Unix(1e9, 0).UTC()},
		{Listener: "mqtt", Protocol: "mqtt/3.1.1", Namespace: "user:alice", ClientID: "c", Principal: "user:alice", Method: "password",
			Online: true, Since: time.Unix(1e9, 0).UTC()},
	}
	f.groups = []resource.Group{{Application: "plant", Name: "s.billing", Position: 7, Lag: 3},
		{Application: "plant", Name: "c.user:alice/x", Quarantine: true}}
	f.handler = New(Config{Address: ":0"}, Parts{Ready: func() []string { return nil }, Registry: f.registry, Routed: routedInTests,
		Connections: f, Groups: f}, log).http.Handler
	return f
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// member returns a member of the body, in JSON.
func (a *answer) member(name string) string {
	var m map[string]json.RawMessage
	json.Unmarshal([]byte(a.body), &m)
	return string(m[name])
}

// do makes a request as the holder of a token; headers are "Name: value".
func (f *fixture) do(token, method, path, body string, headers ...string) *answer {
	f.t.Helper()
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.RemoteAddr = fmt.Sprintf("192.0.%d.%d:5", f.host>>8, f.host&255)
	if secret, ok := f.tokens[token]; ok {
		req.Header.Set("Authorization", "Bearer "+secret)
	} else if token != "" {
		req.Header.Set("Authorization", token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, req)
	a := &answer{w.Code, w.Result().Header, w.Body.String()}
	if strings.HasPrefix(path, prefix+"/") && !strings.HasSuffix(path, "openapi.json") {
		path, _, _ = strings.Cut(path, "?")
		if problem := f.document.answer(method, path, a); problem != "" {
			f.t.Errorf("%s %s: %d %s\nis not as the document says: %s", method, path, a.status, a.body, problem)
		}
	}
	return a
}

// A walk through everything, each step with what it is answered.
func TestWalk(t *testing.T) {
	f := newFixture(t)
	steps := []struct {
		token, method, path, body, headers string
		status                             int
		want                               string // regular expression
	}{
		{"admin", "GET", "/applications", "", "", 200, `^\{"items":\[\{"name":"filed","fromFile":true.*"devices":1,"routed":false\}\]\}`},
		{"admin", "GET", "/applications/plant", "", "", 404, `there is no application plant`},
		{"operator", "PUT", "/applications/plant/devices/x", `{}`, "", 404, `there is no application plant`},
		{"admin", "PUT", "/applications/plant", `{"messaging":true}`, "If-Match: \"1\"", 412, `does not exist any more`},
		{"admin", "PUT", "/applications/plant", `{"messaging":true}`, "If-Match: *", 412, `there is no application plant`},
		{"admin", "PUT", "/applications/plant", `{"messaging":true}`, "If-None-Match: *", 201,
			`"messaging":true,"retentionSeconds":604800,"retentionBytes":1073741824`},
		{"admin", "PUT", "/applications/plant", `{"messaging":true}`, "If-None-Match: *", 412, `exists already`},
		{"admin", "PUT", "/applications/plant", `{"messaging":false,"name":"plant"}`, "", 200, `"messaging":false`},
		{"limited", "PUT", "/applications/plant", `{"messageRate":5}`, "If-Match: *", 200, `"messageRate":5`},
		{"admin", "PUT", "/applications/filed", `{}`, "", 409, `declared in gateway.toml: change it there`},
		{"admin", "DELETE", "/applications/filed", "", "", 409, `declared in gateway.toml`},
		{"admin", "PUT", "/applications/No", `{}`, "", 400, `"field":"name"`},
		{"admin", "PUT", "/applications/plant", `{"name":"garden"}`, "", 400, `"field":"name"`},
		{"admin", "PUT", "/applications/plant", `{"retentionSeconds":-1}`, "", 400, `"field":"retentionSeconds"`},
		{"admin", "PUT", "/applications/plant", `{"retentionSeconds":"7d"}`, "", 400,
			`a string does not fit here; it takes a whole number".*"field":"retentionSeconds"`},
		{"admin", "PUT", "/applications/plant", `{"retentionSeconds":[1]}`, "", 400, `an array does not fit here; it takes a whole number"`},
		{"admin", "PUT", "/applications/plant", `{"retentionSeconds":1.5}`, "", 400, `"1.5 does not fit here; it takes a whole number"`},
		{"admin", "PUT", "/applications/plant", `{"messaging":{}}`, "", 400, `an object does not fit here; it takes true or false"`},
		{"admin", "PUT", "/applications/plant", `[]`, "", 400, `an array does not fit here; it takes an object"`},
		{"admin", "PUT", "/users/new", `{"read":"plant"}`, "", 400, `a string does not fit here; it takes an array"`},
		{"admin", "PUT", "/applications/plant", `{"retention":1}`, "", 400, `there is no member retention.*"field":"retention"`},
		{"admin", "PUT", "/applications/plant", `{} {}`, "", 400, `something follows`},
		{"admin", "PUT", "/applications/plant", `{}}}garbage`, "", 400, `something follows`},
		{"admin", "PUT", "/applications/plant", `{}]`, "", 400, `something follows`},
		{"admin", "PUT", "/applications/plant", `{`, "", 400, `unexpected`},
		{"admin", "PUT", "/applications/plant", `{}`, "Content-Type: text/plain", 415, `application/json`},
		{"admin", "PUT", "/applications/plant", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, "", 413, `more than 65536 bytes`},
		{"admin", "PUT", "/applications/plant", `{}`, "If-Match: 5", 400, `entity tag`},
		{"admin", "PUT", "/applications/plant", `{}`, "If-None-Match: \"5\"", 400, `only \*`},
		{"admin", "GET", "/applications?colour=red", "", "", 400, `"field":"colour"`},
		{"admin", "GET", "/applications?limit=0", "", "", 400, `"field":"limit"`},
		{"admin", "GET", "/applications?after=%25", "", "", 400, `"field":"after"`},

		{"operator", "PUT", "/applications/plant/devices/x", `{"publish":["{device}/#"],"aliases":["SN 7/1"]}`, "", 201,
			`"application":"plant","name":"x","fromFile":false,.*"publish":\["\{device\}/#"\],"subscribe":\["#"\]`},
		{"operator", "PUT", "/applications/plant/devices/x", `{"publish":["{devcie}/#"]}`, "", 400, `unknown placeholder.*"field":"publish"`},
		{"operator", "PUT", "/applications/plant/devices/y", `{"aliases":["SN 7/1"]}`, "", 409, `alias of device x already.*"field":"aliases"`},
		{"operator", "PUT", "/applications/plant/devices/a%2Fb", `{}`, "", 400, `"field":"name"`},
		{"reader", "GET", "/applications/plant/devices/SN%207%2F1", "", "", 200, `"name":"x"`},
		{"reader", "GET", "/applications/plant/devices", "", "", 200, `^\{"items":\[\{"application":"plant","name":"x"`},
		{"reader", "GET", "/applications/nope/devices", "", "", 404, `no application nope`},
		{"operator", "PUT", "/applications/filed/devices/fixed", `{}`, "", 409, `declared in gateway.toml`},
		{"operator", "PUT", "/applications/filed/devices/new", `{}`, "", 201, `"fromFile":false`},
		{"operator", "POST", "/applications/filed/devices/fixed/credentials", `{"kind":"key"}`, "", 409,
			`declared in gateway.toml: put the hash of a password into its password_hashes there`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"key","label":"first","expires":"2099-01-01T00:00:00Z"}`, "",
			201, `"kind":"key","label":"first".*"lastFour":"....","secret":"trk_[0-9A-Za-z]{32}"`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"password","password":"open sesame"}`, "", 201,
			`^[^"]*"id":"\w+","kind":"password","created":"[^"]+"\}`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"scram-sha-256"}`, "", 201, `"secret":"[0-9A-Za-z]{32}"`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"scram-sha-256"}`, "", 409, `delete it first`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"magic"}`, "", 400, `"field":"kind"`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"key","password":"p"}`, "", 400, `"field":"password"`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"certificate","certificate":"x"}`, "", 400,
			`"field":"certificate"`},
		{"operator", "POST", "/applications/plant/devices/x/credentials", `{"kind":"key","expires":"2001-01-01T00:00:00Z"}`, "", 400,
			`is past.*"field":"expires"`},
		{"operator", "DELETE", "/applications/plant/devices/x/credentials/nope", "", "", 404, `no credential nope`},
		{"operator", "DELETE", "/applications/plant/devices/nope", "", "", 404, `no device nope`},
		{"operator", "DELETE", "/applications/plant/devices/x", "", "If-Match: \"nope\"", 412, `changed meanwhile`},

		{"admin", "PUT", "/users/alice", `{"read":["plant"],"write":["*"]}`, "", 201, `"read":\["plant"\],"write":\["\*"\]`},
		{"admin", "PUT", "/users/a@b", `{}`, "", 400, `"field":"name"`},
		{"admin", "POST", "/users/alice/credentials", `{"kind":"key"}`, "", 201, `"secret":"trk_`},
		{"admin", "POST", "/users/bob/credentials", `{"kind":"key"}`, "", 404, `no user bob`},
		{"reader", "GET", "/users", "", "", 200, `"name":"alice"`},
		{"reader", "GET", "/users?prefix=b", "", "", 200, `^\{"items":\[\]\}`},
		{"reader", "GET", "/users/alice", "", "", 200, `"kind":"key"`},
		{"admin", "DELETE", "/users/alice", "", "", 204, `^$`},
		{"reader", "GET", "/users/alice", "", "", 404, `no user alice`},

		{"admin", "POST", "/tokens", `{"name":"ci","role":"operator","applications":["plant"]}`, "", 201,
			`"name":"ci".*"secret":"tra_[0-9A-Za-z]{32}"`},
		{"admin", "POST", "/tokens", `{"name":"ci","role":"reader"}`, "", 409, `delete it first`},
		{"admin", "POST", "/tokens", `{"name":"x","role":"root"}`, "", 400, `"field":"role"`},
		{"admin", "GET", "/tokens", "", "", 200, `"name":"admin".*"lastUsed":.*"name":"ci"`},
		{"admin", "GET", "/tokens/ci", "", "", 200, `"applications":\["plant"\]`},
		{"admin", "DELETE", "/tokens/ci", "", "", 204, `^$`},
		{"admin", "DELETE", "/tokens/ci", "", "", 404, `no token ci`},

		{"reader", "GET", "/applications/plant/groups", "", "", 200, `"name":"s.billing","position":7,"lag":3`},
		{"operator", "DELETE", "/applications/plant/groups/s.billing", "", "", 204, `^$`},
		{"operator", "DELETE", "/applications/plant/groups/c.user:alice%2Fx", "", "", 404, `no group`},
		{"operator", "DELETE", "/applications/plant/groups/c.user:alice%2Fx?quarantine=maybe", "", "", 400, `"field":"quarantine"`},
		{"operator", "DELETE", "/applications/plant/groups/c.user:alice%2Fx?quarantine=true", "", "", 204, `^$`},

		{"reader", "GET", "/connections", "", "", 200, `filed.*plant.*user:alice`},
		{"reader", "GET", "/connections?online=true&application=filed", "", "", 200, `^\{"items":\[\{[^}]*"namespace":"filed"[^}]*\}\]\}`},
		{"limited", "GET", "/connections", "", "", 200, `^\{"items":\[\{[^}]*"namespace":"plant"[^}]*\}\]\}`},
		{"limited", "DELETE", "/connections/user:alice/c", "", "", 403, `not for user:alice`},
		{"operator", "DELETE", "/connections/plant/a%2Fb?forget=true", "", "", 204, `^$`},
		{"operator", "DELETE", "/connections/plant/nope", "", "", 404, `no connection of nope`},

		{"limited", "GET", "/applications", "", "", 200, `^\{"items":\[\{"name":"plant"[^}]*\}\]\}`},
		{"limited", "GET", "/applications/filed", "", "", 403, `not for application filed`},
		{"limited", "GET", "/users", "", "", 403, `for some applications only`},
		{"operator", "DELETE", "/applications/plant/devices/x", "", "", 204, `^$`},
		{"admin", "DELETE", "/applications/plant?purge=true", "", "", 204, `^$`},
		{"admin", "GET", "/applications/plant", "", "", 404, `no application plant`},
	}
	for _, s := range steps {
		var headers []string
		if s.headers != "" {
			headers = []string{s.headers}
		}
		a := f.do(s.token, s.method, prefix+s.path, s.body, headers...)
		if a.status != s.status || !regexp.MustCompile(s.want).MatchString(a.body) {
			t.Errorf("%s %s %s %s (%s): %d %s\nwant %d %s", s.token, s.method, s.path, s.body, s.headers, a.status, a.body, s.status, s.want)
		}
	}
	if want := []string{"plant a/b true", "plant nope false"}; !slices.Equal(f.kicked, want) {
		t.Errorf("kicked: %q", f.kicked)
	}
	logs := f.logs.String()
	if strings.Contains(logs, "trk_") || strings.Contains(logs, "tra_") || strings.Contains(logs, "sesame") {
		t.Error("the log shows a secret")
	}
	for _, want := range []string{`operation=createDeviceCredential path=/api/v1/applications/plant/devices/x/credentials status=201 token=operator`, `operation=deleteUser path=/api/v1/users/alice status=204 token=admin`} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

// Each route needs its role and its scope, and nothing is told without a token.
func TestRights(t *testing.T) {
	f := newFixture(t)
	fill := strings.NewReplacer("{application}", "garden", "{device}", "d", "{user}", "u", "{token}", "nope", "{credential}", "c", "{group}",
		"g", "{namespace}", "garden", "{clientId}", "c")
	for _, r := range routes() {
		path := prefix + fill.Replace(r.path)
		for _, token := range []string{"", "Bearer nope", "Basic YTpi", "reader", "operator", "admin", "limited"} {
			f.host++ // each from another address, for the throttle
			a := f.do(token, r.method, path, "")
			refused := 0
			switch {
			case f.tokens[token] == "":
				refused = 401
			case token == "limited" && r.scope == everything, token == "limited" && r.scope == one, token == "limited" && r.id == "deleteConnection":
				refused = 403 // it is for plant, not for garden
			case token == "reader" && r.role != resource.Reader, token == "operator" && r.role == resource.Admin:
				refused = 403
			}
			if refused > 0 && a.status != refused || refused == 0 && (a.status == 401 || a.status == 403) {
				t.Errorf("%s as %q: %d %s", r.id, token, a.status, a.body)
			}
			if a.status == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("%s: 401 without WWW-Authenticate", r.id)
			}
			if strings.Contains(a.header.Get("Set-Cookie"), "=") || a.status >= 400 && a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %v", r.id, a.header)
			}
		}
	}
	for path, want := range map[string]int{"/api/v1/nope": 404, "/api/v2": 404, "/api/v1/tokens/x/y": 404, "/api/v1/applications": 405} {
		if a := f.do("", "PATCH", path, ""); a.status != 401 {
			t.Errorf("PATCH %s without a token: %d", path, a.status)
		}
		if a := f.do("reader", "PATCH", path, ""); a.status != want || want == 405 && a.header.Get("Allow") != "GET" {
			t.Errorf("PATCH %s: %d, Allow %q", path, a.status, a.header.Get("Allow"))
		}
	}
}

func TestRevisions(t *testing.T) {
	f := newFixture(t)
	path := prefix + "/applications/plant"
	first := f.do("admin", "PUT", path, `{}`)
	tag := first.header.Get("ETag")
	if a := f.do("admin", "GET", path, ""); a.header.Get("ETag") != tag || tag == "" {
		t.Errorf("GET has the tag %s, PUT had %s", a.header.Get("ETag"), tag)
	}
	if a := f.do("admin", "PUT", path, first.body, "If-Match: "+tag); a.status != 200 || a.header.Get("ETag") != tag {
		t.Errorf("the same again: %d, tag %s, want %s", a.status, a.header.Get("ETag"), tag)
	}
	second := f.do("admin", "PUT", path, `{"messaging":true}`, "If-Match: "+tag)
	if second.status != 200 || second.header.Get("ETag") == tag {
		t.Errorf("a change: %d, tag %s", second.status, second.header.Get("ETag"))
	}
	for _, method := range []string{"PUT", "DELETE"} {
		if a := f.do("admin", method, path, `{}`, "If-Match: "+tag); a.status != 412 {
			t.Errorf("%s with an old tag: %d", method, a.status)
		}
	}
	revision := strings.Trim(second.header.Get("ETag"), `"`)
	for _, tag := range []string{revision, revision + `"`, `"` + revision, `"`, `""`, `W/"` + revision + `"`, `"` + revision + `" "`,
		`"` + revision + `", "x"`} {
		for _, method := range []string{"PUT", "DELETE"} {
			if a := f.do("admin", method, path, `{}`, "If-Match: "+tag); a.status != 400 || a.member("field") != `"If-Match"` {
				t.Errorf("%s with the tag %s: %d %s", method, tag, a.status, a.body)
			}
		}
	}
	if a := f.do("admin", "DELETE", path, "", "If-Match: "+second.header.Get("ETag")); a.status != 204 {
		t.Errorf("DELETE with the tag: %d", a.status)
	}
}

// Whoever deletes a device called .. must not delete what it is in.
func TestDotsAreNoNames(t *testing.T) {
	f := newFixture(t)
	f.do("admin", "PUT", prefix+"/applications/plant", `{}`)
	devices := prefix + "/applications/plant/devices"
	f.do("admin", "PUT", devices+"/pump", `{}`)
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", devices + "/%2E%2E", `{}`, 400}, {"PUT", devices + "/%2e", `{}`, 400}, {"PUT", devices + "/%2E%2E%2E", `{}`, 201},
		{"PUT", devices + "/other", `{"aliases":[".."]}`, 400}, {"PUT", prefix + "/users/%2E%2E", `{}`, 400},
		{"PUT", prefix + "/applications/%2E%2E", `{}`, 400},
		{"DELETE", devices + "/%2E%2E", "", 404}, {"DELETE", devices + "/pump/credentials/%2E%2E", "", 404},
		// What a ServeMux would redirect to another path.
		{"DELETE", devices + "/..", "", 400}, {"DELETE", devices + "/", "", 404}, {"DELETE", devices + "/.", "", 400},
		{"DELETE", devices + "/pump/credentials/..", "", 400},
		{"GET", prefix + "//applications", "", 400}, {"PUT", prefix + "/applications/plant/../yard", `{}`, 400},
	} {
		if a := f.do("admin", tt.method, tt.path, tt.body); a.status != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, a.status, a.body, tt.status)
		}
	}
	if a := f.do("admin", "GET", devices+"/pump", ""); a.status != 200 {
		t.Errorf("the device that nobody meant: %d", a.status)
	}
}

// Whoever makes an application sees whether any route is for it.
func TestRouted(t *testing.T) {
	f := newFixture(t)
	for name, want := range map[string]string{"plant": "true", "yard": "false"} {
		path := prefix + "/applications/" + name
		for _, a := range []*answer{f.do("admin", "PUT", path, `{"routed":true}`), f.do("admin", "GET", path, ""),
			f.do("admin", "PUT", path, `{"messaging":true,"routed":false}`)} {
			if a.member("routed") != want {
				t.Errorf("%s: %s, want %s", name, a.body, want)
			}
		}
		tag := f.do("admin", "GET", path, "").header.Get("ETag")
		if a := f.do("admin", "PUT", path, `{"messaging":true,"routed":true}`); a.header.Get("ETag") != tag {
			t.Error("what is no setting changed the revision")
		}
		if a := f.do("admin", "GET", prefix+"/applications", ""); !strings.Contains(a.body, `"routed":`+want) {
			t.Errorf("the list: %s", a.body)
		}
	}
}

func TestPages(t *testing.T) {
	f := newFixture(t)
	f.do("admin", "PUT", prefix+"/applications/plant", `{}`)
	for i := range 25 {
		if a := f.do("operator", "PUT", fmt.Sprintf("%s/applications/plant/devices/d%02d", prefix, i), `{}`); a.status != 201 {
			t.Fatal(a.status, a.body)
		}
	}
	var names []string
	sizes := []int{}
	for after := ""; ; {
		a := f.do("reader", "GET", prefix+"/applications/plant/devices?limit=10&prefix=d&after="+after, "")
		var p page[resource.Device]
		if err := json.Unmarshal([]byte(a.body), &p); err != nil {
			t.Fatal(err)
		}
		for _, d := range p.Items {
			names = append(names, d.Name)
		}
		sizes = append(sizes, len(p.Items))
		if after = p.Next; after == "" {
			break
		}
	}
	if len(names) != 25 || !slices.IsSorted(names) || !slices.Equal(sizes, []int{10, 10, 5}) {
		t.Errorf("pages of %v: %v", sizes, names)
	}
	a := f.do("reader", "GET", prefix+"/connections?limit=2", "")
	next := strings.Trim(a.member("next"), `"`)
	if b := f.do("reader", "GET", prefix+"/connections?limit=2&after="+next, ""); !strings.Contains(b.body, "user:alice") ||
		b.member("next") != "" {
		t.Errorf("the second page of connections: %s", b.body)
	}
}

func TestThrottle(t *testing.T) {
	f := newFixture(t)
	for i := range throttleFailures + 3 {
		a := f.do("Bearer wrong", "GET", prefix+"/applications", "")
		want := 401
		if i >= throttleFailures {
			want = 429
		}
		if a.status != want || want == 429 && a.header.Get("Retry-After") == "" {
			t.Errorf("attempt %d: %d, Retry-After %q", i+1, a.status, a.header.Get("Retry-After"))
		}
	}
	if a := f.do("reader", "GET", prefix+"/applications", ""); a.status != 200 {
		t.Errorf("a right token behind the same address: %d", a.status)
	}

	now := time.Unix(1e9, 0)
	th := newThrottle()
	th.now = func() time.Time { return now }
	for range throttleFailures {
		th.failed(netip.Addr{})
	}
	if th.failed(netip.Addr{}) != 60 {
		t.Error("the window is not a minute")
	}
	now = now.Add(throttleWindow)
	if th.failed(netip.Addr{}) != 0 {
		t.Error("the window does not end")
	}
	for i := range 3 * throttleAddresses {
		th.failed(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}))
	}
	if len(th.seen) > throttleAddresses {
		t.Errorf("%d addresses are kept", len(th.seen))
	}
	if th.failed(netip.MustParseAddr("192.0.2.1")) == 0 {
		t.Error("beyond the table, addresses are not counted")
	}
}

// Metrics need a token where others can reach them; health never does.
func TestOpenPages(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		cfg           Config
		token         string
		metrics, page int
	}{
		{Config{Address: ":0"}, "", 401, 200},
		{Config{Address: ":0"}, "reader", 200, 200},
		{Config{Address: ":0", OpenMetrics: true}, "", 200, 200},
		{Config{Address: "127.0.0.1:0"}, "", 200, 200},
		{Config{Address: "[::1]:0"}, "", 200, 200},
		{Config{Address: "localhost:0"}, "", 200, 200},
		{Config{Address: "127.0.0.1.example:0"}, "", 401, 200},
	} {
		f.handler = New(tt.cfg, Parts{Ready: func() []string { return nil }, Registry: f.registry, Routed: routedInTests},
			slog.New(slog.DiscardHandler)).http.Handler
		for path, want := range map[string]int{"/metrics": tt.metrics, "/healthz": 200, "/readyz": 200, "/api/": tt.page,
			"/api/v1/openapi.json": 200} {
			if a := f.do(tt.token, "GET", path, ""); a.status != want {
				t.Errorf("%s at %s with token %q: %d, want %d", path, tt.cfg.Address, tt.token, a.status, want)
			}
		}
	}
}

// The document says what the routes are, and schemas/openapi.json is the document.
func TestDocument(t *testing.T) {
	f := newFixture(t)
	served := f.do("", "GET", prefix+"/openapi.json", "")
	const copied = "../../schemas/openapi.json"
	if os.Getenv("TRIBUTARY_UPDATE") != "" {
		if err := os.WriteFile(copied, []byte(served.body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(copied); err != nil || string(have) != served.body {
		t.Errorf("%s is not what the gateway serves (%v); write it anew with: TRIBUTARY_UPDATE=1 go test -run TestDocument ./gateway/admin",
			copied, err)
	}
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]struct{ OperationID, Summary, Description string }
		Components struct {
			Schemas map[string]struct {
				Properties map[string]map[string]any
			}
		}
	}
	if err := json.Unmarshal([]byte(served.body), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatal(doc.OpenAPI, err)
	}
	there := map[string]bool{}
	for _, r := range routes() {
		there[r.method+" "+r.path] = true
		op := doc.Paths[r.path][strings.ToLower(r.method)]
		if op.OperationID != r.id || op.Summary == "" || !strings.Contains(op.Description, string(r.role)) {
			t.Errorf("%s: %+v", r.id, op)
		}
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			if !there[strings.ToUpper(method)+" "+path] {
				t.Errorf("the document has %s %s, the mux has not", method, path)
			}
		}
	}
	for name, s := range doc.Components.Schemas {
		for member, m := range s.Properties {
			if m["description"] == nil && m["$ref"] == nil {
				t.Errorf("%s.%s has no description", name, member)
			}
		}
	}
	for name := range enums() {
		if !strings.Contains(served.body, "enum") {
			t.Errorf("no values of %s", name)
		}
	}
	for name, about := range pathNames() {
		if text, _ := json.Marshal(about); about == "" || !strings.Contains(served.body, string(text)) {
			t.Errorf("path name %s", name)
		}
	}

	page := f.do("", "GET", "/api/", "")
	for _, want := range []string{"Tributary admin API", "/api/v1/applications/{application}", "deleteConnection", `id="Device"`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(page.body, "<script") || regexp.MustCompile(`(src|href)="https?:`).MatchString(page.body) {
		t.Error("the page needs something else")
	}
	if policy := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") ||
		!strings.Contains(policy, "style-src 'sha256-") {
		t.Errorf("policy %q", policy)
	}
}

func TestStoreFailure(t *testing.T) {
	f := newFixture(t)
	f.handler = New(Config{}, Parts{Registry: broken{f.registry}, Routed: routedInTests, Groups: f},
		slog.New(slog.NewTextHandler(f.logs, nil))).http.Handler
	if a := f.do("admin", "PUT", prefix+"/applications/plant", `{}`); a.status != 503 || strings.Contains(a.body, "bit rot") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if !strings.Contains(f.logs.String(), "bit rot") {
		t.Error("the cause is not logged")
	}
}

// broken cannot write.
type broken struct{ *registry.Registry }

func (broken) PutApplication(a resource.Application, _ resource.Precondition) (resource.Application, bool, error) {
	return a, false, fmt.Errorf("writing: bit rot: %w", io.ErrUnexpectedEOF)
}
