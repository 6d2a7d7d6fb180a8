package http

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/consumer"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// eventRig is a listener over a real store and consumer stage. Posted events go to the log as
// they come, unless their data says what else becomes of them.
type eventRig struct {
	t      *testing.T
	server *Server
	addr   string
	store  *pebble.Store

	mu      sync.Mutex
	got     []*event.Inbound
	batches int
	owes    string
	renewed *access.Grant // nil: over
}

func (f *eventRig) Exists(application string) bool { return application == "fleet" }

func (f *eventRig) Submit(in *event.Inbound, _ stage.Companion, done func(stage.Outcome)) {
	f.SubmitBatch([]*event.Inbound{in}, done)
}

func (f *eventRig) SubmitBatch(all []*event.Inbound, done func(stage.Outcome)) {
	f.mu.Lock()
	f.batches++
	f.got = append(f.got, all...)
	f.mu.Unlock()
	var b store.Batch
	for i, in := range all {
		code := map[string]event.Code{`"bad"`: event.PayloadFormatInvalid, `"rights"`: event.NotAuthorized,
			`"unrouted"`: event.NoMatchingSubscribers,
			`"quota"`:    event.QuotaExceeded, `"crash"`: event.ImplementationSpecificError}[string(in.Event.Data)]
		if code != 0 {
			done(stage.Outcome{Code: code, Reason: "so", Index: i})
			return
		}
		if string(in.Event.Data) == `"down"` {
			done(stage.Outcome{Unavailable: true})
			return
		}
		e := *in.Original
		e.Application, e.Device, e.Data = "fleet", in.Event.Device, in.Event.Data
		e.DataContentType, e.Extensions = in.Event.DataContentType, in.Event.Extensions
		b.Appends = append(b.Appends, store.Append{Log: store.Events("fleet"), Record: codec.AppendEvent(nil, &e), Time: time.Now()})
	}
	if err := f.store.Commit(&b, func(err error) { done(stage.Outcome{Unavailable: err != nil}) }); err != nil {
		done(stage.Outcome{Unavailable: true})
	}
}

func (f *eventRig) Charge(*access.Grant, int, int) (time.Duration, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 1500 * time.Millisecond, f.owes
}

func (f *eventRig) Authorize(_ context.Context, _ *access.Grant, _ access.Action, topic string, _ byte, _ bool) error {
	if topic == "asked/no" {
		return &stage.Error{Code: event.NotAuthorized}
	}
	return nil
}

func (f *eventRig) Renew(*access.Grant) (*access.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.renewed == nil {
		return nil, &stage.Error{Code: event.NotAuthorized}
	}
	return f.renewed, nil
}

// eventUsers adds a device that may publish to what users knows.
func eventUsers() *fakeAuth {
	known := users()
	device := &access.Grant{Principal: "device:fleet/d1", Application: "fleet", Device: "d1", Publish: []string{"events", "asked/#"}}
	foreign := &access.Grant{Principal: "device:other/d1", Application: "other", Device: "d1", Publish: []string{"#"}}
	return &fakeAuth{judge: func(c *access.Credentials) (*access.Grant, error) {
		switch string(c.Password) {
		case "device-key":
			return device, nil
		case "foreign-key":
			return foreign, nil
		}
		return known.judge(c)
	}}
}

func startEvents(t *testing.T, change func(*Config)) *eventRig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	cfg := pebble.Default()
	cfg.Dir = t.TempDir()
	st, err := pebble.Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	f := &eventRig{t: t, store: st}
	logs := consumer.New(consumer.Default(), st, f, log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- logs.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	f.server, f.addr = startWith(t, eventUsers(), fakeRouter(func(in *event.Inbound) stage.Outcome {
		return stage.Outcome{Reply: &event.Reply{Code: 200, Payload: []byte("plugin")}}
	}), func(c *Config) {
		c.Events, c.Heartbeat = true, 200*time.Millisecond
		if change != nil {
			change(c)
		}
	}, func(s *Server) { s.UseEvents(EventParts{Router: f, Authority: f, Logs: logs, Rates: f}) })
	return f
}

const (
	backend = "Basic YWtfdGVzdDpza190ZXN0"
	asDev   = "Bearer device-key"
	onlyRd  = "Basic cmVhZGVyOnI="
)

func (f *eventRig) request(method, path, body string, header ...string) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.addr+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", backend)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if r.Header.Get("Authorization") == "-" {
		r.Header.Del("Authorization")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp
}

func (f *eventRig) text(method, path, body string, header ...string) (int, string, http.Header) {
	f.t.Helper()
	resp := f.request(method, path, body, header...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// add puts events with the ids into the log.
func (f *eventRig) add(ids ...string) {
	f.t.Helper()
	for _, id := range ids {
		if status, text, _ := f.text("POST", "/events/fleet", one(id, `"x"`), "Content-Type", mediaEvent); status != 204 {
			f.t.Fatal(status, text)
		}
	}
}

func one(id, data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t.%s","data":%s}`, id, id, data)
}

// Each content mode, and each refusal with its status and index.
func TestPostEvents(t *testing.T) {
	f := startEvents(t, func(c *Config) { c.MaxBatchEvents, c.MaxBodyBytes = 3, 2000 })
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "t", "Ce-Text", "a%20%C3%BC%25",
		"Content-Type", "text/plain"}
	structured, batch := []string{"Content-Type", mediaEvent}, []string{"Content-Type", mediaBatch}
	with := func(base []string, more ...string) []string { return append(append([]string{}, base...), more...) }
	for _, c := range []struct {
		name, path, body string
		header           []string
		status           int
		index            int // -1: none
		detail           string
	}{
		{"structured", "", one("1", "1"), structured, 204, -1, ""},
		{"charset", "", one("1", "1"), []string{"Content-Type", mediaEvent + "; charset=UTF-8"}, 204, -1, ""},
		{"binary", "", "hello", binary, 204, -1, ""},
		{"batch", "", "[" + one("1", "1") + "," + one("2", "2") + "]", batch, 204, -1, ""},
		{"batch with charset", "", "[" + one("1", "1") + "]", []string{"Content-Type", mediaBatch + "; charset=utf-8"}, 204, -1, ""},
		{"empty batch", "", "[]", batch, 204, -1, ""},
		{"device", "", one("1", "1"), with(structured, "Authorization", asDev), 204, -1, ""},
		{"device with a topic", "?topic=asked/yes", one("1", "1"), with(structured, "Authorization", asDev), 204, -1, ""},
		{"plain JSON", "", "{}", []string{"Content-Type", "application/json"}, 415, -1, "ce-specversion"},
		{"another format", "", "x", []string{"Content-Type", "application/cloudevents+protobuf"}, 415, -1, mediaEvent},
		{"another charset", "", one("1", "1"), []string{"Content-Type", mediaEvent + "; charset=latin1"}, 415, -1, "UTF-8"},
		{"compressed", "", "x", with(structured, "Content-Encoding", "gzip"), 415, -1, "compressed"},
		{"not JSON", "", "{", structured, 400, -1, "no CloudEvent"},
		{"no id", "", `{"specversion":"1.0","source":"/s","type":"t"}`, structured, 400, -1, "id"},
		{"binary without a source", "", "x", []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Type", "t"}, 400, -1, "ce-source"},
		{"binary with ce-datacontenttype", "", "x", with(binary, "Ce-Datacontenttype", "a/b"), 400, -1, "Content-Type"},
		{"binary with a broken escape", "", "x", with(binary, "Ce-Text", "%zz"), 400, -1, "percent"},
		{"binary with bytes that are no UTF-8", "", "x", with(binary, "Ce-Text", "%C0%A0"), 400, -1, "percent"},
		{"batch is no array", "", one("1", "1"), batch, 400, -1, "array"},
		{"batch is cut off", "", "[" + one("1", "1"), batch, 400, -1, "cut off"},
		{"something behind the batch", "", "[" + one("1", "1") + "]]", batch, 400, -1, "follows"},
		{"second of the batch is none", "", "[" + one("1", "1") + `,{"id":"2"}]`, batch, 400, 1, "event 1"},
		{"third of the batch fails", "", "[" + one("1", "1") + "," + one("2", "1") + "," + one("3", `"bad"`) + "]", batch, 400, 2, "so"},
		{"too many", "", "[" + strings.Repeat(one("1", "1")+",", 3) + one("1", "1") + "]", batch, 413, -1, "max_batch_events"},
		{"too long", "", one("1", `"`+strings.Repeat("x", 2000)+`"`), structured, 413, -1, "2000"},
		{"plugin refuses", "", one("1", `"bad"`), structured, 400, -1, "so"},
		{"plugin crashes", "", one("1", `"crash"`), structured, 500, -1, "so"},
		{"about another device", "", one("1", `"rights"`), structured, 403, -1, "so"},
		{"no route", "", one("1", `"unrouted"`), structured, 404, -1, "so"},
		{"quota", "", one("1", `"quota"`), structured, 429, -1, "so"},
		{"store is down", "", one("1", `"down"`), structured, 503, -1, "store"},
		{"nobody", "", one("1", "1"), with(structured, "Authorization", "-"), 401, -1, "credentials"},
		{"reader", "", one("1", "1"), with(structured, "Authorization", onlyRd), 403, -1, "no right"},
		{"foreign device", "", one("1", "1"), with(structured, "Authorization", "Bearer foreign-key"), 403, -1, "another application"},
		{"device without the right", "?topic=other", one("1", "1"), with(structured, "Authorization", asDev), 403, -1, "topic other"},
		{"device, and a service says no", "?topic=asked/no", one("1", "1"), with(structured, "Authorization", asDev), 403, -1, "asked/no"},
		{"topic with a wildcard", "?topic=a/%23", one("1", "1"), structured, 400, -1, "wildcards"},
		{"another application", "/../elsewhere", one("1", "1"), structured, 404, -1, "nothing"},
	} {
		before := f.batches
		status, text, header := f.text("POST", "/events/fleet"+c.path, c.body, c.header...)
		var problem struct {
			Status int
			Detail string
			Index  *int
		}
		if status != 204 {
			if err := json.Unmarshal([]byte(text), &problem); err != nil || problem.Status != status {
				t.Errorf("%s: %v %s", c.name, err, text)
			}
		}
		index := -1
		if problem.Index != nil {
			index = *problem.Index
		}
		if status != c.status || index != c.index || !strings.Contains(problem.Detail, c.detail) {
			t.Errorf("%s: %d %s", c.name, status, text)
		}
		if again := header.Get("Retry-After") != ""; again != (status == 429 || status == 503) {
			t.Errorf("%s: Retry-After %q", c.name, header.Get("Retry-After"))
		}
		if f.batches > before+1 {
			t.Errorf("%s: %d commits", c.name, f.batches-before)
		}
	}
	f.owes = "device"
	status, text, header := f.text("POST", "/events/fleet", one("1", "1"), structured...)
	if status != 429 || header.Get("Retry-After") != "2" || !strings.Contains(text, "rate of the device") {
		t.Error(status, text, header)
	}
}

// A posted event is to its plugin what one over MQTT is.
func TestPostedEvent(t *testing.T) {
	f := startEvents(t, nil)
	body := `{"specversion":"1.0","id":"7","source":"/mine","type":"t","subject":"s","device":"d9","application":"lie","ext":5,"data":{"a":1}}`
	if status, text, _ := f.text("POST", "/events/fleet?topic=a/b", body, "Content-Type", mediaEvent); status != 204 {
		t.Fatal(status, text)
	}
	if status, text, _ := f.text("POST", "/events/fleet", body, "Content-Type", mediaEvent, "Authorization", asDev); status != 204 {
		t.Fatal(status, text)
	}
	in := f.got[0]
	if in.Event.Type != event.TypePublish || in.Event.Subject != "a/b" || in.Transport.Topic != "a/b" || in.Event.Application != "fleet" ||
		in.Event.Device != "d9" || in.Event.Sender != "" || in.Transport.Username != "user:backend" || string(in.Event.Data) != `{"a":1}` ||
		in.Original.ID != "7" || in.Original.Source != "/mine" || in.Original.Subject != "s" || string(in.Sent.Payload) != body {
		t.Errorf("%+v", in)
	}
	if in = f.got[1]; in.Event.Device != "d1" || in.Event.Sender != "d1" || in.Event.Source != "/applications/fleet/devices/d1" {
		t.Errorf("%+v", in)
	}
	for path, want := range map[string]int{"/eventsx": 200, "/events": 200, "/x": 200, "/events/fleet/x": 404, "/events/": 404} {
		if status, text, _ := f.text("POST", path, "{}"); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _, h := f.text("DELETE", "/events/fleet", ""); status != 405 || h.Get("Allow") != "GET, HEAD, POST" {
		t.Error(status, h)
	}
}

// sse reads a stream.
type sse struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
	last string
}

func (f *eventRig) stream(path string, header ...string) *sse {
	f.t.Helper()
	resp := f.request("GET", path, "", append([]string{"Accept", "text/event-stream"}, header...)...)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		f.t.Fatal(resp.Status, string(text))
	}
	f.t.Cleanup(func() { resp.Body.Close() })
	return &sse{t: f.t, resp: resp, in: bufio.NewReader(resp.Body)}
}

// next returns the next event of the stream; its name is message if it has none.
func (s *sse) next() (name, id, data string) {
	s.t.Helper()
	for {
		name, data = "message", ""
		for {
			line, err := s.in.ReadString('\n')
			if err != nil {
				return "closed", "", err.Error()
			}
			line = strings.TrimSuffix(line, "\n")
			if line == "" {
				break
			}
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "event":
				name = value
			case "id":
				s.last = value
			case "data":
				data += value
			}
		}
		if data != "" {
			return name, s.last, data
		}
	}
}

// ids takes n events and returns the offsets and ids.
func (s *sse) ids(n int) string {
	s.t.Helper()
	var list []string
	for range n {
		name, id, data := s.next()
		var e struct{ ID string }
		if err := json.Unmarshal([]byte(data), &e); err != nil || name != "message" {
			s.t.Fatal(name, data, err)
		}
		list = append(list, id+"="+e.ID)
	}
	return strings.Join(list, " ")
}

func (s *sse) expect(want string) {
	s.t.Helper()
	if got := s.ids(len(strings.Fields(want))); got != want {
		s.t.Fatalf("%s, want %s", got, want)
	}
}

func TestStream(t *testing.T) {
	f := startEvents(t, nil)
	f.add("a", "b", "c")
	f.stream("/events/fleet?from=first").expect("0=a 1=b 2=c")
	f.stream("/events/fleet?from=1").expect("1=b 2=c")
	f.stream("/events/fleet?from=last").expect("2=c")
	f.stream("/events/fleet?from=2020-01-01T00:00:00Z").expect("0=a")
	f.stream("/events/fleet?from=first&type=t.b&type=t.c").expect("1=b 2=c")
	f.stream("/events/fleet?from=first&type=t.*&filter=" + "id%20%3D%20'c'").expect("2=c")
	f.stream("/events/fleet?from=first", "Last-Event-ID", "0").expect("1=b 2=c")
	f.stream("/events/fleet", "Last-Event-ID", "-1").expect("0=a")
	s := f.stream("/events/fleet")
	time.Sleep(300 * time.Millisecond) // heartbeats are no events
	f.add("d")
	s.expect("3=d")
	// A stream that ends before the first event has said where it stands.
	quiet := f.stream("/events/fleet")
	for quiet.last == "" {
		line, err := quiet.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		quiet.last = strings.TrimPrefix(strings.TrimSpace(line), "id: ")
	}
	quiet.resp.Body.Close()
	f.add("e")
	f.stream("/events/fleet", "Last-Event-ID", quiet.last).expect("4=e")
	// Line breaks within the JSON of the data.
	if status, _, _ := f.text("POST", "/events/fleet", one("f", "{\n\"a\":\r\n[1,\r2]}"), "Content-Type", mediaEvent); status != 204 {
		t.Fatal(status)
	}
	s.expect("4=e 5=f")
}

func TestReaderRefusals(t *testing.T) {
	f := startEvents(t, func(c *Config) { c.MaxReaders = 2 })
	for _, c := range []struct {
		path   string
		header []string
		status int
		detail string
	}{
		{"/events/fleet", []string{"Authorization", "-"}, 401, "credentials"},
		{"/events/fleet", []string{"Authorization", asDev}, 403, "no right"},
		{"/events/elsewhere", nil, 403, "no right"},
		{"/events/fleet?form=first", nil, 400, "unknown"},
		{"/events/fleet?from=yesterday", nil, 400, "from must"},
		{"/events/fleet?from=resume", nil, 400, "from must"},
		{"/events/fleet?from=1&from=2", nil, 400, "more than once"},
		{"/events/fleet?filter=type%20%3D", nil, 400, "CESQL"},
		{"/events/fleet?filter=" + strings.Repeat("a", 1025), nil, 400, "may have 1024"},
		{"/events/fleet?group=", nil, 400, "group"},
		{"/events/fleet?group=a/b", nil, 400, "group"},
		{"/events/fleet?member=x", nil, 400, "group"},
		{"/events/fleet?group=g&member=x", nil, 410, "no such member"},
		{"/events/fleet?max=0", nil, 400, "max"},
		{"/events/fleet?wait=2h", nil, 400, "wait"},
		{"/events/fleet", []string{"Last-Event-ID", "x"}, 400, "Last-Event-ID"},
		{"/events/fleet", []string{"Accept", "text/html"}, 406, "event-stream"},
	} {
		status, text, _ := f.text("GET", c.path, "", c.header...)
		if status != c.status || !strings.Contains(text, c.detail) {
			t.Errorf("%s %q: %d %s", c.path, c.header, status, text)
		}
	}
	f.stream("/events/fleet?group=g&filter=id%20%3D%20'x'")
	if status, text, _ := f.text("GET", "/events/fleet?group=g&wait=0s", ""); status != 409 || !strings.Contains(text, "filter") {
		t.Error(status, text)
	}
	f.stream("/events/fleet")
	if status, _, h := f.text("GET", "/events/fleet?wait=0s", ""); status != 503 || h.Get("Retry-After") == "" {
		t.Error(status, h)
	}
}

func TestPoll(t *testing.T) {
	f := startEvents(t, nil)
	f.add("a", "b", "c")
	poll := func(query, want, wantNext string) {
		t.Helper()
		status, text, h := f.text("GET", "/events/fleet?"+query, "")
		var list []struct{ ID string }
		if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 || h.Get("Content-Type") != mediaBatch {
			t.Fatal(status, text, h)
		}
		got := ""
		for _, e := range list {
			got += e.ID
		}
		if got != want || h.Get("Tributary-Next") != wantNext {
			t.Errorf("%s: %s, next %s", query, got, h.Get("Tributary-Next"))
		}
	}
	poll("from=first&max=2", "ab", "2")
	poll("from=2", "c", "3")
	poll("from=3&wait=10ms", "", "3")
	poll("wait=10ms", "", "3") // where an empty answer stands, so that nothing is lost between two
	var later sync.WaitGroup
	later.Go(func() {
		time.Sleep(100 * time.Millisecond)
		f.add("d")
	})
	poll("from=3&wait=30s", "d", "4")
	later.Wait()
}

// Two members share, what one leaves goes to the other, and the group goes on where it was.
func TestGroupOverHTTP(t *testing.T) {
	f := startEvents(t, func(c *Config) { c.AckTimeout = 300 * time.Millisecond })
	get := func(query string) (ids []string, offsets, member string) {
		t.Helper()
		status, text, h := f.text("GET", "/events/fleet?group=g&wait=5s&"+query, "")
		var list []struct{ ID string }
		if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 {
			t.Fatal(status, text)
		}
		for _, e := range list {
			ids = append(ids, e.ID)
		}
		return ids, h.Get("Tributary-Offsets"), h.Get("Tributary-Member")
	}
	ack := func(member, body string, want int) {
		t.Helper()
		if status, text, _ := f.text("POST", "/events/fleet/ack?member="+member, body); status != want {
			t.Fatal(status, text)
		}
	}
	f.add("a", "b", "c", "d")
	ids, offsets, member := get("from=first&max=3")
	if fmt.Sprint(ids) != "[a b c]" || offsets != "0,1,2" || member == "" {
		t.Fatal(ids, offsets, member)
	}
	ack(member, `{"offsets":[1]}`, 204)
	ack(member, `{"through":0}`, 204)
	for _, bad := range []string{`{}`, `{"offsets":[]}`, `{"through":1,"offsets":[1]}`, `[1]`, `{"offset":1}`} {
		ack(member, bad, 400)
	}
	ack("x", `{"through":0}`, 410)
	if status, _, _ := f.text("POST", "/events/fleet/ack?member="+member, `{"through":0}`, "Authorization", "Basic Ym90aDpi"); status != 410 {
		t.Error("another principal acknowledges: ", status)
	}
	if ids, _, _ = get("max=1&member=" + member); fmt.Sprint(ids) != "[d]" {
		t.Fatal(ids)
	}
	// It stays away: c and d go to the next one, in a stream.
	s := f.stream("/events/fleet?group=g")
	name, _, joined := s.next()
	var hello struct{ Member string }
	if err := json.Unmarshal([]byte(joined), &hello); err != nil || name != "joined" || hello.Member != s.resp.Header.Get("Tributary-Member") {
		t.Fatal(name, joined)
	}
	s.expect("2=c 3=d")
	ack(member, `{"through":3}`, 410)
	ack(hello.Member, `{"through":2}`, 204)
	s.resp.Body.Close()
	again := f.stream("/events/fleet?group=g")
	again.next()
	again.expect("3=d")
}

// Whoever loses the right to read hears so, at once; who keeps it reads on.
func TestReadersAreReconsidered(t *testing.T) {
	f := startEvents(t, nil)
	f.add("a")
	s := f.stream("/events/fleet?from=first")
	s.expect("0=a")
	f.renewed = &access.Grant{Principal: "user:backend", Read: []string{"fleet"}}
	f.server.Reconsider(access.Change{})
	f.add("b")
	s.expect("1=b")
	f.mu.Lock()
	f.renewed = &access.Grant{Principal: "user:backend", Read: []string{"other"}}
	f.mu.Unlock()
	f.server.Reconsider(access.Change{Principal: "user:nobody"})
	f.add("c")
	s.expect("2=c")
	f.server.Reconsider(access.Change{Principal: "user:backend"})
	if name, _, data := s.next(); name != "end" || !strings.Contains(data, "right") {
		t.Error(name, data)
	}
	if name, _, data := s.next(); name != "closed" || data != "EOF" {
		t.Error(name, data)
	}
}

// At the stop a stream ends with a word and properly, and a request that waits is answered.
func TestShutdownEndsReaders(t *testing.T) {
	f := startEvents(t, nil)
	s := f.stream("/events/fleet")
	waits := make(chan int)
	go func() {
		status, _, _ := f.text("GET", "/events/fleet?wait=1m", "")
		waits <- status
	}()
	for end := time.Now().Add(patience); f.server.events.readers.size() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no two readers")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if name, _, data := s.next(); name != "end" || !strings.Contains(data, "stopping") {
		t.Error(name, data)
	}
	if name, _, data := s.next(); data != "EOF" {
		t.Error(name, data)
	}
	if status := <-waits; status != 503 {
		t.Error(status)
	}
}
