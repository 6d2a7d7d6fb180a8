package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// world is a gateway around the plugin: it keeps state and timers, and remembers which
// calls were made.
type world struct {
	t      *rapid.T
	now    time.Time
	events int
	state  map[string][]byte
	timers map[string]time.Time
	made   map[string]int // calls by id
	said   []message      // by the last event
	status int            // of the last reply
}

// message is what the phone hears.
type message struct {
	Type, IncidentID, Status string
	SnapshotVersion          int
	Actuators                *struct {
		SnapshotVersion int
		Items           []struct {
			ID, Status string
			Contacts   []struct {
				ContactID, Status string
				Channels          []struct{ Channel, Status string }
			}
			Deliveries []struct {
				Attempt int
				Status  string
			}
		}
	}
}

const modelUser = "11111111-1111-1111-1111-111111111111"

func newWorld(t *rapid.T) *world {
	return &world{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), timers: map[string]time.Time{}, made: map[string]int{},
		state: map[string][]byte{
			"app/a": []byte("active\n" + `{"secret":"s","actuators":["emergency_contacts","slack"]}`), "user/" + modelUser: []byte("a\nu\n{}"),
			"contacts/" + modelUser: []byte(`[{"id":"c1","name":"One","phone":"+34600000001","priority":1},{"id":"c2","name":"Two","phone":"+34600000002","priority":2}]`)}}
}

// do hands an event to the plugin, twice, since it must not matter, and does what it wants.
func (w *world) do(in event.Inbound) {
	w.t.Helper()
	w.events++
	in.Event.ID, in.Event.Time, in.Event.Application = fmt.Sprint("event-", w.events), w.now, "eixam"
	settings := map[string]string{"link_secret": "secret", "public_url": "https://x", "sms_url": "https://x/s", "voice_url": "https://x/v",
		"slack_url": "https://x/h"}
	res := sdk.Run(handle, in, settings, w.state)
	if again := sdk.Run(handle, in, settings, w.state); !reflect.DeepEqual(res, again) {
		w.t.Fatalf("the same event gives something else: %+v and %+v", res, again)
	}
	if res.Failure != nil {
		w.t.Fatalf("%+v: %v", in, res.Failure)
	}
	w.said, w.status = nil, 0
	for _, effect := range res.Effects {
		switch e := effect.(type) {
		case *event.Put:
			w.state[e.Key] = slices.Concat([]byte{}, e.Value)
		case *event.Delete:
			delete(w.state, e.Key)
		case *event.SetTimer:
			w.timers[e.Key] = e.At
		case *event.CancelTimer:
			delete(w.timers, e.Key)
		case *event.Call:
			w.made[e.ID]++
		case *event.Publish:
			var m message
			if err := json.Unmarshal(e.Payload, &m); err != nil {
				w.t.Fatal(err)
			}
			w.said = append(w.said, m)
		case *event.Reply:
			w.status = int(e.Code)
		}
	}
}

func (w *world) publish(topic string, seconds int) {
	w.do(event.Inbound{Event: event.Event{Type: event.TypePublish, Device: modelUser,
		Data: fmt.Appendf(nil, `{"timestamp":"%s"}`, w.now.Add(time.Duration(seconds)*time.Second).Format(time.RFC3339Nano))},
		Transport: event.Transport{Protocol: "mqtt", Topic: topic}})
}

func (w *world) request(device, path string) {
	w.do(event.Inbound{Event: event.Event{Type: event.TypeRequest, Device: device}, Transport: event.Transport{Protocol: "http",
		Method: "POST", Path: path}})
}

// model is an incident by the words of the contract: what may be told in which order, and
// how far each is. It knows nothing of how the plugin keeps it.
type model struct {
	id, status string
	version    int
	acked      string
	parts      map[string]string    // sms/c1, voice/c1, sms/c2, voice/c2, slack/1…
	asked      map[string]bool      // which of them were ordered
	due        map[string]time.Time // grace, step, slack
}

func peopleInOrder() []string { return []string{"sms/c1", "voice/c1", "sms/c2", "voice/c2"} }

func newModel(id string, now time.Time) *model {
	m := &model{id: id, status: active, version: 1, parts: map[string]string{"slack/1": scheduled}, asked: map[string]bool{},
		due: map[string]time.Time{"grace": now.Add(10 * time.Second)}}
	for _, part := range peopleInOrder() {
		m.parts[part] = scheduled
	}
	return m
}

// next orders the next part that nobody tried.
func (m *model) next(now time.Time) {
	delete(m.due, "step")
	for _, part := range peopleInOrder() {
		if m.parts[part] == scheduled && !m.asked[part] {
			m.asked[part] = true
			m.due["step"] = now.Add(time.Minute)
			return
		}
	}
}

// attempt is the last one at Slack.
func (m *model) attempt() string {
	n := 1
	for m.parts["slack/"+strconv.Itoa(n+1)] != "" {
		n++
	}
	return "slack/" + strconv.Itoa(n)
}

// fire is that a time has come.
func (m *model) fire(timer string, now time.Time) {
	delete(m.due, timer)
	switch timer {
	case "grace":
		m.asked["slack/1"] = true
		m.next(now)
	case "step":
		m.next(now)
	case "slack":
		m.asked[m.attempt()] = true
	}
}

// stop skips what nobody began.
func (m *model) stop(people bool) {
	delete(m.due, "step")
	for part, status := range m.parts {
		if status == scheduled && !m.asked[part] && (!people || !strings.HasPrefix(part, "slack")) {
			m.parts[part] = skipped
		}
	}
	if !people {
		clear(m.due)
	}
}

// hear is what became of an order.
func (m *model) hear(part, status string, now time.Time) {
	before := m.parts[part]
	if before == status || before == delivered || before == failed || before == skipped || status == scheduled {
		return
	}
	m.parts[part] = status
	if status != failed {
		return
	}
	if strings.HasPrefix(part, "slack") {
		n, _ := strconv.Atoi(part[len("slack/"):])
		if (m.status == active || m.status == acknowledged) && n < 3 {
			m.parts["slack/"+strconv.Itoa(n+1)] = scheduled
			m.due["slack"] = now.Add(30 * time.Second * time.Duration(n))
		}
		return
	}
	last := ""
	for _, p := range peopleInOrder() {
		if m.asked[p] {
			last = p
		}
	}
	if m.status == active && part == last {
		m.next(now)
	}
}

// compare holds the plugin against the model after something happened to the incident:
// what the phone heard, the snapshot in it, the orders and the timers that are left.
func (m *model) compare(w *world, events []string, before map[string]string, touched bool) {
	w.t.Helper()
	if touched || !maps.Equal(before, m.parts) {
		m.version++
		events = append(events, "sos.actuator_update")
	}
	var heard []string
	for _, s := range w.said {
		heard = append(heard, s.Type)
		if s.IncidentID != m.id || s.Status != m.status {
			w.t.Fatalf("the event %+v is of %s %s", s, m.id, m.status)
		}
		if s.Actuators == nil {
			continue
		}
		got := map[string]string{}
		for _, it := range s.Actuators.Items {
			for _, c := range it.Contacts {
				for _, ch := range c.Channels {
					got[ch.Channel+"/"+c.ContactID] = ch.Status
				}
			}
			for _, d := range it.Deliveries {
				got[it.ID+"/"+strconv.Itoa(d.Attempt)] = d.Status
			}
		}
		if s.SnapshotVersion != m.version || s.Actuators.SnapshotVersion != m.version || !maps.Equal(got, m.parts) {
			w.t.Fatalf("version %d has %v, want version %d with %v", s.SnapshotVersion, got, m.version, m.parts)
		}
	}
	if !slices.Equal(heard, events) {
		w.t.Fatalf("the phone heard %v, want %v", heard, events)
	}
	for part := range m.parts {
		if n := w.made[m.id+"/"+part]; (n == 1) != m.asked[part] || n > 1 {
			w.t.Fatalf("%s was ordered %d times, want %v", part, n, m.asked[part])
		}
	}
	left := map[string]time.Time{}
	for key, at := range w.timers {
		if name, id, _ := strings.Cut(key, "/"); strings.HasPrefix(id, m.id) {
			left[map[string]string{"grace": "grace", "step": "step", "retry": "slack"}[name]] = at
		}
	}
	if !maps.EqualFunc(left, m.due, time.Time.Equal) {
		w.t.Fatalf("timers %v, want %v", left, m.due)
	}
}

func TestIncidentModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var m *model // nil: there was no incident yet
		var over []*model
		open := func() bool { return m != nil && (m.status == active || m.status == acknowledged) }
		change := func(touched bool, then func(), events ...string) {
			before := maps.Clone(m.parts)
			then()
			m.compare(w, events, before, touched)
		}
		alerts := map[time.Time]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"alert": func(t *rapid.T) {
				at := w.now
				w.publish("sos/alerts/"+modelUser, 0)
				switch {
				case alerts[at], open():
					if len(w.said) > 0 {
						t.Fatalf("the phone heard %v", w.said)
					}
				default:
					if len(w.said) != 1 || w.said[0].SnapshotVersion != 1 {
						t.Fatalf("the phone heard %v", w.said)
					}
					if m != nil {
						over = append(over, m)
					}
					m = newModel(w.said[0].IncidentID, w.now)
					m.compare(w, []string{"processed"}, m.parts, false)
				}
				alerts[at] = true
			},
			"telemetry": func(t *rapid.T) {
				if w.publish("tel/"+modelUser+"/data", 0); len(w.said) > 0 {
					t.Fatalf("the phone heard %v", w.said)
				}
			},
			"end": func(t *rapid.T) {
				what := rapid.SampledFrom([]string{"cancel", "resolve"}).Draw(t, "what")
				w.request(modelUser, "/v1/sdk/sos/"+what)
				status := map[string]string{"cancel": cancelled, "resolve": resolved}[what]
				if w.status != 200 {
					t.Fatal(w.status)
				}
				if !open() {
					if len(w.said) > 0 {
						t.Fatalf("the phone heard %v", w.said)
					}
					return
				}
				change(false, func() { m.status = status; m.stop(false) }, status)
			},
			"acknowledge": func(t *rapid.T) {
				contact := rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "contact")
				if m == nil || !m.asked["sms/"+contact] && !m.asked["voice/"+contact] {
					t.Skip("nobody has the link")
				}
				w.request("", "/v1/public/sos/"+modelToken(m.id, contact)+"/acknowledge")
				switch {
				case m.status == active:
					change(true, func() { m.status, m.acked = acknowledged, contact; m.stop(true) }, acknowledged)
				case m.status == acknowledged && m.acked == contact:
					change(false, func() {})
				default:
					change(false, func() {})
					if w.status != 409 {
						t.Fatal(w.status)
					}
					return
				}
				if w.status != 200 {
					t.Fatal(w.status)
				}
			},
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 70).Draw(t, "seconds")) * time.Second)
				for _, key := range slices.Sorted(maps.Keys(w.timers)) {
					if w.timers[key].After(w.now) || w.timers[key].IsZero() {
						continue
					}
					name, id, _ := strings.Cut(key, "/")
					delete(w.timers, key)
					w.do(event.Inbound{Event: event.Event{Type: event.TypeTimer, Device: modelUser, Subject: key}})
					if m == nil || !strings.HasPrefix(id, m.id) {
						t.Fatalf("the timer %s is of no incident that lasts", key)
					}
					change(false, func() { m.fire(map[string]string{"grace": "grace", "step": "step", "retry": "slack"}[name], w.now) })
				}
			},
			"answer": func(t *rapid.T) { answerOrder(t, w, m, over, change) },
		})
	})
}

// modelToken is the secret of a public link, as the plugin's settings in world make it.
func modelToken(incident, contact string) string {
	var token string
	settings := map[string]string{"link_secret": "secret"}
	sdk.Run(func(r *sdk.Request) error {
		token = derived(&call{Request: r}, "link/"+incident+"/"+contact)
		return nil
	}, event.Inbound{Event: event.Event{ID: "1", Type: event.TypeTimer}}, settings, nil)
	return token
}

// answerOrder has a provider answer any order that was made, as often as it likes.
func answerOrder(t *rapid.T, w *world, m *model, over []*model, change func(bool, func(), ...string)) {
	if len(w.made) == 0 {
		t.Skip("no order yet")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(w.made))).Draw(t, "order")
	word := rapid.SampledFrom([]string{"queued", "sent", "delivered", "failed"}).Draw(t, "word")
	e := event.Event{Type: event.TypeResponse, Device: modelUser, Subject: id, Data: []byte(`{"status":"` + word + `"}`)}
	e.SetExtension("status", "200")
	w.do(event.Inbound{Event: e})
	incident, part, _ := strings.Cut(id, "/")
	heard := map[string]string{"queued": scheduled, "sent": sent, "delivered": delivered, "failed": failed}[word]
	if incident == m.id {
		change(false, func() { m.hear(part, heard, w.now) })
		return
	}
	for _, old := range over {
		if old.id == incident {
			before := maps.Clone(old.parts)
			old.hear(part, heard, w.now)
			old.compare(w, nil, before, false)
		}
	}
}
