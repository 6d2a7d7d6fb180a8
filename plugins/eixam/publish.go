package main

import (
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// publish takes what a client says on its own topics.
func publish(r *call) error {
	kind, ok := ingestTopic(r, r.Transport.Topic)
	if !ok {
		r.Reply(event.NotAuthorized, "a client publishes to sos/alerts/<its SDK user id> and tel/<its SDK user id>/data only; GET /v1/sdk/me "+
			"says the id")
		return nil
	}
	speaker, ok := speaking(r)
	if !ok {
		r.Reply(event.NotAuthorized, "nobody knows this client, or its app is not active")
		return nil
	}
	m, wrong := parseReading(r)
	if wrong == "" && needsUser(r) && !saysItself(r, m.body, &speaker) {
		wrong = "userId_mismatch"
	}
	if wrong != "" {
		return sdk.Permanent(wrong)
	}
	owner, ok := ownerOf(r, &speaker, m.hardware)
	if !ok {
		return sdk.Permanent("unknown_device")
	}
	speaker.ensure(r)
	if kind == alertKind {
		alert(r, &m, &owner, speaker.id)
	} else {
		telemetry(r, &m, &owner, speaker.id)
	}
	return nil
}

// What a client reports.
const (
	alertKind     = "alert"
	telemetryKind = "telemetry"
)

// ingestTopic says what a topic of the connected client is for. ok is false where the
// topic is not its own.
func ingestTopic(r *call, topic string) (kind string, ok bool) {
	if topic == "sos/alerts" && legacy(r) {
		return alertKind, true
	}
	if topic == "tel/data" && legacy(r) {
		return telemetryKind, true
	}
	if segment, found := strings.CutPrefix(topic, "sos/alerts/"); found {
		return alertKind, strings.EqualFold(segment, r.Event.Device)
	}
	segment, found := strings.CutPrefix(topic, "tel/")
	segment, data := strings.CutSuffix(segment, "/data")
	if !found || !data || strings.Contains(segment, "/") {
		return "", false
	}
	return telemetryKind, strings.EqualFold(segment, r.Event.Device) || isLegacySegment(r, segment)
}

// isLegacySegment says whether a segment is the external id of the session's user, in
// the way of old clients.
func isLegacySegment(r *call, segment string) bool {
	if !legacy(r) {
		return false
	}
	u, ok := sessionUser(r)
	if !ok {
		return false
	}
	own, ok := legacySegment(u.id, u.external)
	return ok && segment == own
}

// needsUser says whether the topic names nobody, so that the payload has to.
func needsUser(r *call) bool {
	return r.Transport.Topic == "sos/alerts" || r.Transport.Topic == "tel/data"
}

func saysItself(r *call, body sdk.Value, u *user) bool {
	id, _ := body.Get("userId").String()
	return strings.EqualFold(id, u.id) || id == u.external
}

// speaking is who publishes. An edge gateway speaks in the name of its app, and for
// devices alone.
func speaking(r *call) (user, bool) {
	node, ok := strings.CutPrefix(r.Event.Device, edgePrefix)
	if !ok {
		return activeUser(r)
	}
	e, ok := loadEdge(r, node)
	if !ok {
		return user{}, false
	}
	return user{id: r.Event.Device, app: e.app}, isActive(r, e.app)
}

// ownerOf is whom a reading is about: the owner of the device that it names, who may be
// another user of the same app, or who says it.
func ownerOf(r *call, speaker *user, hardware string) (user, bool) {
	if hardware == "" {
		return *speaker, speaker.external != ""
	}
	d, ok := loadDevice(r, speaker.app, hardware)
	if !ok {
		return user{}, false
	}
	if d.owner == speaker.id {
		return *speaker, true
	}
	return loadUser(r, d.owner)
}

// telemetry passes a reading on. It opens and closes no incident; an open one learns
// where its user is. A repeat has the same id and source as the first, which is how
// readers of the log know it.
func telemetry(r *call, m *reading, owner *user, speaker string) {
	if m.position {
		if id, ok := r.State(openKey(owner.id)); ok {
			if inc, ok := loadIncident(r, string(id)); ok && inc.moved(m) {
				inc.updated = r.Now.UnixMilli()
				inc.store(r)
			}
		}
	}
	w := r.Writer()
	m.write(w, r, owner, speaker)
	emit(r, owner.id, "telemetry.v1", "telemetry", m.id(telemetryKind, owner), m.at, w.End().Bytes())
}

// id is the event's, which is the same for the same reading.
func (m *reading) id(kind string, owner *user) string {
	return kind + "/" + owner.id + "/" + strconv.FormatInt(m.at.UnixNano(), 10) + "/" + escape(m.hardware)
}

// subscribe allows a user its own events and nothing else.
func subscribe(r *call) error {
	filter := r.Transport.Topic
	segment, found := strings.CutPrefix(filter, "sos/events/")
	own := found && isUUID(r.Event.Device) && strings.EqualFold(segment, r.Event.Device) ||
		found && isLegacySegment(r, segment) || r.Event.Device == bridgeName && filter == "sos/events/+"
	if !own {
		r.Reply(event.NotAuthorized, "a client subscribes to sos/events/<its SDK user id> only; GET /v1/sdk/me says the id")
		return nil
	}
	if r.Event.Device != bridgeName {
		if _, ok := activeUser(r); !ok {
			r.Reply(event.NotAuthorized, "nobody knows this client, or its app is not active")
			return nil
		}
	}
	if segment != r.Event.Device && segment == strings.ToUpper(r.Event.Device) {
		r.Put(upperKey(r.Event.Device), nil, 0)
	}
	r.Reply(event.Code(min(r.Transport.QoS, 1)), "")
	return nil
}
