package sdk

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

var published = event.Inbound{
	Event: event.Event{
		ID: "1", Source: "/applications/demo/devices/d", Type: event.TypePublish, Time: time.Unix(1795000000, 0).UTC(), Application: "demo",
		Device: "d", Sender: "d",
		Data: []byte(`{"state":{"reported":{"temperature":21.5}}}`),
	},
	Transport: event.Transport{Protocol: "mqtt", Topic: "a/b", QoS: 1, Properties: []event.Property{{Name: "k", Value: "v"}}},
}

func TestRunShowsTheRequest(t *testing.T) {
	Run(func(r *Request) error {
		if !reflect.DeepEqual(r.Inbound, published) {
			t.Errorf("inbound: %+v", r.Inbound)
		}
		if !r.Now.Equal(published.Event.Time) {
			t.Errorf("now: %v", r.Now)
		}
		if f, ok := r.JSON("state", "reported", "temperature").Float(); f != 21.5 || !ok {
			t.Errorf("temperature: %v %v", f, ok)
		}
		if s, ok := r.Config("a b").String(); s != `"quoted"` || !ok {
			t.Errorf("config: %q %v", s, ok)
		}
		if r.Config("none").Exists() || r.JSON("none").Exists() {
			t.Error("what is not there exists")
		}
		return nil
	}, published, map[string]string{"a b": `"quoted"`}, nil)
}

func TestRunReturnsEveryEffect(t *testing.T) {
	at := time.Unix(1795000001, 5).UTC()
	want := []event.Effect{
		&event.Emit{Event: event.Event{Type: "t", Data: []byte("x"), Text: true, Extensions: []event.Attribute{{Name: "n", Kind: event.Integer,
			Value: "1"}}}},
		&event.Pass{Event: event.Event{ID: "2", Source: "/s", Type: "p", Device: "e"}},
		&event.Publish{Topics: []string{"t", "u"}, Device: "d", Payload: []byte("x"), QoS: 1, Expiry: time.Minute},
		&event.Put{Key: "k", Value: []byte("v"), TTL: time.Hour},
		&event.Delete{Key: "l"},
		&event.Reply{Code: 1, Reason: "r"},
		&event.SetTimer{Key: "t", At: at, Data: []byte("x")},
	}
	got := Run(func(r *Request) error {
		r.Emit(want[0].(*event.Emit).Event)
		r.Pass(want[1].(*event.Pass).Event)
		r.Publish(*want[2].(*event.Publish))
		r.Put("k", []byte("v"), time.Hour)
		r.Delete("l")
		r.Reply(1, "r")
		r.Do(want[6])
		return nil
	}, published, nil, nil)
	if got.Failure != nil || len(got.Effects) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if e, ok := got.Effects[i].(*event.Emit); ok && len(e.Event.Extensions) == 0 {
			e.Event.Extensions = nil
		}
		if e, ok := got.Effects[i].(*event.Pass); ok && len(e.Event.Extensions) == 0 {
			e.Event.Extensions = nil
		}
		if !reflect.DeepEqual(got.Effects[i], want[i]) {
			t.Errorf("effect %d:\ngot  %+v\nwant %+v", i, got.Effects[i], want[i])
		}
	}
}

func TestRunReturnsFailures(t *testing.T) {
	cases := []struct {
		err  error
		want event.Failure
	}{
		{Permanent("p"), event.Failure{Message: "p"}},
		{Retry("r"), event.Failure{Message: "r", Retryable: true}},
		{&event.Failure{Code: 0x90, Message: "f"}, event.Failure{Message: "f", Code: 0x90}},
		{errors.New("other"), event.Failure{Message: "other"}},
	}
	for _, c := range cases {
		got := Run(func(r *Request) error {
			r.Reply(0, "dropped")
			return c.err
		}, published, nil, nil)
		if got.Failure == nil || *got.Failure != c.want || got.Effects != nil {
			t.Errorf("%v: %+v %+v", c.err, got.Failure, got.Effects)
		}
	}
	if got := Run(func(*Request) error { return nil }, published, nil, nil); got.Failure != nil || len(got.Effects) != 0 {
		t.Errorf("nothing to do: %+v", got)
	}
	if got := Run(func(*Request) error { return nil }, event.Inbound{Event: event.Event{Extensions: []event.Attribute{{Name: "id"}}}}, nil,
		nil); got.Failure == nil {
		t.Error("an event that the gateway cannot send was handled")
	}
}

func TestState(t *testing.T) {
	long := strings.Repeat("x", 3000)
	state := map[string][]byte{"short": []byte("s"), "long": []byte(long), "empty": {}}
	got := Run(func(r *Request) error {
		first, _ := r.State("short")
		for range 3 {
			if v, ok := r.State("long"); string(v) != long || !ok {
				t.Errorf("long: %d bytes, %v", len(v), ok)
			}
		}
		if v, ok := r.State("empty"); len(v) != 0 || !ok {
			t.Errorf("empty: %q %v", v, ok)
		}
		if v, ok := r.State("none"); v != nil || ok {
			t.Errorf("none: %q %v", v, ok)
		}
		_ = append(first, "overwritten"...)
		if v, _ := r.State("short"); string(first) != "s" || string(v) != "s" {
			t.Errorf("short: %q, then %q", first, v)
		}
		return nil
	}, published, nil, state)
	if got.Failure != nil {
		t.Error(got.Failure)
	}
	got = Run(func(r *Request) error {
		if _, ok := r.State("short"); ok {
			t.Error("read what was not granted")
		}
		r.Reply(0, "")
		return nil
	}, published, nil, nil)
	if got.Failure == nil || got.Failure.Retryable || !strings.Contains(got.Failure.Message, "state_bytes") {
		t.Errorf("state without a grant: %+v", got)
	}
}

func decode(r *Request) error {
	celsius, ok := r.JSON("state", "reported", "temperature").Float()
	if !ok {
		return Permanent("no temperature")
	}
	if _, ok := r.State("k"); !ok {
		return Retry("no state")
	}
	dialect, _ := r.Config("dialect").String()
	w := r.Writer().Object().Key("celsius").Float(celsius).Key("dialect").String(dialect).End()
	r.Emit(event.Event{Type: "t", Subject: r.Transport.Topic, DataContentType: "application/json", Data: w.Bytes(),
		Extensions: []event.Attribute{{Name: "a", Value: "b"}}})
	r.Publish(event.Publish{Topics: []string{"a", "b"}, Payload: w.Bytes(), Properties: []event.Property{{Name: "k", Value: "v"}}})
	r.Put("k", w.Bytes(), time.Minute)
	r.Reply(0, "")
	return nil
}

func TestServeAllocatesNothing(t *testing.T) {
	request := codec.AppendRequest(nil, &published, published.Event.Time, []byte(`{"dialect":"plain"}`))
	r := Request{host: newFake(map[string][]byte{"k": []byte("v")})}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.serve(decode, request); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
	response, _ := r.serve(decode, request)
	if result, err := codec.ParseResponse(response); err != nil || len(result.Effects) != 4 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestServeForgets says that one large event does not make the guest large, and
// that nothing of an event is left for the next.
func TestServeForgets(t *testing.T) {
	large := published
	large.Event.Data = []byte(`"` + strings.Repeat("x", 2*keep) + `"`)
	r := Request{host: newFake(nil)}
	echo := func(r *Request) error {
		r.Emit(event.Event{Type: "t", Data: r.Writer().Raw(r.JSON().Raw()).Bytes()})
		return nil
	}
	for _, in := range []event.Inbound{large, published, {Event: event.Event{ID: "2", Source: "/", Type: "t"}}} {
		if _, err := r.serve(echo, codec.AppendRequest(nil, &in, in.Event.Time, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if kept := cap(r.out) + cap(r.writer.buf) + cap(r.state); kept > 3*keep {
		t.Errorf("%d bytes are kept", kept)
	}
	if r.JSON().Exists() || r.Event.Application != "" || len(r.Transport.Properties) != 0 {
		t.Errorf("left from the event before: %+v", r.Inbound)
	}
}

// FuzzRequestView gives the guest's side of the ABI any bytes: it refuses them,
// or answers with what the gateway understands.
func FuzzRequestView(f *testing.F) {
	f.Add(codec.AppendRequest(nil, &published, published.Event.Time, []byte(`{"dialect":"plain"}`)))
	f.Add(codec.AppendRequest(nil, &event.Inbound{}, time.Time{}, nil))
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00})
	r := Request{host: newFake(map[string][]byte{"k": []byte("v")})}
	f.Fuzz(func(t *testing.T, request []byte) {
		response, err := r.serve(decode, request)
		if err != nil {
			return
		}
		result, err := codec.ParseResponse(response)
		if err != nil {
			t.Fatalf("the response is refused: %v", err)
		}
		if (result.Failure == nil) == (len(result.Effects) == 0) {
			t.Fatalf("result: %+v", result)
		}
	})
}

func BenchmarkServe(b *testing.B) {
	request := codec.AppendRequest(nil, &published, published.Event.Time, nil)
	r := Request{host: newFake(map[string][]byte{"k": []byte("v")})}
	b.ReportAllocs()
	b.SetBytes(int64(len(request)))
	for b.Loop() {
		if _, err := r.serve(decode, request); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	data := published.Event.Data
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, ok := ParseJSON(data).Get("state", "reported", "temperature").Float(); !ok {
			b.Fatal("no number")
		}
	}
}

func TestScan(t *testing.T) {
	state := map[string][]byte{"a": nil, "j": nil, "j/": {}, "k": nil, "j/big": make([]byte, 20_000)}
	for i := range 200 {
		state[fmt.Sprintf("j/%03d", i)] = fmt.Append(nil, i)
	}
	var keys []string
	var first []byte
	res := Run(func(r *Request) error {
		for key, value := range r.Scan("j/", "") {
			if string(state[key]) != string(value) {
				t.Errorf("%s: %d bytes", key, len(value))
			}
			if keys = append(keys, strings.Clone(key)); len(keys) == 2 {
				first = value
			}
		}
		if string(first) != "0" {
			t.Errorf("a value did not stay: %q", first)
		}
		for key := range r.Scan("j/", "j/100") {
			if key != "j/101" {
				t.Errorf("after j/100: %s", key)
			}
			break
		}
		for key := range r.Scan("none", "") {
			t.Errorf("none: %s", key)
		}
		return nil
	}, event.Inbound{Event: event.Event{ID: "1", Source: "/x", Type: event.TypePublish}}, nil, state)
	if res.Failure != nil || len(keys) != 202 || !slices.IsSorted(keys) || keys[0] != "j/" || keys[201] != "j/big" {
		t.Errorf("%v, %d keys", res.Failure, len(keys))
	}
	res = Run(func(r *Request) error {
		for range r.Scan("", "") {
			t.Error("a key without state")
		}
		return nil
	}, event.Inbound{Event: event.Event{ID: "1", Source: "/x", Type: event.TypePublish}}, nil, nil)
	if res.Failure == nil || res.Failure.Code != 0x83 {
		t.Errorf("without a grant: %+v", res)
	}
}

// The short forms are the effects of the same names.
func TestDeferredEffects(t *testing.T) {
	at := time.Unix(1000, 0).UTC()
	in := event.Inbound{Event: event.Event{ID: "1", Source: "/x", Type: event.TypeResponse, Extensions: []event.Attribute{{Name: "status",
		Kind: event.Integer, Value: "204"}}}}
	res := Run(func(r *Request) error {
		if status, problem := r.Status(); status != 204 || problem != "" {
			t.Errorf("%d %q", status, problem)
		}
		r.SetTimer("k", at, []byte("data"))
		r.CancelTimer("c")
		r.Call(event.Call{ID: "1", Method: "GET", URL: "https://a/"})
		r.Allow(event.Allow{Device: "d"})
		r.Deny("why")
		return nil
	}, in, nil, nil)
	want := []event.Effect{&event.SetTimer{Key: "k", At: at, Data: []byte("data")}, &event.CancelTimer{Key: "c"},
		&event.Call{ID: "1", Method: "GET", URL: "https://a/"}, &event.Allow{Device: "d"}, &event.Deny{Reason: "why"}}
	if res.Failure != nil || !reflect.DeepEqual(res.Effects, want) {
		t.Errorf("%v %+v", res.Failure, res.Effects)
	}
}
