package auth

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/sdk-plugin/event"
)

// service answers call-outs with what a test sets.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	answer  func(w http.ResponseWriter, r *http.Request, body string)
	bodies  []string
	headers []http.Header
}

func newService(t *testing.T, content string) *service {
	s := &service{}
	s.say(content)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.bodies, s.headers = append(s.bodies, string(body)), append(s.headers, r.Header)
	answer := s.answer
	s.mu.Unlock()
	answer(w, r, string(body))
}

// say answers JSON, or with "<status>" and perhaps JSON behind it.
func (s *service) say(content string) {
	s.do(func(w http.ResponseWriter, _ *http.Request, _ string) {
		status, rest := http.StatusOK, content
		if !strings.HasPrefix(content, "{") && content != "" {
			fmt.Sscanf(content, "%d", &status)
			_, rest, _ = strings.Cut(content, " ")
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		io.WriteString(w, rest)
	})
}

func (s *service) do(fn func(w http.ResponseWriter, r *http.Request, body string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = fn
}

func (s *service) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.bodies)
}

// callouts is a world whose service is asked for connections in which the client
// id names the device.
func callouts(t *testing.T, s *service, change func(*HTTP)) *world {
	t.Helper()
	h := DefaultHTTP()
	h.URL, h.Applications, h.Headers = s.URL+"/auth?key=s3cret", []string{"demo"}, map[string]string{"x-api-key": "s3cret"}
	if change != nil {
		change(&h)
	}
	cfg := Default()
	cfg.HTTP = map[string]HTTP{"emqx": h}
	return newWorld(t, cfg, nil)
}

func named(device string) *access.Credentials {
	c := client("somebody", "right")
	c.ClientID = device
	return c
}

func TestCallout(t *testing.T) {
	for _, tt := range []struct {
		name, answer, device string
		want                 event.Code
	}{
		{"allow", `{"result":"allow"}`, "d1", event.Success},
		{"allow without content", `204`, "d1", event.Success},
		{"allow as EMQX 4", ``, "d1", event.Success},
		{"deny", `{"result":"deny"}`, "d1", event.NotAuthorized},
		{"ignore", `{"result":"ignore"}`, "d1", event.BadUserNameOrPassword},
		{"not found", `404`, "d1", event.BadUserNameOrPassword},
		{"unauthorized", `401 {"result":"allow"}`, "d1", event.BadUserNameOrPassword},
		{"another device", `{"result":"allow","client_attrs":{"device":"child"}}`, "d1", event.Success},
		{"another application", `{"result":"allow","client_attrs":{"application":"secret"}}`, "d1", event.BadUserNameOrPassword},
		{"unknown device", `{"result":"allow"}`, "nobody", event.BadUserNameOrPassword},
		{"disabled device", `{"result":"allow"}`, "off", event.NotAuthorized},
		{"device that widens", `{"result":"allow"}`, "#", event.BadUserNameOrPassword},
		{"expired", `{"result":"allow","expire_at":1}`, "d1", event.BadUserNameOrPassword},
		{"error", `500 {"result":"allow"}`, "d1", event.ServerUnavailable},
		{"moved", `302`, "d1", event.ServerUnavailable},
		{"garbage", `200 <html>`, "d1", event.ServerUnavailable},
		{"no result", `{}`, "d1", event.ServerUnavailable},
		{"another result", `{"result":"ALLOW"}`, "d1", event.ServerUnavailable},
		{"cut short", `{"result":"allow"`, "d1", event.ServerUnavailable},
		{"more than is taken", `{"result":"allow","x":"` + strings.Repeat("x", maxAnswer) + `"}`, "d1", event.ServerUnavailable},
		{"a rule that is none", `{"result":"allow","acl":[{"permission":"maybe","topic":"a"}]}`, "d1", event.ServerUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newService(t, tt.answer)
			w := callouts(t, s, nil)
			g, err := w.chain("http.emqx", "anonymous").Connect(t.Context(), named(tt.device))
			if code(err) != tt.want {
				t.Fatalf("%v, code %#x, want %#x", err, code(err), tt.want)
			}
			if err == nil && (g.Method != "http.emqx" || g.Application != "demo" || g.Credential != "http.emqx/somebody") {
				t.Errorf("%+v", g)
			}
		})
	}
}

// What the service is told, in both encodings.
func TestCalloutRequest(t *testing.T) {
	s := newService(t, `{"result":"allow"}`)
	w := callouts(t, s, nil)
	if _, err := w.chain("http.emqx").Connect(t.Context(), named("d1")); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(s.bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got["username"] != "somebody" || got["password"] != "right" || got["clientid"] != "d1" || got["peerhost"] != "192.0.2.7" ||
		got["protocol"] != "mqtt" {
		t.Errorf("body %v", got)
	}
	if s.headers[0].Get("X-Api-Key") != "s3cret" || s.headers[0].Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", s.headers[0])
	}
	w = callouts(t, s, func(h *HTTP) {
		h.Encoding, h.Body = "form", map[string]string{"user": "<{username}>", "cn": "{cert_common_name}"}
	})
	if _, err := w.chain("http.emqx").Connect(t.Context(), named("d1")); err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(s.bodies[1])
	if err != nil || form.Get("user") != "<somebody>" || !form.Has("cn") ||
		s.headers[1].Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("form %q, %v", s.bodies[1], err)
	}
}

func TestCalloutCache(t *testing.T) {
	s := newService(t, `{"result":"allow"}`)
	w := callouts(t, s, nil)
	chain := w.chain("http.emqx")
	connect := func(c *access.Credentials) event.Code {
		_, err := chain.Connect(t.Context(), c)
		return code(err)
	}
	step := func(what string, c *access.Credentials, want event.Code, asked int) {
		t.Helper()
		if got := connect(c); got != want || s.asked() != asked {
			t.Errorf("%s: code %#x, want %#x; %d requests, want %d", what, got, want, s.asked(), asked)
		}
	}
	step("first", named("d1"), event.Success, 1)
	step("again", named("d1"), event.Success, 1)
	other := named("d1")
	other.Password = []byte("another")
	step("another password", other, event.Success, 2)
	s.say(`{"result":"deny"}`)
	w.clock.advance(time.Minute)
	step("after the time", named("d1"), event.NotAuthorized, 3)
	step("denied again", named("d1"), event.NotAuthorized, 3)
	s.say(`{"result":"allow"}`)
	w.clock.advance(5 * time.Second)
	step("after the time of a denial", named("d1"), event.Success, 4)
	w.Changed(access.Change{Application: "demo", Device: "d1"})
	step("after a change", named("d1"), event.Success, 5)
	s.say("500")
	w.clock.advance(time.Minute)
	step("down", named("d1"), event.ServerUnavailable, 6)
	step("failures are not remembered", named("d1"), event.ServerUnavailable, 7)
	// An allowance with an end is remembered no longer.
	s.say(fmt.Sprintf(`{"result":"allow","expire_at":%d}`, w.clock.now().Unix()+10))
	step("with an end", named("d1"), event.Success, 8)
	w.clock.advance(10 * time.Second)
	step("behind its end", named("d1"), event.BadUserNameOrPassword, 9)
}

func TestCalloutTimeout(t *testing.T) {
	s := newService(t, "")
	s.do(func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() })
	w := callouts(t, s, func(h *HTTP) { h.Timeout = 50 * time.Millisecond })
	if _, err := w.chain("http.emqx").Connect(t.Context(), named("d1")); code(err) != event.ServerUnavailable {
		t.Errorf("%v", err)
	}
}

func TestCalloutConcurrency(t *testing.T) {
	const most, clients = 3, 20
	s := newService(t, "")
	var now, peak atomic.Int32
	full := make(chan struct{}, clients)
	open := make(chan struct{})
	s.do(func(w http.ResponseWriter, _ *http.Request, _ string) {
		n := now.Add(1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		full <- struct{}{}
		<-open
		now.Add(-1)
	})
	w := callouts(t, s, func(h *HTTP) { h.MaxConcurrent, h.Timeout = most, 20*time.Second })
	chain := w.chain("http.emqx")
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := named("d1")
			c.Username = fmt.Sprint(i)
			if _, err := chain.Connect(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	for range most {
		<-full
	}
	close(open)
	wg.Wait()
	if peak.Load() != most {
		t.Errorf("%d requests at a time, want %d", peak.Load(), most)
	}
	// Who waits for its turn waits no longer than for the answer.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := chain.Connect(ctx, named("child")); err == nil {
		t.Error("a connection that ended was let in")
	}
}

func TestCalloutRules(t *testing.T) {
	s := newService(t, `{"result":"allow","acl":[
		{"permission":"allow","action":"publish","topic":"up/${clientid}/#"},
		{"permission":"allow","action":"subscribe","topic":"eq down/${username}"},
		{"permission":"allow","action":"subscribe","topic":"eq literal/#"},
		{"permission":"deny","action":"all","topic":"t/secret"},
		{"permission":"allow","action":"all","topic":"t/#"},
		{"permission":"allow","action":"all","topic":"t/open"},
		{"permission":"allow","action":"publish","topic":"q","qos":[0]},
		{"permission":"deny","action":"all","topic":"#"},
		{"permission":"allow","action":"all","topic":"late"}]}`)
	w := callouts(t, s, nil)
	chain := w.chain("http.emqx")
	g, err := chain.Connect(t.Context(), named("d1"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.Publish, []string{"up/d1/#", "t/open"}) || !slices.Equal(g.Subscribe, []string{"down/somebody", "t/open"}) {
		t.Errorf("publish %q, subscribe %q", g.Publish, g.Subscribe)
	}
	w.dir.publish = []string{"changed"}
	if same, err := chain.Renew(g); same != g || err != nil {
		t.Errorf("a change of the registry's filters made %+v, %v", same, err)
	}
	s.say(`{"result":"allow","acl":[]}`)
	w.Changed(access.Change{})
	if g, err = chain.Connect(t.Context(), named("d1")); err != nil || len(g.Publish)+len(g.Subscribe) > 0 {
		t.Errorf("an empty list allows %+v, %v", g, err)
	}
}

func TestOverlaps(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/+", "a/b", true}, {"a/#", "a", true}, {"#", "x/y", true}, {"a/b", "a", false},
		{"a/{clientid}", "a/b", true}, {"+/b", "a/+", true}, {"a/+/c", "a/b", false}, {"a/b/#", "a/c/#", false},
	} {
		if overlaps([]string{tt.a}, tt.b) != tt.want || overlaps([]string{tt.b}, tt.a) != tt.want {
			t.Errorf("%s and %s", tt.a, tt.b)
		}
	}
}

func TestCalloutUsersAndSuperusers(t *testing.T) {
	s := newService(t, `{"result":"allow"}`)
	w := callouts(t, s, func(h *HTTP) { h.Device, h.Read, h.Write = "", []string{"demo"}, []string{"demo"} })
	chain := w.chain("http.emqx")
	g, err := chain.Connect(t.Context(), named("d1"))
	if err != nil || g.Device != "" || g.Principal != "http.emqx/somebody" || !g.MayRead("demo") || !g.MayWrite("demo") || len(g.Publish) > 0 {
		t.Errorf("%+v, %v", g, err)
	}
	s.say(`{"result":"allow","is_superuser":true,"client_attrs":{"device":"d1"}}`)
	w = callouts(t, s, func(h *HTTP) { h.Read, h.ACLURL = []string{"demo"}, s.URL })
	chain = w.chain("http.emqx")
	g, err = chain.Connect(t.Context(), named("x"))
	if err != nil || g.Device != "d1" || !slices.Equal(g.Publish, []string{"#"}) || g.Ask || !g.MayRead("demo") {
		t.Errorf("%+v, %v", g, err)
	}
	if same, err := chain.Renew(g); same != g || err != nil {
		t.Errorf("renewed: %+v, %v", same, err)
	}
}

func TestCalloutTopics(t *testing.T) {
	s := newService(t, `{"result":"allow"}`)
	w := callouts(t, s, func(h *HTTP) { h.ACLURL = s.URL + "/acl" })
	chain := w.chain("http.emqx")
	g, err := chain.Connect(t.Context(), named("d1"))
	if err != nil || !g.Ask {
		t.Fatalf("%+v, %v", g, err)
	}
	for _, tt := range []struct {
		answer, topic string
		want          event.Code
	}{
		{`{"result":"allow"}`, "a", event.Success}, {`{"result":"deny"}`, "b", event.NotAuthorized}, {`{"result":"ignore"}`, "c", event.Success},
		{`403`, "d", event.NotAuthorized}, {`204`, "e", event.Success}, {`503`, "f", event.NotAuthorized}, {`200 x`, "g", event.NotAuthorized},
	} {
		s.say(tt.answer)
		if err := chain.Authorize(t.Context(), g, access.Publish, tt.topic, 1, true); code(err) != tt.want {
			t.Errorf("%s: %v", tt.answer, err)
		}
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(s.bodies[1]), &body); err != nil || body["action"] != "publish" || body["topic"] != "a" ||
		body["qos"] != "1" || body["retain"] != "true" || body["device"] != "d1" || body["username"] != "somebody" || body["clientid"] != "d1" {
		t.Errorf("body %v, %v", body, err)
	}
	asked := s.asked()
	s.say(`{"result":"deny"}`)
	if err := chain.Authorize(t.Context(), g, access.Publish, "a", 1, true); err != nil || s.asked() != asked {
		t.Errorf("a topic that was allowed just now: %v, %d requests", err, s.asked()-asked)
	}
	if err := chain.Authorize(t.Context(), g, access.Subscribe, "a", 1, true); code(err) != event.NotAuthorized {
		t.Errorf("another action: %v", err)
	}
	w.Changed(access.Change{Device: "d1"})
	if err := chain.Authorize(t.Context(), g, access.Publish, "a", 1, true); code(err) != event.NotAuthorized {
		t.Errorf("after a change: %v", err)
	}
	if err := w.chain("password").Authorize(t.Context(), g, access.Publish, "a", 1, true); code(err) != event.NotAuthorized {
		t.Errorf("where nobody can be asked: %v", err)
	}
}

func TestCalloutTLS(t *testing.T) {
	s := &service{}
	s.say(`{"result":"allow"}`)
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	w := callouts(t, s, nil)
	if _, err := w.chain("http.emqx").Connect(t.Context(), named("d1")); code(err) != event.ServerUnavailable {
		t.Errorf("an authority that nobody trusts: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w = callouts(t, s, func(h *HTTP) { h.CA = file })
	if _, err := w.chain("http.emqx").Connect(t.Context(), named("d1")); err != nil {
		t.Errorf("an authority that is trusted: %v", err)
	}
	h := DefaultHTTP()
	h.URL, h.Applications, h.CA = s.URL, []string{"demo"}, filepath.Join(t.TempDir(), "missing.pem")
	if _, err := New(Config{HTTP: map[string]HTTP{"x": h}, Properties: Default().Properties}, newDirectory(), nil, nil); err == nil ||
		!strings.Contains(err.Error(), "auth.http.x") {
		t.Errorf("a file that is missing: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"result":"allow","is_superuser":false,"client_attrs":{"device":"d"},"expire_at":1654254601,` +
		`"acl":[{"permission":"allow","action":"all","topic":"t/#"}]}`))
	f.Add([]byte(`{"result":"deny"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err != nil {
			return
		}
		if a.Result != "allow" && a.Result != "deny" && a.Result != "ignore" {
			t.Errorf("%q: %q", b, a.Result)
		}
		if len(a.publish)+len(a.subscribe) > 2*len(a.ACL) {
			t.Errorf("%q: more filters than rules", b)
		}
	})
}
