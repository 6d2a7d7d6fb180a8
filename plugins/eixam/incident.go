package main

import (
	"strconv"
	"time"

	sdk "tributary.io/sdk-plugin"
)

// States of an incident.
const (
	active       = "active"
	acknowledged = "acknowledged"
	cancelled    = "cancelled"
	resolved     = "resolved"
)

// incident is that somebody needs help, from the first alert until it is cancelled or
// resolved. Times are Unix milliseconds; 0 is never.
type incident struct {
	id, app, user, external string
	status                  string
	hardware                string // the device of the alert that opened it; empty: the phone
	relay                   string // who said so, if not the user
	occurred                int64  // by the client's clock
	opened, updated         int64
	acknowledged            int64
	cancelled, resolved     int64
	resolvedBy              string
	position                *position
	version                 int64 // of the actuators, from 1
	step                    int   // how many channels of contacts were tried
	items                   []item

	changed bool // an actuator did, since it was loaded
}

// position is where somebody was last.
type position struct {
	latitude, longitude, altitude string // JSON numbers as the client wrote them; altitude may be empty
	at                            int64
}

func (inc *incident) open() bool { return inc.status == active || inc.status == acknowledged }

func loadIncident(r *call, id string) (*incident, bool) {
	text, ok := r.State(incidentKey(id))
	if !ok {
		return nil, false
	}
	v := r.Parse(text)
	inc := &incident{id: id}
	for _, f := range inc.texts() {
		*f.value, _ = v.Get(f.name).String()
	}
	for _, f := range inc.numbers() {
		*f.value, _ = v.Get(f.name).Int()
	}
	step, _ := v.Get("step").Int()
	inc.step = int(step)
	if p := v.Get("position"); p.Exists() {
		inc.position = &position{latitude: string(p.Get("latitude").Raw()), longitude: string(p.Get("longitude").Raw()),
			altitude: string(p.Get("altitude").Raw())}
		inc.position.at, _ = p.Get("at").Int()
	}
	for m := range v.Get("items").Elements() {
		inc.items = append(inc.items, parseItem(m))
	}
	return inc, true
}

// text and integer are members of an incident in the state.
type (
	text struct {
		name  string
		value *string
	}
	integer struct {
		name  string
		value *int64
	}
)

func (inc *incident) texts() [7]text {
	return [...]text{{"app", &inc.app}, {"user", &inc.user}, {"external", &inc.external}, {"status", &inc.status}, {"device", &inc.hardware},
		{"relay", &inc.relay}, {"resolvedBy", &inc.resolvedBy}}
}

func (inc *incident) numbers() [7]integer {
	return [...]integer{{"occurred", &inc.occurred}, {"opened", &inc.opened}, {"updated", &inc.updated}, {"acknowledged", &inc.acknowledged},
		{"cancelled", &inc.cancelled}, {"resolved", &inc.resolved}, {"version", &inc.version}}
}

// openIncident is the incident of a user that is not over.
func openIncident(r *call, user string) (*incident, bool) {
	id, ok := r.State(openKey(user))
	if !ok {
		return nil, false
	}
	inc, ok := loadIncident(r, string(id))
	return inc, ok && inc.open()
}

// store writes the incident. One that is over vanishes in time.
func (inc *incident) store(r *call) {
	w := r.Writer()
	w.Object()
	for _, f := range inc.texts() {
		if *f.value != "" {
			w.Key(f.name).String(*f.value)
		}
	}
	for _, f := range inc.numbers() {
		if *f.value != 0 {
			w.Key(f.name).Int(*f.value)
		}
	}
	if inc.step != 0 {
		w.Key("step").Int(int64(inc.step))
	}
	if p := inc.position; p != nil {
		p.write(w.Key("position"))
		w.Key("at").Int(p.at).End()
	}
	w.Key("items").Array()
	for i := range inc.items {
		inc.items[i].store(w)
	}
	w.End().End()
	ttl := time.Duration(0)
	if !inc.open() {
		ttl = inc.kept(r)
	}
	r.Put(incidentKey(inc.id), w.Bytes(), ttl)
}

// kept is how long an incident that is over is kept.
func (inc *incident) kept(r *call) time.Duration {
	return time.Duration(number(r, "incident_days", 90, 1, 3650)) * 24 * time.Hour
}

// write opens an object with the position.
func (p *position) write(w *sdk.Writer) {
	w.Object().Key("latitude").Raw([]byte(p.latitude)).Key("longitude").Raw([]byte(p.longitude))
	if p.altitude != "" {
		w.Key("altitude").Raw([]byte(p.altitude))
	}
}

// moved takes the position of a reading that is not older than the last one.
func (inc *incident) moved(m *reading) bool {
	at := m.at.UnixMilli()
	if !m.position || inc.position != nil && at < inc.position.at {
		return false
	}
	inc.position = &position{latitude: string(m.latitude.Raw()), longitude: string(m.longitude.Raw()),
		altitude: string(m.altitude.Raw()), at: at}
	return true
}

// tell publishes an event of the incident to its user, and writes it to the log.
func (inc *incident) tell(r *call, typ string) {
	w := r.Writer()
	inc.writeEvent(w, typ)
	topics := []string{"sos/events/" + inc.user}
	if _, ok := r.State(upperKey(inc.user)); ok {
		topics = append(topics, "sos/events/"+forms(inc.user)[len(forms(inc.user))-1])
	}
	for _, topic := range topics {
		send(r, "", topic, w.Bytes())
	}
	if segment, ok := legacySegment(inc.user, inc.external); ok && legacy(r) {
		send(r, inc.user, "sos/events/"+segment, w.Bytes()) // two apps may have a user of that name
	}
	id := inc.id + "-" + typ
	if typ == "sos.actuator_update" {
		id += "-" + strconv.FormatInt(inc.version, 10)
	}
	emit(r, inc.user, "incident.v1", typ, id, time.Time{}, w.Bytes())
}

// writeEvent writes the event object of the contract.
func (inc *incident) writeEvent(w *sdk.Writer, typ string) {
	w.Object().Key("type").String(typ).Key("appId").String(inc.app).Key("userId").String(inc.user).Key("incidentId").String(inc.id)
	w.Key("status").String(inc.status)
	inc.writeTimes(w)
	if typ == "processed" || typ == "sos.actuator_update" {
		w.Key("snapshotVersion").Int(inc.version)
		inc.writeActuators(w.Key("actuators"))
	}
	w.End()
}

func (inc *incident) writeTimes(w *sdk.Writer) {
	writeStamp(w, "occurredAt", inc.occurred)
	writeStamp(w, "openedAt", inc.opened)
	writeStamp(w, "updatedAt", inc.updated)
	writeStamp(w, "acknowledgedAt", inc.acknowledged)
	writeStamp(w, "cancelledAt", inc.cancelled)
	writeStamp(w, "resolvedAt", inc.resolved)
}

// write is the incident as REST shows it to its user.
func (inc *incident) write(w *sdk.Writer) {
	w.Object().Key("id").String(inc.id).Key("appId").String(inc.app).Key("userId").String(inc.user).Key("status").String(inc.status)
	inc.writeTimes(w)
	if inc.resolvedBy != "" {
		w.Key("resolvedBy").String(inc.resolvedBy)
	}
	w.Key("deviceId")
	if inc.hardware == "" {
		w.Null()
	} else {
		w.String(inc.hardware)
	}
	inc.writePosition(w)
	w.Key("snapshotVersion").Int(inc.version)
	inc.writeActuators(w.Key("actuators"))
	w.End()
}

func (inc *incident) writePosition(w *sdk.Writer) {
	w.Key("position")
	if inc.position == nil {
		w.Null()
		return
	}
	inc.position.write(w)
	writeStamp(w, "at", inc.position.at)
	w.End()
}
