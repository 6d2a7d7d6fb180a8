package main

import (
	"strconv"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// secondsBelow tells a timestamp in seconds from one in milliseconds, which Fleets
// asks for and devices confuse: 10^11 ms is the year 1973.
const secondsBelow = 100_000_000_000

// eventsTTL is how long an event can be listed by REST. The application's log
// keeps it for as long as the operator wants.
const eventsTTL = 7 * 24 * hour

// deviceEvent handles <thing>/events/<type>.
func deviceEvent(r *call, thing, typ string) error {
	data, p := checkEvent(r, thing, typ)
	if p != nil {
		return sdk.Permanent(p.message)
	}
	keepEvent(r, thing, typ, data)
	return nil
}

// checkEvent checks an event's payload and returns it as applications see it.
func checkEvent(r *call, thing, typ string) ([]byte, *problem) {
	body := r.JSON()
	if body.Kind() != sdk.Object {
		return nil, &problem{400, "Invalid JSON"}
	}
	if given := body.Get("eventType"); given.Exists() {
		if text, _ := given.String(); text != typ {
			return nil, &problem{400, "eventType is not " + strconv.Quote(typ) + " as in the topic"}
		}
	}
	severity, _ := body.Get("severity").String()
	switch severity {
	case "info", "warn", "error":
	default:
		return nil, &problem{400, "severity must be info, warn or error"}
	}
	data := body.Get("data")
	if data.Exists() && data.Kind() != sdk.Object {
		return nil, &problem{400, "data must be an object"}
	}
	at, flagged := r.Event.Time.UnixMilli(), false
	if given := body.Get("timestamp"); given.Exists() {
		n, ok := given.Int()
		if !ok || n < 0 {
			return nil, &problem{400, "timestamp must be a whole number of milliseconds"}
		}
		if at = n; n < secondsBelow {
			at, flagged = n*1000, true
		}
	}
	var w sdk.Writer
	w.Object().Key("thingName").String(thing).Key("eventType").String(typ).Key("severity").String(severity).
		Field("data", data).Key("timestamp").Int(at)
	if flagged {
		w.Key("timestampInSeconds").Bool(true) // the device sent seconds
	}
	return w.End().Bytes(), nil
}

// keepEvent gives an event to the application and keeps it for lists.
func keepEvent(r *call, thing, typ string, data []byte) {
	emit(r, thing, "event.v1", typ, data)
	r.Put(eventKey(thing, sdk.ParseJSON(data), r.Event.ID), data, eventsTTL)
}

// connection keeps a thing's status.
func connection(r *call) error {
	online, _ := r.JSON("connected").Bool()
	thing := r.Event.Device
	t, found := loadThing(r, thing)
	if !found {
		t = newThing(r, thing)
	}
	t.online, t.seen = online, r.Event.Time.UnixMilli()
	t.store(r)
	var w sdk.Writer
	w.Object().Key("thingName").String(thing).Key("online").Bool(online).Key("timestamp").Int(t.seen).End()
	emit(r, thing, "thing.v1", "connection", w.Bytes())
	return nil
}

// timer handles what was due.
func timer(r *call) error {
	switch kind, _ := r.JSON("kind").String(); kind {
	case "command":
		id, _ := r.JSON("id").String()
		return commandDue(r, id)
	case "job":
		thing, _ := r.JSON("thing").String()
		job, _ := r.JSON("job").String()
		return executionDue(r, thing, job)
	}
	return &event.Failure{Code: event.ImplementationSpecificError, Message: "the timer " + r.Event.Subject + " is none of this plugin's"}
}
