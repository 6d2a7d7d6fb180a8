package main

import (
	"strings"
	"time"

	"tributary.io/sdk-plugin/event"
)

// What changes an incident. Each event changes it once: whatever an event does to the
// actuators makes one new version of their snapshot, published once, in the commit that
// also makes the calls.

// alert opens an incident, or updates the open one. A repeat of an alert does nothing.
func alert(r *call, m *reading, owner *user, speaker string) *incident {
	seen := seenKey(owner.id, m.hardware, m.at.UnixNano())
	if id, ok := r.State(seen); ok {
		inc, _ := loadIncident(r, string(id))
		return inc
	}
	inc, found := openIncident(r, owner.id)
	if found {
		inc.moved(m)
		inc.updated = r.Now.UnixMilli()
	} else {
		inc = newIncident(r, m, owner, speaker)
	}
	const repeats = 10 * time.Minute // in which an alert may come again
	r.Put(seen, []byte(inc.id), repeats)
	inc.store(r)
	w := r.Writer()
	m.write(w, r, owner, speaker)
	w.Key("incidentId").String(inc.id).Key("opened").Bool(!found)
	emit(r, owner.id, "alert.v1", "alert", m.id(alertKind, owner), m.at, w.End().Bytes())
	if !found {
		inc.tell(r, "processed")
	}
	return inc
}

// newIncident makes an incident with its plan: everything that would be done, after the
// grace in which a cancel stops it all.
func newIncident(r *call, m *reading, owner *user, speaker string) *incident {
	now := r.Now.UnixMilli()
	inc := &incident{id: newUUID(r, "incident"), app: owner.app, user: owner.id, external: owner.external, status: active,
		hardware: m.hardware,
		occurred: m.at.UnixMilli(), opened: now, updated: now, version: 1}
	if speaker != owner.id {
		inc.relay = speaker
	}
	inc.moved(m)
	a, _ := loadApp(r, owner.app)
	for _, kind := range a.actuators {
		it := item{kind: kind, updated: now}
		if kind != contactsActuator {
			it.deliveries = []delivery{{attempt: 1, status: scheduled}}
		} else if it.contacts = plannedContacts(r, inc); len(it.contacts) == 0 {
			continue
		}
		inc.items = append(inc.items, it)
	}
	r.Put(openKey(owner.id), []byte(inc.id), 0)
	r.Put(pastKey(owner.id, inc.opened, inc.id), nil, 0)
	r.SetTimer(graceTimer(inc.id), r.Now.Add(time.Duration(number(r, "grace_seconds", 10, 0, 3600))*time.Second), nil)
	return inc
}

// plannedContacts are the contacts of the user.
func plannedContacts(r *call, inc *incident) (list []contact) {
	for _, p := range loadContacts(r, inc.user) {
		list = append(list, contact{id: p.id, name: p.name, phone: p.phone, priority: p.priority,
			channels: []channel{{name: "sms", status: scheduled}, {name: "voice", status: scheduled}}})
	}
	return list
}

// Timers of an incident.
func graceTimer(id string) string       { return "grace/" + id }
func stepTimer(id string) string        { return "step/" + id }
func retryTimer(id, kind string) string { return "retry/" + id + "/" + kind }

// timer goes on with an incident.
func timer(r *call) error {
	what, id, _ := strings.Cut(r.Event.Subject, "/")
	id, kind, _ := strings.Cut(id, "/")
	inc, ok := loadIncident(r, id)
	if !ok {
		return nil // it was kept for as long as it had to be
	}
	switch it := inc.item(kind); {
	case what == "grace" && inc.status == active:
		inc.begin(r)
	case what == "step" && inc.status == active:
		inc.nextChannel(r)
	case what == "retry" && it != nil && inc.open():
		inc.deliver(r, it)
	default:
		return nil
	}
	inc.finish(r)
	return nil
}

// begin notifies after the grace.
func (inc *incident) begin(r *call) {
	for i := range inc.items {
		if it := &inc.items[i]; it.kind != contactsActuator {
			inc.deliver(r, it)
		}
	}
	inc.nextChannel(r)
}

// acknowledge notes that a contact takes care. Nobody else is notified any more.
func (inc *incident) acknowledge(r *call, contact string) {
	now := r.Now.UnixMilli()
	inc.status, inc.acknowledged, inc.updated = acknowledged, now, now
	if it := inc.item(contactsActuator); it != nil {
		for i := range it.contacts {
			if it.contacts[i].id == contact {
				it.contacts[i].acknowledged = now
				inc.touch(r, it)
			}
		}
	}
	inc.skip(r, true)
	inc.finish(r, acknowledged)
}

// close ends an incident: the user cancelled it, or somebody says that it is resolved.
func (inc *incident) close(r *call, status, by string) {
	now := r.Now.UnixMilli()
	inc.status, inc.updated = status, now
	if status == cancelled {
		inc.cancelled = now
	} else {
		inc.resolved, inc.resolvedBy = now, by
	}
	inc.skip(r, false)
	r.Delete(openKey(inc.user))
	r.Put(pastKey(inc.user, inc.opened, inc.id), nil, inc.kept(r))
	inc.finish(r, status)
}

// skip gives up what was not begun, but for Slack and the webhook if only people are not
// to be notified any more.
func (inc *incident) skip(r *call, people bool) {
	r.CancelTimer(stepTimer(inc.id))
	if !people { // who has a link to acknowledge by got it after the grace
		r.CancelTimer(graceTimer(inc.id))
	}
	for i := range inc.items {
		it := &inc.items[i]
		for j := range it.contacts {
			for k := range it.contacts[j].channels {
				if ch := &it.contacts[j].channels[k]; !ch.asked {
					inc.set(r, it, &ch.status, skipped)
				}
			}
		}
		if people {
			continue
		}
		for j := range it.deliveries {
			if d := &it.deliveries[j]; !d.asked {
				inc.set(r, it, &d.status, skipped)
			}
		}
		if it.kind != contactsActuator {
			r.CancelTimer(retryTimer(inc.id, it.kind))
		}
	}
}

// set changes the state of a part of an item, if it may follow.
func (inc *incident) set(r *call, it *item, status *string, to string) bool {
	if !follows(*status, to) {
		return false
	}
	*status = to
	inc.touch(r, it)
	return true
}

func (inc *incident) touch(r *call, it *item) {
	it.updated = r.Now.UnixMilli()
	inc.updated = it.updated
	inc.changed = true
}

func (inc *incident) item(kind string) *item {
	for i := range inc.items {
		if inc.items[i].kind == kind {
			return &inc.items[i]
		}
	}
	return nil
}

// finish stores the incident and tells what happened to it: first what is named, then
// the new snapshot, if there is one.
func (inc *incident) finish(r *call, events ...string) {
	if inc.changed {
		inc.version++
	}
	inc.store(r)
	for _, typ := range events {
		inc.tell(r, typ)
	}
	if inc.changed {
		inc.tell(r, "sos.actuator_update")
	}
	inc.changed = false
}

// send publishes to subscribers: those of one device, or all.
func send(r *call, device, topic string, payload []byte) {
	r.Publish(event.Publish{Topics: []string{topic}, Device: device, Payload: payload, QoS: 1, ContentType: "application/json"})
}
