package outbound

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/router"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// gateway is a store, a router with one plugin, and calls.
type gateway struct {
	t     *testing.T
	dir   string
	cfg   Config
	rules Rules
	store *pebble.Store
	calls *Calls
	do    func(effects ...event.Effect) stage.Outcome
	stop  func()
	log   lockedBuffer

	mu      sync.Mutex
	wanted  map[string][]event.Effect // by event id
	answers chan event.Inbound
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func quick() Config {
	cfg := Default()
	cfg.Timeout, cfg.Backoff, cfg.BackoffMax, cfg.Attempts = 5*time.Second, time.Millisecond, 4*time.Millisecond, 4
	return cfg
}

func start(t *testing.T, cfg Config, rules Rules) *gateway {
	g := &gateway{t: t, dir: t.TempDir(), cfg: cfg, rules: rules, answers: make(chan event.Inbound, 1000), wanted: map[string][]event.Effect{}}
	g.open()
	t.Cleanup(func() { g.stop() })
	return g
}

func (g *gateway) open() {
	g.t.Helper()
	if err := g.cfg.Validate(); err != nil {
		g.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(&g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	pc := pebble.Default()
	pc.Dir = g.dir
	st, err := pebble.Open(pc, log)
	if err != nil {
		g.t.Fatal(err)
	}
	rc := router.Default()
	rc.Retries = 0
	rc.Routes = []router.Route{{Application: "*", Plugin: "p"}}
	r, err := router.New(rc, map[string]router.Handler{"p": g}, st, nobody{}, log)
	if err != nil {
		g.t.Fatal(err)
	}
	if g.calls, err = New(g.cfg, st, r, map[string]Rules{"p": g.rules}, log); err != nil {
		g.t.Fatal(err)
	}
	g.store = st
	r.UseKeepers(router.Keepers{Calls: g.calls})
	r.Start(nobody{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.calls.Run(ctx) }()
	n := 0
	g.do = func(effects ...event.Effect) stage.Outcome {
		g.mu.Lock()
		n++
		id := fmt.Sprint(n)
		g.wanted[id] = effects
		g.mu.Unlock()
		in := &event.Inbound{Event: event.Event{ID: id, Type: event.TypePublish, Source: "/x", Application: "demo", Device: "d", Sender: "d",
			Time: time.Now()}}
		done := make(chan stage.Outcome, 1)
		r.Submit(in, nil, func(o stage.Outcome) { done <- o })
		return <-done
	}
	g.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			g.t.Error(err)
		}
		if err := r.Close(context.Background()); err != nil {
			g.t.Error(err)
		}
		if err := st.Close(); err != nil {
			g.t.Error(err)
		}
	}
}

// Handle is the plugin: it wants what the test said, and shows answers.
func (g *gateway) Try(ctx context.Context, shard int, in *event.Inbound, now time.Time, st plugin.StateReader) (event.Result, error) {
	return g.Handle(ctx, shard, in, now, st)
}

func (g *gateway) Handle(_ context.Context, _ int, in *event.Inbound, _ time.Time, _ plugin.StateReader) (event.Result, error) {
	if in.Event.Type == event.TypeResponse {
		g.answers <- *in
		return event.Result{}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return event.Result{Effects: g.wanted[in.Event.ID]}, nil
}

func (g *gateway) Name() string          { return "p" }
func (g *gateway) Digest() string        { return "sha256:p" }
func (g *gateway) Limits() plugin.Limits { return plugin.Limits{} }

type nobody struct{}

func (nobody) Device(string, string) (bool, bool) { return true, false }
func (nobody) Messaging(string) (on, known bool)  { return false, false }

func (nobody) Trusts(string, string, string) bool                                  { return false }
func (nobody) Gateways(string, string) []string                                    { return nil }
func (nobody) Reach(string, string) stage.Delivery                                 { return stage.NoDevice }
func (nobody) Prepare(string, string, *event.Publish, *store.Batch) stage.Prepared { panic("no") }

// answer waits for the next answer.
func (g *gateway) answer() event.Inbound {
	g.t.Helper()
	select {
	case in := <-g.answers:
		return in
	case <-time.After(60 * time.Second):
		g.t.Fatalf("no answer; the log:\n%s", g.log.String())
		panic("unreachable")
	}
}

// settled waits until no call is left in the store.
func (g *gateway) settled() {
	g.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		n := 0
		if err := g.store.Scan(store.Call, "", func(string, []byte, store.Revision) bool { n++; return true }); err != nil {
			g.t.Fatal(err)
		}
		if n == 0 && g.calls.Metrics()[0].Value == 0 {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%d calls are left", n)
		}
	}
}

// local lets a plugin call the servers of this test.
func local(servers ...*httptest.Server) (r Rules) {
	for _, s := range servers {
		r.Hosts = append(r.Hosts, s.URL)
	}
	return r
}

func serve(t *testing.T, fn http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return s
}

func extensions(in event.Inbound) map[string]string {
	m := map[string]string{}
	for _, x := range in.Event.Extensions {
		m[x.Name] = x.Value
	}
	return m
}

func TestAnswer(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body := new(bytes.Buffer)
		body.ReadFrom(r.Body)
		if r.Method != "PATCH" || r.URL.RawQuery != "q=1" || r.Header.Get("X-Secret") != "s3cret" || len(r.Header.Get("Idempotency-Key")) != 32 {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("X-List", "a")
		w.Header().Add("X-List", "b")
		w.WriteHeader(201)
		fmt.Fprintf(w, `{"got":%q}`, body.String())
	})
	g := start(t, quick(), local(s))
	g.do(&event.Call{ID: "c1", Method: "PATCH", URL: s.URL + "/path?q=1", Body: []byte("hello"),
		Headers: []event.Property{{Name: "X-Secret", Value: "s3cret"}}})
	in := g.answer()
	e := in.Event
	if e.Type != event.TypeResponse || e.Subject != "c1" || e.Application != "demo" || e.Device != "d" || e.Sender != "d" ||
		string(e.Data) != `{"got":"hello"}` || e.DataContentType != "application/json" || e.ID == "" {
		t.Errorf("%+v", e)
	}
	if x := extensions(in); !maps.Equal(x, map[string]string{"status": "201", "attempts": "1"}) {
		t.Errorf("extensions %v", x)
	}
	var lists []string
	for _, p := range in.Transport.Properties {
		if p.Name == "X-List" {
			lists = append(lists, p.Value)
		}
	}
	if strings.Join(lists, ",") != "a,b" {
		t.Errorf("headers %v", in.Transport.Properties)
	}
	g.settled()
	if strings.Contains(g.log.String(), "s3cret") {
		t.Error("a secret is in the log")
	}
}

// What can succeed later is tried again with the same key, other answers are not.
func TestRetries(t *testing.T) {
	var mu sync.Mutex
	keys := map[string][]string{}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		keys[r.URL.Path] = append(keys[r.URL.Path], r.Header.Get("Idempotency-Key"))
		n := len(keys[r.URL.Path])
		mu.Unlock()
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		if status == 0 { // cut the connection
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Close()
			return
		}
		if n == 3 && !strings.HasSuffix(r.URL.Path, "always") {
			status = 204
		}
		w.Header().Set("Location", "http://169.254.169.254/")
		w.WriteHeader(status)
	})
	g := start(t, quick(), local(s))
	for _, c := range []struct {
		path     string
		attempts int
		status   string
	}{
		{"/503", 3, "204"}, {"/500", 3, "204"}, {"/429", 3, "204"}, {"/408", 3, "204"}, {"/503always", 4, "503"},
		{"/400", 1, "400"}, {"/404", 1, "404"}, {"/301", 1, "301"}, {"/307", 1, "307"}, {"/200", 1, "200"}, {"/501", 1, "501"}, {"/0", 4, ""},
	} {
		g.do(&event.Call{ID: c.path, Method: "POST", URL: s.URL + c.path, Headers: []event.Property{}})
		x := extensions(g.answer())
		if x["status"] != c.status || x["attempts"] != fmt.Sprint(c.attempts) || (c.status == "") != (x["error"] != "") {
			t.Errorf("%s: %v", c.path, x)
		}
		mu.Lock()
		if len(keys[c.path]) < c.attempts {
			t.Errorf("%s: %d requests", c.path, len(keys[c.path]))
		}
		for _, k := range keys[c.path] {
			if k != keys[c.path][0] || k == "" {
				t.Errorf("%s: keys %v", c.path, keys[c.path])
			}
		}
		mu.Unlock()
		if strings.Contains(x["error"], s.URL+c.path) {
			t.Errorf("the error shows the URL: %s", x["error"])
		}
	}
	g.settled()
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "-1": 0, "x": 0, "99999999999": 0, "4000000000": maxWait,
		"Sat, 21 Nov 2026 10:00:30 GMT": 30 * time.Second, "Sat, 21 Nov 2020 10:00:30 GMT": 0, "Sat, 21 Nov 2099 10:00:30 GMT": maxWait,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	var n atomic.Int32
	var first time.Time
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
			return
		}
		if waited := time.Since(first); waited < 900*time.Millisecond {
			t.Errorf("it came back after %v", waited)
		}
	})
	g := start(t, quick(), local(s))
	g.do(&event.Call{ID: "c", Method: "GET", URL: s.URL})
	g.answer()
}

// A call goes nowhere but where the operator says, whatever its name leads to.
func TestForbiddenPlaces(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(http.ResponseWriter, *http.Request) { n.Add(1) })
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	g := start(t, quick(), Rules{Hosts: []string{"http://localhost" + port, "http://*" + port, "http://*"}})
	for _, u := range []string{
		"http://localhost" + port, "http://127.0.0.1" + port, "http://[::1]" + port, "http://[::ffff:127.0.0.1]" + port, "http://0.0.0.0" + port,
		"https://127.0.0.1" + port, "http://127.0.0.1:1", "ftp://127.0.0.1" + port, "http://u@127.0.0.1" +
			port, "http://169.254.169.254/latest", "nothing",
	} {
		g.do(&event.Call{ID: u, Method: "GET", URL: u})
		x := extensions(g.answer())
		if x["error"] == "" || x["status"] != "" || x["attempts"] != "1" {
			t.Errorf("%s: %v", u, x)
		}
	}
	if n.Load() != 0 {
		t.Errorf("%d requests came through", n.Load())
	}
	g.settled()
	granted := start(t, quick(), Rules{Hosts: []string{"http://localhost" + port}, PrivateNetworks: []string{"127.0.0.0/8", "::1/128"}})
	granted.do(&event.Call{ID: "c", Method: "GET", URL: "http://localhost" + port})
	if x := extensions(granted.answer()); x["status"] != "200" {
		t.Errorf("granted: %v", x)
	}
}

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "172.15.0.1": true, "172.32.0.1": true, "100.63.255.255": true, "100.128.0.1": true,
		"2606:4700::1111": true, "2a00::1": true, "64:ff9b::808:808": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "127.0.0.1": false, "127.255.0.1": false,
		"169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.1": false, "192.0.2.1": false, "192.168.0.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false,
		"224.0.0.1": false, "239.1.1.1": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:10.0.0.1": false, "::ffff:127.0.0.1": false, "::127.0.0.1": false, "::ffff:8.8.8.8": true,
		"fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd12::1": false, "fec0::1": false, "ff02::1": false,
		"64:ff9b::a00:1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::1": false, "2001::1": false, "2001:db8::1": false, "2002:7f00:1::": false,
		"100::1": false, "3fff::1": false, "5f00::1": false,
	} {
		p := &policy{}
		if got := p.reachable(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	p, err := newPolicy(&Config{}, Rules{Hosts: []string{"http://10.0.0.5:8080"}, PrivateNetworks: []string{"192.168.7.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"10.0.0.5": true, "::ffff:10.0.0.5": true, "10.0.0.6": false, "192.168.7.9": true,
		"192.168.8.9": false} {
		if got := p.control("tcp", netip.AddrPortFrom(netip.MustParseAddr(text), 80).String(), nil) == nil; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if err := p.control("tcp", "no address", nil); err == nil {
		t.Error("no address is an address")
	}
}

// A host that does not answer holds its own calls up, and is spared after a while.
func TestDeadHost(t *testing.T) {
	gone := make(chan struct{})
	var held atomic.Int32
	dead := serve(t, func(w http.ResponseWriter, r *http.Request) {
		held.Add(1)
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	})
	defer close(gone)
	live := serve(t, func(http.ResponseWriter, *http.Request) {})
	cfg := quick()
	cfg.Concurrency, cfg.PerHost, cfg.Timeout, cfg.Attempts, cfg.Backoff, cfg.BackoffMax = 8, 2, 100*time.Millisecond, 1000,
		50*time.Millisecond, time.Hour
	g := start(t, cfg, local(dead, live))
	for i := range 20 {
		g.do(&event.Call{ID: fmt.Sprint("dead", i), Method: "GET", URL: dead.URL})
	}
	for i := range 50 {
		g.do(&event.Call{ID: fmt.Sprint("live", i), Method: "GET", URL: live.URL})
	}
	for range 50 {
		if in := g.answer(); !strings.HasPrefix(in.Event.Subject, "live") {
			t.Errorf("%s was answered", in.Event.Subject)
		}
	}
	deadline := time.Now().Add(60 * time.Second)
	for failing := 0.0; failing != 1; time.Sleep(5 * time.Millisecond) {
		for _, m := range g.calls.Metrics() {
			if m.Name == "tributary_outbound_failing_hosts" {
				failing = m.Value
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the dead host is not in doubt")
		}
	}
	g.calls.mu.Lock()
	for _, h := range g.calls.hosts {
		if h.failing() && h.places(&g.calls.cfg, time.Now().Add(time.Hour)) > 1 {
			t.Error("a host in doubt is tried by several calls")
		}
	}
	g.calls.mu.Unlock()
}

// Calls go on after a restart, and end when they are too old.
func TestRestart(t *testing.T) {
	var up atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(503)
		}
	})
	cfg := quick()
	cfg.Attempts, cfg.Backoff, cfg.BackoffMax = 1000, 200*time.Millisecond, time.Second
	g := start(t, cfg, local(s))
	const n = 10
	var calls []event.Effect
	for i := range n {
		calls = append(calls, &event.Call{ID: fmt.Sprint(i), Method: "GET", URL: s.URL})
	}
	g.do(calls...)
	g.stop()
	up.Store(true)
	g.open()
	seen := map[string]bool{}
	for range n {
		seen[g.answer().Event.Subject] = true
	}
	if len(seen) != n {
		t.Errorf("answers: %v", seen)
	}
	g.settled()

	up.Store(false)
	g.do(calls...)
	g.stop()
	g.cfg.MaxAge = time.Second
	time.Sleep(time.Second) // the calls have to age
	g.open()
	for range n {
		if x := extensions(g.answer()); x["error"] == "" {
			t.Errorf("%v", x)
		}
	}
	g.settled()
}

// The calls of an application that was deleted go with it.
func TestPurge(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.WriteHeader(503)
	})
	cfg := quick()
	cfg.Attempts, cfg.Backoff, cfg.BackoffMax = 1000, time.Millisecond, time.Millisecond
	g := start(t, cfg, local(s))
	var calls []event.Effect
	for i := range 500 + 10 {
		calls = append(calls, &event.Call{ID: fmt.Sprint(i), Method: "GET", URL: s.URL})
	}
	g.do(calls...)
	if err := g.calls.Purge("demo"); err != nil {
		t.Fatal(err)
	}
	g.settled()
	if len(g.answers) > 0 {
		t.Errorf("%d answers", len(g.answers))
	}
}

func TestBounds(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 100)+"\xff")
		}
		w.Header().Set("Content-Type", "\xff")
		w.Write(make([]byte, 5000))
	})
	cfg := quick()
	cfg.ResponseBytes, cfg.MaxPending = 1024, 2
	g := start(t, cfg, local(s))
	g.do(&event.Call{ID: "c", Method: "GET", URL: s.URL})
	in := g.answer()
	if x := extensions(in); len(in.Event.Data) != 1024 || x["truncated"] != "true" || len(in.Transport.Properties) > maxHeaders ||
		in.Event.DataContentType != "" {
		t.Errorf("%d bytes, %d headers, %v", len(in.Event.Data), len(in.Transport.Properties), x)
	}
	var again event.Inbound
	if _, _, err := codec.ParseRequest(codec.AppendRequest(nil, &in, time.Now(), nil), &again); err != nil {
		t.Errorf("a plugin cannot read it: %v", err)
	}
	g.settled()
	c := &event.Call{ID: "c", Method: "GET", URL: s.URL}
	if o := g.do(c, c, c); o.Code != event.QuotaExceeded || !strings.Contains(o.Reason, "outbound.max_pending") {
		t.Errorf("%+v", o)
	}
}

func FuzzParse(f *testing.F) {
	e := event.Event{ID: "call-1", Type: event.TypeResponse, Source: "/x", Subject: "s"}
	call := &event.Call{ID: "s", Method: "GET", URL: "http://a/"}
	f.Add(codec.AppendResponse(nil, &event.Result{Effects: []event.Effect{&event.Emit{Event: e}, call}}))
	f.Add(codec.AppendResponse(nil, &event.Result{Effects: []event.Effect{call, &event.Emit{Event: e}}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, c, err := parse(b)
		if (err == nil) != (c != nil) {
			t.Fatal(e, c, err)
		}
		if err == nil {
			hostOf(c.URL)
		}
	})
}

// stuckRouter takes no answers of the application "slow" until it is told to.
type stuckRouter struct {
	release chan struct{}
	got     chan string
	stuck   sync.WaitGroup
}

func (s *stuckRouter) SubmitDue(_ string, in *event.Inbound, _ *store.Batch, done func(stage.Outcome)) {
	if in.Event.Application == "slow" {
		<-s.release
		defer s.stuck.Done()
	} else {
		s.got <- in.Event.Application
	}
	done(stage.Outcome{})
}

// An application whose answers nobody takes leaves places to the others.
func TestShareOfPlaces(t *testing.T) {
	up, other := serve(t, func(http.ResponseWriter, *http.Request) {}), serve(t, func(http.ResponseWriter, *http.Request) {})
	cfg := pebble.Default()
	cfg.Dir = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	st, err := pebble.Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	s := &stuckRouter{release: make(chan struct{}), got: make(chan string, 1)}
	limits := Default()
	limits.Concurrency, limits.PerHost = 8, 8
	c, err := New(limits, st, s, map[string]Rules{"p": local(up, other)}, log)
	if err != nil {
		t.Fatal(err)
	}
	call := func(application, url string, n int) {
		var b store.Batch
		var effects []event.Effect
		for i := range n {
			effects = append(effects, &event.Call{ID: strconv.Itoa(i), Method: "GET", URL: url})
		}
		kept, err := c.Keep(&b, &stage.Origin{Plugin: "p", Application: application, Device: "d"}, effects)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Commit(&b, nil); err != nil {
			t.Fatal(err)
		}
		kept()
	}
	s.stuck.Add(20)
	call("slow", up.URL, 20)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for busy := 0; busy < 6; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		busy = c.busy["slow"]
		c.mu.Unlock()
	}
	call("other", other.URL, 1)
	if got := <-s.got; got != "other" {
		t.Errorf("%s got an answer", got)
	}
	close(s.release)
	s.stuck.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(c.busy) > 0 || c.active > 0 {
		t.Errorf("%v are busy, %d in all", c.busy, c.active)
	}
}
