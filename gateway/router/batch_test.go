package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// counting is a plugin that counts its events in its state and emits the count. What an
// event's data says it does instead.
func counting() *handlerFunc {
	tries := map[string]int{}
	return &handlerFunc{name: "p", fn: func(in *event.Inbound, get func(string) []byte) (event.Result, error) {
		n := string(get("n")) + "i"
		done := event.Result{Effects: []event.Effect{emit(n), &event.Put{Key: "n", Value: []byte(n)}}}
		switch what, _, _ := strings.Cut(string(in.Event.Data), " "); what {
		case "fail":
			return event.Result{Failure: &event.Failure{Message: "no good"}}, nil
		case "later": // succeeds with the second attempt
			if tries[in.Event.ID]++; tries[in.Event.ID] == 1 {
				return event.Result{Failure: &event.Failure{Message: "not yet", Retryable: true}}, nil
			}
		case "refuse":
			return event.Result{Effects: []event.Effect{&event.Reply{Code: event.QuotaExceeded, Reason: "enough"}}}, nil
		case "foreign":
			return event.Result{Effects: []event.Effect{&event.Emit{Event: event.Event{Type: "t", Device: "other"}}}}, nil
		case "large":
			return event.Result{Effects: []event.Effect{&event.Put{Key: in.Event.ID, Value: make([]byte, 8)}}}, nil
		}
		return done, nil
	}}
}

func batchOf(data ...string) (all []*event.Inbound) {
	for i, d := range data {
		in := publish("d", "t", d)
		in.Event.ID, in.Transport.Protocol = fmt.Sprint("id-", i), "http"
		all = append(all, in)
	}
	return all
}

func (f *fixture) doBatch(all []*event.Inbound) stage.Outcome {
	ch := make(chan stage.Outcome, 1)
	f.SubmitBatch(all, func(o stage.Outcome) { ch <- o })
	return <-ch
}

// A batch is one commit, in order, each event with what the ones before it wrote, or nothing
// at all, with the index of the event at fault.
func TestBatchIsAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		data  []string
		code  event.Code
		index int
		want  string // subjects and ids on the log
	}{
		{"good", []string{"a", "b", "c"}, 0, 0, "i=id-0 ii=id-1 iii=id-2"},
		{"one", []string{"a"}, 0, 0, "i=id-0"},
		{"tried again", []string{"a", "later", "c"}, 0, 0, "i=id-0 ii=id-1 iii=id-2"},
		{"fails", []string{"a", "b", "fail", "c"}, event.PayloadFormatInvalid, 2, ""},
		{"fails first", []string{"fail", "b"}, event.PayloadFormatInvalid, 0, ""},
		{"refused", []string{"a", "refuse"}, event.QuotaExceeded, 1, ""},
		{"about another device", []string{"a", "foreign"}, event.NotAuthorized, 1, ""},
		{"too much state together", []string{"large", "large"}, event.QuotaExceeded, 1, ""},
	} {
		f := start(t, quick(), counting())
		o := f.doBatch(batchOf(c.data...))
		if o.Code != c.code || c.code != 0 && o.Index != c.index {
			t.Errorf("%s: %#x of %d, %s", c.name, byte(o.Code), o.Index, o.Reason)
		}
		var got []string
		for _, e := range f.store.events(store.Events("demo")) {
			got = append(got, e.Subject+"="+e.ID)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: the log has %v, want %s", c.name, got, c.want)
		}
		if c.want == "" && (len(f.store.keys) > 0 || len(f.store.logs) > 0) {
			t.Errorf("%s: something was committed: %v %v", c.name, f.store.keys, f.store.logs)
		}
		if c.want != "" && f.store.rev != 1 && c.name != "tried again" { // which reads again before it waits
			t.Errorf("%s: %d commits", c.name, f.store.rev)
		}
	}
}

func TestBatchWithoutARoute(t *testing.T) {
	cfg := quick()
	cfg.Routes = []Route{{Application: "demo", Plugin: "p", Topic: "t"}}
	f := start(t, cfg, counting())
	all := batchOf("a", "b")
	all[1].Transport.Topic = "nowhere"
	if o := f.doBatch(all); o.Code != event.NoMatchingSubscribers || o.Index != 1 || len(f.store.logs) != 0 {
		t.Errorf("%+v %v", o, f.store.logs)
	}
}

// What a user publishes is in the user's order, whatever device it is about.
func TestOrderOfAUser(t *testing.T) {
	var keys []string
	for _, device := range []string{"", "d1", "d2"} {
		in := publish(device, "t", "x")
		in.Event.Sender, in.Transport.Username = "", "user:backend"
		keys = append(keys, orderKey(in))
	}
	if len(slices.Compact(keys)) != 1 || keys[0] == "user:backend" {
		t.Errorf("%q", keys)
	}
}
