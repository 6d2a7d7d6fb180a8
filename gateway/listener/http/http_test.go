package http

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

type fakeAuth struct {
	asked atomic.Int64
	judge func(*access.Credentials) (*access.Grant, error)
}

func (f *fakeAuth) Connect(_ context.Context, c *access.Credentials) (*access.Grant, error) {
	f.asked.Add(1)
	return f.judge(c)
}

type fakeRouter func(in *event.Inbound) stage.Outcome

func (f fakeRouter) Submit(in *event.Inbound, _ stage.Companion, done func(stage.Outcome)) {
	go func() { done(f(in)) }()
}

func (f fakeRouter) StoresBody(in *event.Inbound) bool {
	return strings.HasPrefix(in.Transport.Path, "/files/")
}

// users is an authenticator with one credential of each kind.
func users() *fakeAuth {
	backend := &access.Grant{Principal: "user:backend", Read: []string{"fleet"}, Write: []string{"fleet"}}
	reader := &access.Grant{Principal: "user:reader", Read: []string{"fleet"}}
	device := &access.Grant{Principal: "device:fleet/d1", Application: "fleet", Device: "d1"}
	both := &access.Grant{Principal: "user:both", Read: []string{"*"}, Write: []string{"*"}}
	return &fakeAuth{judge: func(c *access.Credentials) (*access.Grant, error) {
		switch c.Username + ":" + string(c.Password) {
		case "ak_test:sk_test":
			return backend, nil
		case "reader:r":
			return reader, nil
		case "both:b":
			return both, nil
		case ":device-key":
			return device, nil
		case "disabled:d":
			return nil, &stage.Error{Code: event.NotAuthorized, Reason: "the device is disabled"}
		case "broken:b":
			return nil, errors.New("the identity provider does not answer")
		}
		return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "no"}
	}}
}

// start serves until the test ends and returns the address.
func start(t *testing.T, auth Authenticator, router Router, change func(*Config)) (*Server, string) {
	t.Helper()
	return startWith(t, auth, router, change, func(*Server) {})
}

// startWith is start with what is done to the server before it serves.
func startWith(t *testing.T, auth Authenticator, router Router, change func(*Config), before func(*Server)) (*Server, string) {
	t.Helper()
	cfg := Default()
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := New("web", cfg, auth, router, nil, slog.New(slog.DiscardHandler))
	before(s)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		late, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		if err := errors.Join(s.Shutdown(late), <-ended); err != nil {
			t.Error(err)
		}
	})
	return s, ln.Addr().String()
}

// raw sends bytes and returns the response.
func raw(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	go io.WriteString(c, request)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.80q: %v", request, err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r, string(body)
}

func TestRequestBecomesEvent(t *testing.T) {
	got := make(chan *event.Inbound, 1)
	_, addr := start(t, users(), fakeRouter(func(in *event.Inbound) stage.Outcome {
		got <- in
		return stage.Outcome{Reply: &event.Reply{Code: 201, Payload: []byte(`{"a":1}`),
			Headers: []event.Property{{Name: "Location", Value: "/x"}, {Name: "Connection", Value: "close"}, {Name: "bad name", Value: "x"},
				{Name: "Split", Value: "a\r\nb"}}}}
	}), func(c *Config) { c.Application = "fleet" })
	r, body := raw(t, addr, "POST /api/v1/things/a%2Fb?x=1&y=%20 HTTP/1.1\r\nHost: h\r\nAuthorization: Basic "+
		"YWtfdGVzdDpza190ZXN0\r\nCookie: s=1\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	if r.StatusCode != 201 || body != `{"a":1}` || r.Header.Get("Location") != "/x" || r.Header.Get("Content-Type") != "application/json" ||
		r.Header.Get("Split") != "" {
		t.Errorf("%d %v %s", r.StatusCode, r.Header, body)
	}
	in := <-got
	if in.Event.ID == "" || in.Event.Time.IsZero() || in.Transport.Peer == "" {
		t.Errorf("%+v", in)
	}
	in.Event.ID, in.Event.Time, in.Transport.Peer = "", time.Time{}, ""
	want := &event.Inbound{
		Event: event.Event{Type: event.TypeRequest, Source: "/applications/fleet", Subject: "/api/v1/things/a%2Fb", Application: "fleet",
			DataContentType: "application/json", Data: []byte("{}")},
		Transport: event.Transport{Protocol: "http", Method: "POST", Path: "/api/v1/things/a%2Fb", Query: "x=1&y=%20", Username: "user:backend",
			Properties: []event.Property{
				{Name: "host", Value: "h"}, {Name: "content-length", Value: "2"}, {Name: "content-type", Value: "application/json"},
				{Name: "x-two", Value: "1"}, {Name: "x-two", Value: "2"}}},
	}
	if d := cmp.Diff(in, want); d != "" {
		t.Error(d)
	}
}

func TestWhoMayAsk(t *testing.T) {
	_, addr := start(t, users(), fakeRouter(func(in *event.Inbound) stage.Outcome {
		return stage.Outcome{Reply: &event.Reply{Code: 200, Payload: []byte(in.Event.Application + "/" + in.Event.Device)}}
	}), nil)
	_, bound := start(t, users(), fakeRouter(func(in *event.Inbound) stage.Outcome { return stage.Outcome{} }),
		func(c *Config) { c.Application = "other" })
	for _, c := range []struct {
		name, addr, method, authorization string
		status                            int
		body                              string
	}{
		{"none", addr, "GET", "", 401, ""},
		{"wrong password", addr, "GET", "Basic YWtfdGVzdDp3cm9uZw==", 401, ""},
		{"unknown user", addr, "GET", "Basic eDp5", 401, ""},
		{"no Basic at all", addr, "GET", "Basic %%%", 401, ""},
		{"another scheme", addr, "GET", "Digest x", 401, ""},
		{"disabled", addr, "GET", "Basic ZGlzYWJsZWQ6ZA==", 403, ""},
		{"undecided", addr, "GET", "Basic YnJva2VuOmI=", 503, ""},
		{"backend reads", addr, "GET", "Basic YWtfdGVzdDpza190ZXN0", 200, "fleet/"},
		{"backend writes", addr, "PUT", "Basic YWtfdGVzdDpza190ZXN0", 200, "fleet/"},
		{"reader reads", addr, "GET", "Basic cmVhZGVyOnI=", 200, "fleet/"},
		{"reader heads", addr, "HEAD", "Basic cmVhZGVyOnI=", 200, ""},
		{"reader writes", addr, "DELETE", "Basic cmVhZGVyOnI=", 403, ""},
		{"several applications", addr, "GET", "Basic Ym90aDpi", 403, ""},
		{"device by bearer", addr, "POST", "Bearer device-key", 200, "fleet/d1"},
		{"device by token", addr, "POST", "Token device-key", 200, "fleet/d1"},
		{"device without a scheme", addr, "GET", "device-key", 200, "fleet/d1"},
		{"another application", bound, "GET", "Basic YWtfdGVzdDpza190ZXN0", 403, ""},
		{"another application's device", bound, "GET", "Bearer device-key", 403, ""},
		{"all applications", bound, "PATCH", "Basic Ym90aDpi", 204, ""},
	} {
		line := ""
		if c.authorization != "" {
			line = "Authorization: " + c.authorization + "\r\n"
		}
		r, body := raw(t, c.addr, c.method+" /x HTTP/1.1\r\nHost: h\r\n"+line+"Connection: close\r\n\r\n")
		if r.StatusCode != c.status || c.body != "" && body != c.body {
			t.Errorf("%s: %d %s", c.name, r.StatusCode, body)
		}
		if challenges := len(r.Header.Values("WWW-Authenticate")); (challenges == 2) != (c.status == 401) {
			t.Errorf("%s: %d challenges", c.name, challenges)
		}
	}
	r, _ := raw(t, addr, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer device-key\r\nAuthorization: Bearer device-key\r\n\r\n")
	if r.StatusCode != 401 {
		t.Errorf("two headers: %d", r.StatusCode)
	}
}

func TestOutcomes(t *testing.T) {
	var outcome atomic.Pointer[stage.Outcome]
	_, addr := start(t, users(), fakeRouter(func(*event.Inbound) stage.Outcome { return *outcome.Load() }), nil)
	for _, c := range []struct {
		outcome stage.Outcome
		status  int
	}{
		{stage.Outcome{}, 204},
		{stage.Outcome{Reply: &event.Reply{Code: 200}}, 200},
		{stage.Outcome{Reply: &event.Reply{}}, 200},
		{stage.Outcome{Reply: &event.Reply{Code: 304}}, 304},
		{stage.Outcome{Reply: &event.Reply{Code: 100}}, 502},
		{stage.Outcome{Reply: &event.Reply{Code: 999}}, 502},
		{stage.Outcome{Code: event.NoMatchingSubscribers}, 404},
		{stage.Outcome{Code: event.NotAuthorized}, 403},
		{stage.Outcome{Code: event.PayloadFormatInvalid}, 400},
		{stage.Outcome{Code: event.QuotaExceeded}, 429},
		{stage.Outcome{Code: event.ServerUnavailable}, 503},
		{stage.Outcome{Code: event.ImplementationSpecificError}, 500},
		{stage.Outcome{Unavailable: true}, 503},
	} {
		outcome.Store(&c.outcome)
		r, body := raw(t, addr, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer device-key\r\nConnection: close\r\n\r\n")
		if r.StatusCode != c.status {
			t.Errorf("%+v: %d", c.outcome, r.StatusCode)
		}
		if r.StatusCode >= 400 && (r.Header.Get("Content-Type") != "application/problem+json" || !json.Valid([]byte(body))) {
			t.Errorf("%+v: %s", c.outcome, body)
		}
	}
}

func TestLimits(t *testing.T) {
	s, addr := start(t, users(), fakeRouter(func(*event.Inbound) stage.Outcome { return stage.Outcome{} }), func(c *Config) {
		c.MaxBodyBytes, c.MaxHeaders, c.MaxPathBytes, c.MaxHeaderBytes = 10, 8, 20, 4096
	})
	const auth = "Authorization: Bearer device-key\r\nConnection: close\r\n"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"a body that fits": {"POST / HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length: 10\r\n\r\n0123456789", 204},
		"a body announced": {"POST / HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length: 11\r\n\r\n", 413},
		"a chunked body": {"POST / HTTP/1.1\r\nHost: h\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
			413},
		"headers":                 {"GET / HTTP/1.1\r\nHost: h\r\n" + auth + strings.Repeat("A: b\r\n", 9) + "\r\n", 431},
		"bytes of headers":        {"GET / HTTP/1.1\r\nHost: h\r\n" + auth + "A: " + strings.Repeat("b", 10_000) + "\r\n\r\n", 431},
		"path":                    {"GET /" + strings.Repeat("p", 20) + " HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 414},
		"a query of bytes":        {"GET /?\xff HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 400},
		"a type of bytes":         {"GET / HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Type: text/plain; a=\xff\r\n\r\n", 400},
		"a type with a tab":       {"GET / HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Type: text/plain;\ta=b\r\n\r\n", 400},
		"nul in the path":         {"GET /%00 HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 400},
		"no path":                 {"OPTIONS * HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 400},
		"proxy request":           {"GET http://x/ HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 400},
		"CONNECT":                 {"CONNECT x:1 HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 501},
		"TRACE":                   {"TRACE / HTTP/1.1\r\nHost: h\r\n" + auth + "\r\n", 501},
		"no HTTP":                 {"\x10\x0c\x00\x04MQTT\x05\x02\x00\x00\x00\x00\r\n\r\n", 400},
		"both lengths":            {"POST / HTTP/1.1\r\nHost: h\r\n" + auth + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n0123", 400},
		"limits come before auth": {"GET /" + strings.Repeat("p", 20) + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 414},
	} {
		if r, body := raw(t, addr, c.request); r.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, r.StatusCode, body)
		}
	}
	if got := s.stats.statuses[2].Load(); got != 1 {
		t.Errorf("%d requests were answered well, want 1", got)
	}
}

// A plugin that is slow holds nobody else up, and does not hold more requests
// than there is room for.
func TestManyAtOnce(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	_, addr := start(t, users(), fakeRouter(func(in *event.Inbound) stage.Outcome {
		if in.Transport.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
		return stage.Outcome{}
	}), func(c *Config) { c.MaxRequests = 3; c.RequestTimeout = time.Hour })
	get := func(path string) int {
		r, _ := raw(t, addr, "GET "+path+" HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer device-key\r\nConnection: close\r\n\r\n")
		return r.StatusCode
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if got := get("/slow"); got != 204 {
				t.Errorf("slow: %d", got)
			}
		})
	}
	for range 2 {
		<-entered
	}
	if got := get("/quick"); got != 204 {
		t.Errorf("beside the slow ones: %d", got)
	}
	wg.Go(func() { get("/slow") })
	<-entered
	if got := get("/quick"); got != 503 {
		t.Errorf("without room: %d", got)
	}
	close(release)
	wg.Wait()
}

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	_, addr := start(t, users(), fakeRouter(func(*event.Inbound) stage.Outcome { <-release; return stage.Outcome{} }),
		func(c *Config) { c.RequestTimeout = 100 * time.Millisecond })
	if r, _ := raw(t, addr, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer device-key\r\n\r\n"); r.StatusCode != 504 {
		t.Error(r.StatusCode)
	}
}

// Credentials are judged with each request, so that a revocation is in force with the
// next one.
func TestCredentialsAreJudgedEachTime(t *testing.T) {
	auth := users()
	_, addr := start(t, auth, fakeRouter(func(*event.Inbound) stage.Outcome { return stage.Outcome{} }), nil)
	for n, authorization := range []string{"Bearer device-key", "Bearer device-key", "Basic eDp5", "Basic eDp5"} {
		raw(t, addr, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: "+authorization+"\r\nConnection: close\r\n\r\n")
		if got := auth.asked.Load(); got != int64(n+1) {
			t.Errorf("after request %d the authenticator was asked %d times", n+1, got)
		}
	}
}

// A plugin hears GET where a client asks with HEAD (RFC 9110 section 9.3.2), and the client
// gets the headers of that answer, without its body.
func TestHead(t *testing.T) {
	_, addr := start(t, users(), fakeRouter(func(in *event.Inbound) stage.Outcome {
		return stage.Outcome{Reply: &event.Reply{Code: 200, Payload: []byte(in.Transport.Method + " has a body")}}
	}), nil)
	req, err := http.NewRequest("HEAD", "http://"+addr+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer device-key")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || resp.ContentLength != int64(len("GET has a body")) || len(body) != 0 || err != nil {
		t.Errorf("%d, %d bytes announced, %q, %v", resp.StatusCode, resp.ContentLength, body, err)
	}
}

// What a plugin judged is judged anew with each request, since it saw all headers.
func TestPluginJudgesEachRequest(t *testing.T) {
	auth := &fakeAuth{judge: func(c *access.Credentials) (*access.Grant, error) {
		for _, p := range c.Properties {
			if p.Name == "x-device" {
				return &access.Grant{Principal: "device:fleet/" + p.Value, Application: "fleet", Device: p.Value, Method: "plugin.fleets"}, nil
			}
		}
		return nil, &stage.Error{Code: event.NotAuthorized}
	}}
	_, addr := start(t, auth, fakeRouter(func(in *event.Inbound) stage.Outcome {
		return stage.Outcome{Reply: &event.Reply{Code: 200, Payload: []byte(in.Event.Device)}}
	}), nil)
	for _, c := range []struct {
		header string
		status int
		device string
	}{
		{"X-Device: d1\r\n", 200, "d1"},
		{"X-Device: d2\r\n", 200, "d2"},
		{"", 403, ""},
	} {
		r, body := raw(t, addr, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer secret of all\r\n"+c.header+"\r\n")
		if r.StatusCode != c.status || c.device != "" && body != c.device {
			t.Errorf("%q: %d %s, want %d %s", c.header, r.StatusCode, body, c.status, c.device)
		}
	}
}

func TestConnections(t *testing.T) {
	_, addr := start(t, users(), fakeRouter(func(*event.Inbound) stage.Outcome { return stage.Outcome{} }),
		func(c *Config) { c.MaxConnections = 2 })
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	third, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	request := "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer device-key\r\n\r\n"
	for _, c := range []net.Conn{first, second} {
		fmt.Fprint(c, request)
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 204 {
			t.Fatal(r, err)
		}
	}
	fmt.Fprint(third, request) // waits for a place
	first.Close()
	third.SetDeadline(time.Now().Add(patience))
	if r, err := http.ReadResponse(bufio.NewReader(third), nil); err != nil || r.StatusCode != 204 {
		t.Fatal(r, err)
	}
}

func TestMetricsCount(t *testing.T) {
	s, addr := start(t, users(), fakeRouter(func(*event.Inbound) stage.Outcome { return stage.Outcome{} }), nil)
	raw(t, addr, "POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer device-key\r\nContent-Length: 4\r\n\r\nabcd")
	var text bytes.Buffer
	for _, m := range s.Metrics() {
		fmt.Fprintln(&text, m.Name, m.Labels, m.Value)
	}
	for _, want := range []string{"tributary_http_responses_total [{listener web} {status 2xx}] 1",
		"tributary_http_received_bytes_total [{listener web}] 4"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is missing in\n%s", want, &text)
		}
	}
}

// A connection on which nothing came does not keep the listener from closing.
func TestShutdownOfSilentConnections(t *testing.T) {
	s, addr := start(t, users(), fakeRouter(func(*event.Inbound) stage.Outcome { return stage.Outcome{} }), nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for end := time.Now().Add(patience); s.stats.open.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the connection was not accepted")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // net/http alone takes 5 s
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading: %v", err)
	}
}

// The end of the context and a shutdown close the same listener, in any order.
func TestClosedTwice(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{Listener: ln, free: make(chan struct{}, 1)}
	ln.Close()
	if err := b.Close(); err != nil {
		t.Errorf("closing what is closed: %v", err)
	}
}

// Whoever tries passwords over HTTP is slowed down, as over MQTT, and then refused.
func TestFailedLoginsAreSlowed(t *testing.T) {
	refuse := func(*access.Credentials) (*access.Grant, error) {
		return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "wrong"}
	}
	cfg := Default()
	cfg.LoginFailures, cfg.LoginDelayMax = 3, 150*time.Millisecond
	s := New("http.test", cfg, &fakeAuth{judge: refuse}, fakeRouter(func(*event.Inbound) stage.Outcome { return stage.Outcome{} }),
		nil, slog.New(slog.DiscardHandler))
	statuses := map[int]int{}
	var all sync.WaitGroup
	var mu sync.Mutex
	for range 30 {
		all.Go(func() {
			r := httptest.NewRequest("GET", "/x", nil)
			r.SetBasicAuth("mallory", "guess")
			w := httptest.NewRecorder()
			s.serve(w, r)
			mu.Lock()
			defer mu.Unlock()
			statuses[w.Code]++
			if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		})
	}
	all.Wait()
	if statuses[http.StatusTooManyRequests] == 0 || statuses[http.StatusUnauthorized] == 0 {
		t.Errorf("statuses: %v", statuses)
	}
}

// A token that a client sends as a user name stays out of the log, and a flood is few lines.
func TestRefusedLoginsAreLogged(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzdWJqZWN0LTEifQ.c2lnbmF0dXJl"
	var log bytes.Buffer
	s := New("web", Default(), users(), fakeRouter(nil), nil, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(token, "")
		if _, err := s.authenticate(t.Context(), r, time.Now()); err == nil {
			t.Fatal("a wrong token was accepted")
		}
	}
	if n := strings.Count(log.String(), "login refused"); n != 1 || strings.Contains(log.String(), "c2lnbmF0dXJl") ||
		!strings.Contains(log.String(), "token:") {
		t.Errorf("three refusals are told in %d lines:\n%s", n, &log)
	}
}
