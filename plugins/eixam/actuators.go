package main

import (
	"slices"

	sdk "tributary.io/sdk-plugin"
)

// Kinds of actuators.
const (
	contactsActuator = "emergency_contacts"
	slackActuator    = "slack"
	webhookActuator  = "webhook"
)

func actuatorKinds() []string { return []string{contactsActuator, slackActuator, webhookActuator} }

// States of what an actuator does.
const (
	scheduled = "scheduled"
	sent      = "sent"
	delivered = "delivered"
	failed    = "failed"
	skipped   = "skipped"
	unknown   = "unknown"
)

// alias turns the words of providers into ours.
func alias(word string) string {
	switch word {
	case scheduled, "queued":
		return scheduled
	case sent, "ringing", "in_progress", "in-progress":
		return sent
	case delivered, "completed", "acknowledged":
		return delivered
	case failed, "no_answer", "no-answer", "busy", "cancelled", "canceled", "undelivered":
		return failed
	case skipped:
		return skipped
	}
	return unknown
}

// outcome is the verdict on a state.
func outcome(status string) string {
	switch status {
	case scheduled:
		return "pending"
	case sent, delivered:
		return "success"
	case failed:
		return "failure"
	case skipped:
		return skipped
	}
	return unknown
}

// follows says whether a state may come after another. What is over stays so.
func follows(before, after string) bool {
	switch before {
	case scheduled:
		return after != scheduled
	case unknown:
		return after == sent || after == delivered || after == failed
	case sent:
		return after == delivered || after == failed
	}
	return false
}

// best is the state of a whole: the best of its parts.
func best(parts []string) string {
	for _, status := range [...]string{delivered, sent, scheduled, unknown, failed} {
		if slices.Contains(parts, status) {
			return status
		}
	}
	return skipped
}

// item is one actuator of an incident.
type item struct {
	kind       string
	updated    int64
	contacts   []contact  // of contactsActuator
	deliveries []delivery // of the others
}

// contact is a person to notify, as it was when the incident was opened.
type contact struct {
	id, name, phone string
	priority        int64
	acknowledged    int64
	channels        []channel // sms, voice
}

type channel struct {
	name, status string
	asked        bool // a call was made for it
}

// delivery is one attempt to tell Slack or the webhook.
type delivery struct {
	attempt           int64
	status, problem   string
	delivered, failed int64
	asked             bool
}

func (c *contact) status() string {
	var parts []string
	for i := range c.channels {
		parts = append(parts, c.channels[i].status)
	}
	return best(parts)
}

func (it *item) status() string {
	var parts []string
	for i := range it.contacts {
		parts = append(parts, it.contacts[i].status())
	}
	for i := range it.deliveries {
		parts = append(parts, it.deliveries[i].status)
	}
	return best(parts)
}

// writeActuators writes the snapshot, the same over REST and MQTT.
func (inc *incident) writeActuators(w *sdk.Writer) {
	w.Object().Key("snapshotVersion").Int(inc.version).Key("items").Array()
	for i := range inc.items {
		it := &inc.items[i]
		status := it.status()
		w.Object().Key("id").String(it.kind).Key("type").String(it.kind).Key("status").String(status).Key("outcome").String(outcome(status))
		writeStamp(w, "updatedAt", it.updated)
		if it.kind == contactsActuator {
			it.writeContacts(w)
		} else {
			it.writeDeliveries(w)
		}
		w.End()
	}
	w.End().End()
}

func (it *item) writeContacts(w *sdk.Writer) {
	w.Key("contacts").Array()
	for i := range it.contacts {
		c := &it.contacts[i]
		w.Object().Key("contactId").String(c.id).Key("name").String(c.name).Key("priority").Int(c.priority).Key("status").String(c.status())
		if c.acknowledged != 0 {
			writeStamp(w, "acknowledgedAt", c.acknowledged)
		}
		w.Key("channels").Array()
		for _, ch := range c.channels {
			w.Object().Key("channel").String(ch.name).Key("status").String(ch.status).End()
		}
		w.End().End()
	}
	w.End()
}

func (it *item) writeDeliveries(w *sdk.Writer) {
	w.Key("deliveries").Array()
	for _, d := range it.deliveries {
		w.Object().Key("attempt").Int(d.attempt).Key("status").String(d.status).Key("provider").String(it.kind)
		if d.delivered != 0 {
			writeStamp(w, "deliveredAt", d.delivered)
		}
		if d.failed != 0 {
			writeStamp(w, "failedAt", d.failed)
		}
		if d.problem != "" {
			w.Key("error").String(d.problem)
		}
		w.End()
	}
	w.End()
}

// store writes an item into the state.
func (it *item) store(w *sdk.Writer) {
	w.Object().Key("kind").String(it.kind).Key("updated").Int(it.updated)
	if it.kind == contactsActuator {
		w.Key("contacts").Array()
		for _, c := range it.contacts {
			w.Object().Key("id").String(c.id).Key("name").String(c.name).Key("phone").String(c.phone).Key("priority").Int(c.priority)
			w.Key("acknowledged").Int(c.acknowledged).Key("channels").Array()
			for _, ch := range c.channels {
				w.Object().Key("name").String(ch.name).Key("status").String(ch.status).Key("asked").Bool(ch.asked).End()
			}
			w.End().End()
		}
		w.End().End()
		return
	}
	w.Key("deliveries").Array()
	for _, d := range it.deliveries {
		w.Object().Key("attempt").Int(d.attempt).Key("status").String(d.status).Key("problem").String(d.problem)
		w.Key("delivered").Int(d.delivered).Key("failed").Int(d.failed).Key("asked").Bool(d.asked).End()
	}
	w.End().End()
}

func parseItem(v sdk.Value) (it item) {
	it.kind, _ = v.Get("kind").String()
	it.updated, _ = v.Get("updated").Int()
	for m := range v.Get("contacts").Elements() {
		var c contact
		c.id, _ = m.Get("id").String()
		c.name, _ = m.Get("name").String()
		c.phone, _ = m.Get("phone").String()
		c.priority, _ = m.Get("priority").Int()
		c.acknowledged, _ = m.Get("acknowledged").Int()
		for n := range m.Get("channels").Elements() {
			var ch channel
			ch.name, _ = n.Get("name").String()
			ch.status, _ = n.Get("status").String()
			ch.asked, _ = n.Get("asked").Bool()
			c.channels = append(c.channels, ch)
		}
		it.contacts = append(it.contacts, c)
	}
	for m := range v.Get("deliveries").Elements() {
		var d delivery
		d.attempt, _ = m.Get("attempt").Int()
		d.status, _ = m.Get("status").String()
		d.problem, _ = m.Get("problem").String()
		d.delivered, _ = m.Get("delivered").Int()
		d.failed, _ = m.Get("failed").Int()
		d.asked, _ = m.Get("asked").Bool()
		it.deliveries = append(it.deliveries, d)
	}
	return it
}
