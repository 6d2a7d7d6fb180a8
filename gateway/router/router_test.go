package router

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/plugin"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

func TestRouteMatching(t *testing.T) {
	in := publish("d", "a/b", "x")
	in.Event.DataContentType = "application/json"
	in.Event.SetExtension("site", "north")
	cases := []struct {
		route Route
		want  bool
	}{
		{Route{Application: "demo"}, true},
		{Route{Application: "other"}, false},
		{Route{Application: "*"}, true},
		{Route{Application: "demo", Topic: "a/+"}, true},
		{Route{Application: "demo", Topic: "b/#"}, false},
		{Route{Application: "demo", Type: event.TypePublish}, true},
		{Route{Application: "demo", Type: event.TypeCommand}, false},
		{Route{Application: "demo", Attributes: map[string]string{"datacontenttype": "application/json", "site": "north"}}, true},
		{Route{Application: "demo", Attributes: map[string]string{"site": "south"}}, false},
		{Route{Application: "demo", Attributes: map[string]string{"device": "d", "sender": "d", "subject": "a/b", "id": "id-x"}}, true},
	}
	for _, tc := range cases {
		if got := tc.route.matches(in); got != tc.want {
			t.Errorf("%+v: %v, want %v", tc.route, got, tc.want)
		}
	}
	cmd := command("d", "x")
	if r := (Route{Application: "demo", Topic: "b/#"}); !r.matches(cmd) {
		t.Error("a topic filter is about device topics: a command must match")
	}
}

// Routes for every application stand in their place among those for one.
func TestRoutesOfApplications(t *testing.T) {
	cfg := Default()
	for _, r := range []string{"demo/one", "*/all", "demo/two", "plant/three"} {
		application, plugin, _ := strings.Cut(r, "/")
		cfg.Routes = append(cfg.Routes, Route{Application: application, Plugin: plugin})
	}
	handlers := map[string]Handler{"one": nil, "all": nil, "two": nil, "three": nil}
	r, err := New(cfg, handlers, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for application, want := range map[string]string{"demo": "one all two", "plant": "all three", "new": "all"} {
		var got []string
		for _, b := range r.routesOf(application) {
			got = append(got, b.Plugin)
		}
		if strings.Join(got, " ") != want || !r.Routes(application) {
			t.Errorf("routes of %s: %q, want %s", application, got, want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	bad := map[string]func(*Config){
		"shards": func(c *Config) { c.Shards = -1 }, "queue": func(c *Config) { c.Queue = 0 },
		"retries": func(c *Config) { c.Retries = -1 }, "retry_delay": func(c *Config) { c.RetryDelay = 0 },
		"routes[0]: application": func(c *Config) { c.Routes = []Route{{Plugin: "p"}} },
		"routes[0].topic":        func(c *Config) { c.Routes = []Route{{Application: "a", Plugin: "p", Topic: "a#"}} },
	}
	for want, broken := range bad {
		cfg := Default()
		broken(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	cfg := Default()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.Routes = []Route{{Application: "demo", Plugin: "absent"}}
	if _, err := New(cfg, nil, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "[plugins.absent]") {
		t.Errorf("a route to a plugin that is not declared: %v", err)
	}
}

// Text that says so goes out as text, whatever plugin emitted it.
func TestEmitText(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{&event.Emit{Event: event.Event{Type: "test", DataContentType: in.Event.DataContentType,
			Data: in.Event.Data}}}}, nil
	}})
	for i, c := range []struct{ contentType, data, want string }{
		{"text/plain", "grün", `"data":"grün"}`},
		{"text/plain", "\xff", `"data_base64":"/w=="}`},
		{"application/octet-stream", "abc", `"data_base64":"YWJj"}`},
		{"application/json", "1", `"data":1}`},
		{"", "1", `"data_base64":"MQ=="}`},
	} {
		in := publish("d", "t", c.data)
		in.Event.DataContentType = c.contentType
		if o := f.do(t, in); o.Code != event.Success {
			t.Fatal(o)
		}
		e := f.store.events(store.Events("demo"))[i]
		if text := string(codec.AppendJSON(nil, &e)); !strings.HasSuffix(text, c.want) {
			t.Errorf("%q of %q: %s", c.data, c.contentType, text)
		}
	}
}

// The gateway, not the plugin, says whose event it is; absent attributes are filled in.
func TestEmitIsCompleted(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		lie := event.Event{Type: "test", Application: "victim", Sender: "victim"}
		lie.Extensions = []event.Attribute{{Name: "plugin", Value: "forged"}}
		return event.Result{Effects: []event.Effect{&event.Emit{Event: lie}, emit("second"),
			&event.Emit{Event: event.Event{ID: "own", Source: "urn:x", Type: "test", Time: time.Unix(5, 0).UTC()}}}}, nil
	}})
	if o := f.do(t, publish("sensor 1", "t", "x")); o.Code != event.Success {
		t.Fatal(o)
	}
	got := f.store.events(store.Events("demo"))
	if len(got) != 3 {
		t.Fatalf("%d events", len(got))
	}
	e := got[0]
	plug, _ := e.Extension("plugin")
	digest, _ := e.Extension("plugindigest")
	if e.Application != "demo" || e.Device != "sensor 1" || e.Sender != "sensor 1" || plug != "p" || digest != "sha256:p" ||
		e.ID != "id-x" || e.Source != "/applications/demo/devices/sensor%201" || !e.Time.Equal(time.Unix(100, 0)) {
		t.Errorf("first event: %+v", e)
	}
	if got[1].ID != "id-x.1" {
		t.Errorf("second id %q", got[1].ID)
	}
	if got[2].ID != "own" || got[2].Source != "urn:x" || !got[2].Time.Equal(time.Unix(5, 0)) {
		t.Errorf("the plugin's own attributes were not kept: %+v", got[2])
	}
}

// Only a gateway device that the registry trusts may speak for another device.
func TestSpeakingForAnotherDevice(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{emit("own"), &event.Emit{Event: event.Event{Type: "test", Device: string(in.Event.Data)}}}},
			nil
	}})
	cases := []struct {
		sender, device string
		code           event.Code
	}{
		{"gw", "child-1", event.Success}, {"gw", "gw", event.Success},
		{"gw", "other", event.NotAuthorized}, {"thief", "child-1", event.NotAuthorized},
	}
	want := 0
	for _, tc := range cases {
		if o := f.do(t, publish(tc.sender, "t", tc.device)); o.Code != tc.code {
			t.Errorf("%s as %s: %+v", tc.sender, tc.device, o)
		}
		if tc.code == event.Success {
			want += 2
		}
	}
	got := f.store.events(store.Events("demo"))
	if len(got) != want {
		t.Fatalf("%d events, want %d: a refused result must leave nothing", len(got), want)
	}
	if got[1].Device != "child-1" || got[1].Sender != "gw" {
		t.Errorf("event of a child: %+v", got[1])
	}
	if q := f.store.events(store.Quarantine("demo")); len(q) != 0 {
		t.Errorf("refusals went into quarantine: %v", q)
	}
}

// The source hears nothing before the commit is durable, and downlinks wait too.
func TestAnswerAfterDurable(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(*event.Inbound, func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{emit("x"), &event.Publish{Topics: []string{"t"}, Device: "d"}}}, nil
	}})
	f.store.hold = true
	var answered atomic.Bool
	done := make(chan stage.Outcome, 1)
	f.Submit(publish("d", "t", "x"), nil, func(o stage.Outcome) { answered.Store(true); done <- o })
	for len(f.store.events(store.Events("demo"))) == 0 {
		time.Sleep(time.Millisecond)
	}
	f.down.mu.Lock()
	sent := len(f.down.sent)
	f.down.mu.Unlock()
	if answered.Load() || sent != 0 {
		t.Fatal("answered or sent before the commit was durable")
	}
	f.store.release(nil)
	if o := <-done; o.Code != event.Success || len(f.down.sent) != 1 {
		t.Fatalf("%+v, %d sent", o, len(f.down.sent))
	}
	// What only the delivery wrote has to be durable, too.
	for _, fail := range []error{nil, errors.New("disk full")} {
		answered.Store(false)
		f.down.late = true
		var along companion
		f.Submit(publish("d", "t", "x"), &along, func(o stage.Outcome) { answered.Store(true); done <- o })
		for !f.store.waits() {
			time.Sleep(time.Millisecond)
		}
		if along.committed.Load() != 0 {
			t.Error("the companion hears of a commit that is not durable")
		}
		f.store.release(nil)
		if n := along.committed.Load(); n != 1 { // at once, so that it is in the order of the commits
			t.Errorf("the companion heard of its commit %d times", n)
		}
		if answered.Load() || len(f.down.sent) == 1 {
			t.Fatalf("answered %v, %d sent", answered.Load(), len(f.down.sent))
		}
		f.store.release(fail)
		if o := <-done; o.Unavailable != (fail != nil) {
			t.Errorf("%+v after %v", o, fail)
		}
	}
}

// A store that fails is no answer: the source keeps its message.
func TestStoreFailure(t *testing.T) {
	h := &handlerFunc{name: "p", fn: func(*event.Inbound, func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{emit("x"), &event.Publish{Topics: []string{"t"}}}}, nil
	}}
	f := start(t, quick(), h)
	f.store.fail = store.ErrFailed
	if o := f.do(t, publish("d", "t", "x")); !o.Unavailable {
		t.Errorf("refused commit: %+v", o)
	}
	f.store.mu.Lock()
	f.store.fail, f.store.hold = nil, true
	f.store.mu.Unlock()
	done := make(chan stage.Outcome, 1)
	f.Submit(publish("d", "t", "x"), nil, func(o stage.Outcome) { done <- o })
	for len(f.store.events(store.Events("demo"))) == 0 {
		time.Sleep(time.Millisecond)
	}
	f.store.release(errors.New("disk full"))
	if o := <-done; !o.Unavailable || len(f.down.sent) != 0 {
		t.Errorf("failed commit: %+v, %d sent", o, len(f.down.sent))
	}
}

// An HTTP status is no reason code: what went well counts as such.
func TestReplyToRequest(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		code, err := strconv.Atoi(string(in.Event.Data))
		return event.Result{Effects: []event.Effect{&event.Reply{Code: event.Code(code)}}}, err
	}})
	for status, refused := range map[string]bool{"200": false, "204": false, "302": false, "400": true, "404": true, "500": true} {
		in := publish("d", "t", status)
		in.Event.Type, in.Transport.Protocol = event.TypeRequest, "http"
		if o := f.do(t, in); o.Code.Refused() != refused || o.Reply == nil || strconv.Itoa(int(o.Reply.Code)) != status {
			t.Errorf("%s: %+v", status, o)
		}
	}
}

func TestReply(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		code := event.Code(in.Event.Data[0])
		return event.Result{Effects: []event.Effect{emit("x"), &event.Put{Key: "k", Value: []byte("v")},
			&event.Reply{Code: code, Reason: "because"}}}, nil
	}})
	if o := f.do(t, publish("d", "t", "\x90")); o.Code != event.TopicNameInvalid || o.Reason != "because" {
		t.Errorf("%+v", o)
	}
	if len(f.store.events(store.Events("demo"))) != 0 || len(f.store.keys) != 0 {
		t.Error("a refusal left effects")
	}
	if o := f.do(t, publish("d", "t", "\x01")); o.Code != 1 || o.Reply == nil {
		t.Errorf("%+v", o)
	}
	if len(f.store.events(store.Events("demo"))) != 1 {
		t.Error("an accepted event left no effects")
	}
}

// What a device publishes is never lost: where no route takes it, and no other device
// could have subscribed to it, it is in quarantine.
func TestNoRoute(t *testing.T) {
	narrow := quick()
	narrow.Routes = []Route{{Application: "demo", Plugin: "p", Topic: "temperatur"}} // misspelt
	for _, tt := range []struct {
		name, application string
		cfg               Config
		typ               string
		kept              bool
	}{
		{"no route at all", "demo", quick(), event.TypePublish, true},
		{"another topic", "demo", narrow, event.TypePublish, true},
		{"messaging", "social", quick(), event.TypePublish, false},
		{"an application that is deleted", "gone", quick(), event.TypePublish, false},
		{"a device that connects", "demo", quick(), event.TypeConnection, false},
		{"a command", "demo", quick(), event.TypeCommand, false}, // its sender is told
		{"a request", "demo", quick(), event.TypeRequest, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var handlers []*handlerFunc
			for range tt.cfg.Routes {
				handlers = append(handlers, &handlerFunc{name: "p"})
			}
			f := start(t, tt.cfg, handlers...)
			in := publish("d", "temperature", "x")
			in.Event.Application, in.Event.Type, in.Event.DataContentType = tt.application, tt.typ, "text/plain"
			o := f.do(t, in)
			kept := f.store.events(store.Quarantine(tt.application))
			if o.Code != event.NoMatchingSubscribers || strings.HasPrefix(o.Reason, "quarantined: no route takes this event") != tt.kept {
				t.Errorf("outcome %+v", o)
			}
			count := map[string]float64{}
			for _, m := range f.Metrics() {
				count[m.Name] += m.Value
			}
			want := 0
			if tt.kept {
				want = 1
			}
			if len(kept) != want || count["tributary_router_unrouted_total"] != float64(want) ||
				count["tributary_router_quarantined_total"] != float64(want) {
				t.Fatalf("%d in quarantine, counted %v", len(kept), count)
			}
			if !tt.kept {
				return
			}
			e := kept[0]
			cause, _ := e.Extension("quarantineerror")
			topic, _ := e.Extension("topic")
			if e.ID != in.Event.ID || string(e.Data) != "x" || cause != "no route takes this event" || topic != "temperature" {
				t.Errorf("in quarantine: %+v", e)
			}
			if f.Routes("demo") != (len(tt.cfg.Routes) > 0) {
				t.Error("Routes says otherwise")
			}
		})
	}
}

// A content type that is no media type is the device's mistake where the plugin passes
// it on, and the plugin's where it made it up.
func TestContentTypes(t *testing.T) {
	for _, tt := range []struct {
		given, emitted string
		cause          string // of the quarantine; empty: it is emitted
	}{
		{"application/json; charset=utf-8", "", ""},
		{"json", "", `the sender's content type "json" is no media type (RFC 2046), such as application/json`},
		{"text/plain;\x01", "", `the sender's content type "text/plain;\x01" is no media type (RFC 2046), such as application/json`},
		{"json", "application/json", ""}, // the plugin knows better
		{"json", "yaml", "the plugin p emitted an event that is not a valid CloudEvent: attribute datacontenttype is not a media type (RFC 2046)"},
		{"text/plain", "yaml", "the plugin p emitted an event that is not a valid CloudEvent: attribute datacontenttype is not a media type " +
			"(RFC 2046)"},
	} {
		f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
			e := event.Event{Type: "x", DataContentType: cmp.Or(tt.emitted, in.Event.DataContentType), Data: in.Event.Data}
			return event.Result{Effects: []event.Effect{&event.Emit{Event: e}}}, nil
		}})
		in := publish("d", "t", "21")
		in.Event.DataContentType = tt.given
		o := f.do(t, in)
		if tt.cause == "" {
			if o.Code != 0 || len(f.store.events(store.Events("demo"))) != 1 {
				t.Errorf("%q: %+v", tt.given, o)
			}
			continue
		}
		kept := f.store.events(store.Quarantine("demo"))
		if o.Code != event.PayloadFormatInvalid || o.Reason != "quarantined: "+tt.cause || len(kept) != 1 {
			t.Errorf("%q: %+v, %d in quarantine\nwant %s", tt.given, o, len(kept), tt.cause)
		}
	}
}

func TestQuarantine(t *testing.T) {
	fault := &plugin.Fault{Kind: "trap", Detail: "unreachable"}
	cases := []struct {
		name  string
		err   error
		res   event.Result
		code  event.Code
		calls int32
	}{
		{"permanent", nil, event.Result{Failure: &event.Failure{Message: "not my format"}}, event.PayloadFormatInvalid, 1},
		{"permanent with code", nil, event.Result{Failure: &event.Failure{Message: "m", Code: 0x83}}, event.ImplementationSpecificError, 1},
		{"retryable", nil, event.Result{Failure: &event.Failure{Message: "later", Retryable: true}}, event.UnspecifiedError, 4},
		{"fault", fault, event.Result{}, event.ImplementationSpecificError, 2},
		{"deadline", &plugin.Fault{Kind: plugin.FaultDeadline}, event.Result{}, event.ImplementationSpecificError, 4},
		{"other error", errors.New("broken"), event.Result{}, event.UnspecifiedError, 4},
		{"unknown effect", nil, event.Result{Effects: []event.Effect{&event.SetTimer{}}}, event.PayloadFormatInvalid, 1},
		{"invalid event", nil, event.Result{Effects: []event.Effect{&event.Emit{}}}, event.PayloadFormatInvalid, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var calls atomic.Int32
			f := start(t, quick(), &handlerFunc{name: "p", fn: func(*event.Inbound, func(string) []byte) (event.Result, error) {
				calls.Add(1)
				return tc.res, tc.err
			}})
			in := publish("d", "raw", "\x00\xff{bad")
			in.Event.DataContentType = "application/json"
			in.Transport.Properties = []event.Property{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}
			if o := f.do(t, in); o.Code != tc.code || !strings.Contains(o.Reason, "quarantined") {
				t.Errorf("%+v", o)
			}
			if calls.Load() != tc.calls {
				t.Errorf("%d calls, want %d", calls.Load(), tc.calls)
			}
			q := f.store.events(store.Quarantine("demo"))
			if len(q) != 1 || len(f.store.events(store.Events("demo"))) != 0 {
				t.Fatalf("%d in quarantine", len(q))
			}
			if !bytes.Equal(q[0].Data, in.Event.Data) || q[0].Device != "d" {
				t.Errorf("%+v", q[0])
			}
			if why, _ := q[0].Extension("quarantineerror"); why == "" {
				t.Error("no error")
			}
			text, _ := q[0].Extension("request")
			raw, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			var again event.Inbound
			if _, _, err := codec.ParseRequest(raw, &again); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Event.Data, in.Event.Data) || again.Event.DataContentType != "application/json" ||
				!slices.Equal(again.Transport.Properties, in.Transport.Properties) || again.Transport.Topic != "raw" {
				t.Errorf("the request differs: %+v", again)
			}
		})
	}
}

// A retryable failure heals; later events of the same device wait behind it,
// other devices do not, and the log keeps the order of submission.
func TestRetryKeepsOrderPerDevice(t *testing.T) {
	var failures atomic.Int32
	failures.Store(3)
	blocked := make(chan struct{})
	f := start(t, Config{Queue: 64, Shards: 1, Retries: 5, RetryDelay: 20 * time.Millisecond, RetryDelayMax: 20 * time.Millisecond},
		&handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
			if in.Event.Device == "slow" && failures.Add(-1) >= 0 {
				return event.Result{Failure: &event.Failure{Retryable: true, Message: "later"}}, nil
			}
			return event.Result{Effects: []event.Effect{emit(string(in.Event.Data))}}, nil
		}})
	var wg sync.WaitGroup
	var quickDone, slowDone []string
	var mu sync.Mutex
	for i := range 10 {
		for _, d := range []string{"slow", "quick"} {
			wg.Add(1)
			f.Submit(publish(d, "t", fmt.Sprintf("%s%d", d, i)), nil, func(o stage.Outcome) {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				if o.Code != event.Success {
					t.Errorf("%s: %+v", d, o)
				}
				if d == "quick" {
					if quickDone = append(quickDone, d); len(quickDone) == 10 && len(slowDone) == 0 {
						close(blocked)
					}
				} else {
					slowDone = append(slowDone, d)
				}
			})
		}
	}
	select {
	case <-blocked:
	case <-time.After(60 * time.Second):
		t.Error("the other device waited for the retry")
	}
	wg.Wait()
	var slow []string
	for _, e := range f.store.events(store.Events("demo")) {
		if e.Device == "slow" {
			slow = append(slow, e.Subject)
		}
	}
	for i, s := range slow {
		if s != fmt.Sprintf("slow%d", i) {
			t.Fatalf("order %v", slow)
		}
	}
	if len(slow) != 10 {
		t.Fatalf("%d events of the slow device", len(slow))
	}
}

// State that changed between read and commit makes the handler run again.
func TestOptimisticState(t *testing.T) {
	var f *fixture
	key := store.Key{Kind: store.State, Name: "demo\x00p\x00seen"}
	calls := 0
	f = start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, get func(string) []byte) (event.Result, error) {
		v := append(slices.Clone(get("seen")), in.Event.Data...)
		if calls++; calls == 1 {
			_ = f.store.Commit(&store.Batch{Puts: []store.Put{{Key: key, Value: []byte("0")}}}, func(error) {})
		}
		return event.Result{Effects: []event.Effect{&event.Put{Key: "seen", Value: v}, &event.Delete{Key: "gone"}, emit(string(v))}}, nil
	}})
	for i, want := range []string{"0a", "0ab"} {
		if o := f.do(t, publish("d", "t", "ab"[i:i+1])); o.Code != event.Success {
			t.Fatal(o)
		}
		if got := string(f.store.keys[key]); got != want {
			t.Fatalf("state %q, want %q", got, want)
		}
	}
	if calls != 3 || len(f.store.events(store.Events("demo"))) != 2 {
		t.Errorf("%d calls, %d events: the run that lost must leave nothing", calls, len(f.store.events(store.Events("demo"))))
	}
}

// State that never holds still ends like a retryable failure.
func TestStateThatKeepsChanging(t *testing.T) {
	var f *fixture
	f = start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, get func(string) []byte) (event.Result, error) {
		get("hot")
		_ = f.store.Commit(&store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.State, Name: "demo\x00p\x00hot"}}}}, func(error) {})
		return event.Result{Effects: []event.Effect{emit("x")}}, nil
	}})
	if o := f.do(t, publish("d", "t", "x")); !o.Code.Refused() || len(f.store.events(store.Quarantine("demo"))) != 1 {
		t.Errorf("%+v", o)
	}
}

// A plugin keeps at most what it is granted, per application: here 20 bytes.
func TestStateQuota(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		key, value, isPut := strings.Cut(string(in.Event.Data), "=")
		if isPut {
			return event.Result{Effects: []event.Effect{&event.Put{Key: key, Value: []byte("earlier, and longer than the quota")},
				&event.Put{Key: key, Value: []byte(value)}}}, nil
		}
		return event.Result{Effects: []event.Effect{&event.Put{Key: key, Value: []byte("x")}, &event.Delete{Key: key}}}, nil
	}})
	for _, step := range []struct {
		write string
		ok    bool
		keys  int
	}{
		{"a=123456789", true, 1}, {"b=123456789", true, 2}, {"c=", false, 2}, {"a=1", true, 2}, {"c=1234567", true, 3}, {"d=1", false, 3},
		{"b", true, 2}, {"d=12345678", true, 3}, {"nothing", true, 3}, {"a=123456789", false, 3},
	} {
		o := f.do(t, publish("d", "t", step.write))
		if ok := o.Code == event.Success; ok != step.ok || !ok && (o.Code != event.QuotaExceeded || !strings.Contains(o.Reason, "state_bytes")) {
			t.Errorf("%s: %+v", step.write, o)
		}
		f.store.mu.Lock()
		if len(f.store.keys) != step.keys {
			t.Errorf("%s: %d keys, want %d", step.write, len(f.store.keys), step.keys)
		}
		f.store.mu.Unlock()
	}
}

// A protocol plugin passes to a decoder; effects of both commit together.
func TestPass(t *testing.T) {
	proto := &handlerFunc{name: "proto", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		e := in.Event
		e.Subject, e.Device = "passed", "child-1"
		return event.Result{Effects: []event.Effect{emit("proto"), &event.Put{Key: "k", Value: []byte("1")}, &event.Pass{Event: e}}}, nil
	}}
	decoder := &handlerFunc{name: "decoder", fn: func(in *event.Inbound, get func(string) []byte) (event.Result, error) {
		if in.Event.Subject != "passed" || in.Event.Device != "child-1" || in.Event.Sender != "gw" || get("k") != nil {
			return event.Result{}, fmt.Errorf("unexpected %+v", in.Event)
		}
		return event.Result{Effects: []event.Effect{emit("decoded")}}, nil
	}}
	f := start(t, quick(), proto, decoder)
	if o := f.do(t, publish("gw", "t", "x")); o.Code != event.Success {
		t.Fatal(o)
	}
	got := f.store.events(store.Events("demo"))
	if len(got) != 2 || got[1].Subject != "decoded" || got[0].ID == got[1].ID {
		t.Fatalf("%+v", got)
	}
	alone := start(t, quick(), proto)
	if o := alone.do(t, publish("gw", "t", "x")); o.Code != event.PayloadFormatInvalid || len(alone.store.keys) != 0 {
		t.Errorf("passed to nobody: %+v", o)
	}
	var cfg Config = quick()
	for range maxHops + 1 {
		cfg.Routes = append(cfg.Routes, Route{Application: "demo", Plugin: "proto"})
	}
	loop := start(t, cfg, proto)
	if o := loop.do(t, publish("gw", "t", "x")); !strings.Contains(o.Reason, "8 times") {
		t.Errorf("too many hops: %+v", o)
	}
}

// A command goes to the connection that carries the device, and its publisher
// learns what became of it.
func TestCommand(t *testing.T) {
	p := &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		if in.Event.Type == event.TypePublish {
			return event.Result{Effects: []event.Effect{&event.Emit{Event: event.Event{Type: "t", Device: "child-1"}}}}, nil
		}
		return event.Result{Effects: []event.Effect{&event.Publish{Topics: []string{"inbox"}, Device: in.Event.Sender}}}, nil
	}}
	cases := []struct {
		name     string
		device   string
		online   map[string]stage.Delivery
		target   string
		code     event.Code
		delivery stage.Delivery
	}{
		{"connected", "d", map[string]stage.Delivery{"d": stage.Delivered}, "d", event.Success, stage.Delivered},
		{"asleep", "d", map[string]stage.Delivery{"d": stage.Queued}, "d", event.Success, stage.Queued},
		{"away", "d", nil, "d", event.NoMatchingSubscribers, stage.NoDevice},
		{"behind its gateway", "child-1", map[string]stage.Delivery{"gw": stage.Delivered}, "gw", event.Success, stage.Delivered},
		{"itself before its gateway", "child-1", map[string]stage.Delivery{"gw": stage.Delivered, "child-1": stage.Delivered}, "child-1",
			event.Success, stage.Delivered},
		{"connected gateway before own queue", "child-1", map[string]stage.Delivery{"gw": stage.Delivered, "child-1": stage.Queued}, "gw",
			event.Success, stage.Delivered},
		{"disabled", "off", map[string]stage.Delivery{"off": stage.Delivered}, "", event.ImplementationSpecificError, stage.NoDevice},
		{"unknown", "ghost", map[string]stage.Delivery{"ghost": stage.Delivered}, "", event.NotAuthorized, stage.NoDevice},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := start(t, quick(), p)
			if tc.online != nil {
				f.down.online = tc.online
			}
			o := f.do(t, command(tc.device, "x"))
			if o.Code != tc.code || o.Delivery != tc.delivery {
				t.Errorf("%+v", o)
			}
			target := ""
			if len(f.down.sent) == 1 {
				target = f.down.sent[0].Device
			}
			if target != tc.target {
				t.Errorf("sent to %q, want %q", target, tc.target)
			}
		})
	}
}

// Close lets what was submitted finish and refuses the rest.
func TestClose(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{emit("x")}}, nil
	}})
	var n, lost atomic.Int32
	for i := range 200 {
		f.Submit(publish(fmt.Sprint("d", i%7), "t", "x"), nil, func(o stage.Outcome) {
			n.Add(1)
			if o.Unavailable {
				lost.Add(1)
			}
		})
	}
	if err := f.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n.Load() != 200 || lost.Load() != 0 {
		t.Fatalf("%d answered, %d unavailable", n.Load(), lost.Load())
	}
	if o := f.do(t, publish("d", "t", "x")); !o.Unavailable {
		t.Errorf("after Close: %+v", o)
	}
}

// An event that never heals is answered Unavailable when the gateway stops.
func TestCloseAbandonsRetries(t *testing.T) {
	cfg := quick()
	cfg.RetryDelay, cfg.RetryDelayMax = time.Hour, time.Hour
	f := start(t, cfg, &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		return event.Result{Failure: &event.Failure{Retryable: true, Message: "later"}}, nil
	}})
	got := make(chan stage.Outcome, 2)
	f.Submit(publish("d", "t", "x"), nil, func(o stage.Outcome) { got <- o })
	f.Submit(publish("d", "t", "y"), nil, func(o stage.Outcome) { got <- o })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.Close(ctx); err == nil {
		t.Error("no error")
	}
	if a, b := <-got, <-got; !a.Unavailable || !b.Unavailable {
		t.Errorf("%+v %+v", a, b)
	}
}

func BenchmarkSubmit(b *testing.B) {
	f := start(b, Default(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		return event.Result{Effects: []event.Effect{&event.Emit{Event: event.Event{Type: "test", Subject: "s", Data: in.Event.Data}}}}, nil
	}})
	in := publish("d", "t", "x")
	var wg sync.WaitGroup
	b.ReportAllocs()
	for b.Loop() {
		wg.Add(1)
		f.Submit(in, nil, func(stage.Outcome) { wg.Done() })
	}
	wg.Wait()
}
