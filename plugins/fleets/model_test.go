package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// world is a gateway as far as the plugin can tell: it does effects and fires timers.
type world struct {
	t      rapid.TB
	state  map[string][]byte
	timers map[string]event.SetTimer
	now    time.Time
	count  int

	published []event.Publish // by the last event
	emitted   []event.Event
	reply     *event.Reply
}

func newWorld(t rapid.TB) *world {
	return &world{t: t, state: map[string][]byte{}, timers: map[string]event.SetTimer{}, now: time.Unix(1_800_000_000, 0).UTC()}
}

// do hands an event to the plugin. It returns the failure, if any.
func (w *world) do(in event.Inbound) *event.Failure {
	w.count++
	in.Event.ID, in.Event.Source, in.Event.Application = fmt.Sprint("e", w.count), "/test", "fleet"
	in.Event.Time = w.now
	w.published, w.emitted, w.reply = nil, nil, nil
	result := sdk.Run(handle, in, nil, w.state)
	if result.Failure != nil {
		return result.Failure
	}
	for _, effect := range result.Effects {
		switch e := effect.(type) {
		case *event.Put:
			w.state[e.Key] = e.Value
		case *event.Delete:
			delete(w.state, e.Key)
		case *event.SetTimer:
			w.timers[e.Key] = *e
		case *event.CancelTimer:
			delete(w.timers, e.Key)
		case *event.Publish:
			w.published = append(w.published, *e)
		case *event.Emit:
			w.emitted = append(w.emitted, e.Event)
		case *event.Reply:
			w.reply = e
		}
	}
	return nil
}

func (w *world) publish(thing, topic string, payload any) {
	text, _ := json.Marshal(payload)
	in := event.Inbound{Event: event.Event{Type: event.TypePublish, Device: thing, Sender: thing, Data: text}}
	in.Transport.Topic, in.Transport.QoS = topic, 1
	if f := w.do(in); f != nil {
		w.t.Fatalf("%s %s: %v", topic, text, f)
	}
}

func (w *world) request(method, path string, payload any) (status int, body map[string]any) {
	in := event.Inbound{Event: event.Event{Type: event.TypeRequest}}
	if payload != nil {
		in.Event.Data, _ = json.Marshal(payload)
	}
	in.Transport.Protocol, in.Transport.Method = "http", method
	in.Transport.Path, in.Transport.Query, _ = strings.Cut(path, "?")
	if f := w.do(in); f != nil {
		w.t.Fatalf("%s %s: %v", method, path, f)
	}
	json.Unmarshal(w.reply.Payload, &body)
	return int(w.reply.Code), body
}

// advance moves the clock and fires what is due, in order.
func (w *world) advance(d time.Duration) (fired int) {
	w.now = w.now.Add(d)
	for {
		due := slices.SortedFunc(maps.Values(w.timers), func(a, b event.SetTimer) int { return a.At.Compare(b.At) })
		if len(due) == 0 || due[0].At.After(w.now) {
			return fired
		}
		next := due[0]
		delete(w.timers, next.Key)
		if f := w.do(event.Inbound{Event: event.Event{Type: event.TypeTimer, Subject: next.Key, Data: next.Data}}); f != nil {
			w.t.Fatal(f)
		}
		fired++
	}
}

// message returns what the last event published on a topic of a thing; nil: nothing.
func (w *world) message(thing, topic string) map[string]any {
	for _, p := range w.published {
		if p.Topics[0] == things+thing+"/"+topic {
			var body map[string]any
			if err := json.Unmarshal(p.Payload, &body); err != nil {
				w.t.Fatal(err)
			}
			return body
		}
	}
	return nil
}

// value draws a JSON value of few names, so that updates meet.
func value(t *rapid.T, label string, levels int, null bool) any {
	kinds := []string{"number", "text", "array"}
	if levels > 0 {
		kinds = append(kinds, "object", "object")
	}
	if null {
		kinds = append(kinds, "null")
	}
	switch rapid.SampledFrom(kinds).Draw(t, label) {
	case "number":
		return rapid.SampledFrom([]float64{0, 1, 1.5, -2e30}).Draw(t, label)
	case "text":
		return rapid.SampledFrom([]string{"", "x", "ü\"\n"}).Draw(t, label)
	case "array":
		return []any{rapid.SampledFrom([]float64{1, 2}).Draw(t, label)}
	case "null":
		return nil
	}
	return object(t, label, levels-1, null)
}

func object(t *rapid.T, label string, levels int, null bool) map[string]any {
	out := map[string]any{}
	for _, name := range []string{"a", "b", "c\"d"} {
		if rapid.Bool().Draw(t, label) {
			out[name] = value(t, label, levels, null)
		}
	}
	return out
}

// The model of a shadow: its rules on decoded values.

func modelMerge(base map[string]any, patch map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for name, v := range patch {
		object, isObject := v.(map[string]any)
		old, wasObject := out[name].(map[string]any)
		switch {
		case v == nil:
			delete(out, name)
		case isObject && wasObject:
			out[name] = modelMerge(old, object)
		case isObject:
			out[name] = modelMerge(nil, object)
		default:
			out[name] = v
		}
	}
	return out
}

func modelDelta(desired, reported map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range desired {
		object, isObject := v.(map[string]any)
		other, otherObject := reported[name].(map[string]any)
		_, exists := reported[name]
		switch {
		case isObject && otherObject:
			if d := modelDelta(object, other); len(d) > 0 {
				out[name] = d
			}
		case isObject && !exists && len(modelDelta(object, nil)) == 0: // nothing in it
		case !reflect.DeepEqual(v, reported[name]):
			out[name] = v
		}
	}
	return out
}

func TestShadowModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var version float64
		var exists bool
		var reported, desired map[string]any
		pick := func() any { // a version to expect: absent, no check, right or wrong
			return rapid.SampledFrom([]any{nil, 0.0, version, version + 1, version - 1}).Draw(t, "version")
		}
		refused := func(v any) bool { return v != nil && v != 0.0 && v != version }
		check := func() {
			t.Helper()
			_, got := w.request("GET", "/api/v1/thing-datas/t1/shadow", nil)
			want := map[string]any{"reported": orEmpty(reported), "desired": orEmpty(desired), "delta": modelDelta(desired, reported),
				"version": version}
			for name, v := range want {
				if !reflect.DeepEqual(got[name], v) {
					t.Fatalf("%s is %v, want %v", name, got[name], v)
				}
			}
			if !sameLeaves(got["metadata"].(map[string]any)["reported"], reported) ||
				!sameLeaves(got["metadata"].(map[string]any)["desired"], desired) {
				t.Fatalf("metadata %v of %v and %v", got["metadata"], reported, desired)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				patch, v := object(t, "patch", 3, true), pick()
				body := map[string]any{"state": map[string]any{"reported": patch}, "clientToken": "k"}
				if v != nil {
					body["version"] = v
				}
				w.publish("t1", things+"t1/shadow/update", body)
				if negative, _ := v.(float64); negative < 0 {
					if got := w.message("t1", "shadow/update/rejected"); got["code"] != 400.0 {
						t.Fatalf("version %v: %v", v, got)
					}
					return
				}
				if refused(v) {
					if got := w.message("t1", "shadow/update/rejected"); got["code"] != 409.0 || len(w.published) != 1 || len(w.emitted) != 0 {
						t.Fatalf("version %v of %v: %v", v, version, got)
					}
					return
				}
				version, exists, reported = version+1, true, modelMerge(reported, patch)
				got := w.message("t1", "shadow/update/accepted")
				if got["version"] != version || !reflect.DeepEqual(got["state"], map[string]any{"reported": any(patch)}) {
					t.Fatalf("accepted %v", got)
				}
				delta := modelDelta(desired, reported)
				if got := w.message("t1", "shadow/update/delta"); (got != nil) != (len(delta) > 0) || got != nil &&
					!(reflect.DeepEqual(got["state"], any(delta)) && sameLeaves(got["metadata"], delta)) {
					t.Fatalf("delta %v, want %v", got, delta)
				}
			},
			"desire": func(t *rapid.T) {
				patch, v := object(t, "patch", 3, true), pick()
				body := map[string]any{"state": patch}
				if v != nil {
					body["version"] = v
				}
				if _, nested := patch["desired"]; nested {
					return
				}
				status, got := w.request("PUT", "/api/v1/things/t1/shadow/desired", body)
				if negative, _ := v.(float64); negative < 0 {
					if status != 400 {
						t.Fatal(status)
					}
					return
				}
				if refused(v) {
					if status != 409 {
						t.Fatalf("version %v of %v: %d", v, version, status)
					}
					return
				}
				version, exists, desired = version+1, true, modelMerge(desired, patch)
				if delta := modelDelta(desired, reported); status != 200 || got["version"] != version || !reflect.DeepEqual(got["delta"], any(delta)) {
					t.Fatalf("%d %v, want delta %v", status, got, delta)
				}
			},
			"delete": func(t *rapid.T) {
				w.publish("t1", things+"t1/shadow/delete", map[string]any{})
				if accepted := w.message("t1", "shadow/delete/accepted") != nil; accepted != exists {
					t.Fatalf("accepted %v, exists %v", accepted, exists)
				}
				exists, reported, desired = false, nil, nil
			},
			"get": func(t *rapid.T) {
				w.publish("t1", things+"t1/shadow/get", map[string]any{})
				if accepted := w.message("t1", "shadow/get/accepted") != nil; accepted != exists {
					t.Fatalf("accepted %v, exists %v", accepted, exists)
				}
			},
			"": func(*rapid.T) { check() },
		})
	})
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// sameLeaves says whether metadata has a timestamp for each leaf of a state, and
// for nothing else.
func sameLeaves(meta any, state map[string]any) bool {
	m, _ := meta.(map[string]any)
	if len(m) != len(state) {
		return false
	}
	for name, v := range state {
		inner, ok := m[name].(map[string]any)
		object, isObject := v.(map[string]any)
		if isObject && len(object) > 0 {
			if !ok || !sameLeaves(inner, object) {
				return false
			}
		} else if _, stamped := inner["timestamp"].(float64); !stamped {
			return false
		}
	}
	return true
}
