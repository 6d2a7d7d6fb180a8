// Command eixam is the plugin for phones and beacons of Eixam: SOS alerts and
// positions over MQTT and HTTP, the incidents that come of alerts, and the people who
// are notified of them. README.md describes it.
package main

import (
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(handle)

func main() {}

// call is the event in hand.
type call struct {
	*sdk.Request
}

func handle(r *sdk.Request) error { return dispatch(&call{Request: r}) }

func dispatch(r *call) error {
	switch r.Event.Type {
	case event.TypeConnect:
		return connect(r)
	case event.TypePublish:
		return publish(r)
	case event.TypeSubscribe:
		return subscribe(r)
	case event.TypeConnection:
		return nil // who is online says nothing about who needs help
	case event.TypeRequest:
		return request(r)
	case event.TypeTimer:
		return timer(r)
	case event.TypeResponse:
		return response(r)
	}
	return sdk.Permanent("the eixam plugin does not handle events of type " + r.Event.Type + ": route it by type")
}

// emit writes an event of the plugin's own to the application's log. Its schema is
// schemas/<type>.json. at is when it happened by the client's clock; zero: now.
func emit(r *call, user, typ, subject, id string, at time.Time, data []byte) {
	r.Emit(event.Event{ID: id, Type: r.Join("io.tributary.eixam.", typ), Subject: subject, Device: user, Time: at,
		DataContentType: "application/json", DataSchema: r.Join("https://tributary.io/schemas/io.tributary.eixam.", typ, ".json"), Data: data})
}

// stamp writes a time as Eixam does: RFC 3339 in UTC with milliseconds.
func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// writeStamp writes a time, which is null if it is 0.
func writeStamp(w *sdk.Writer, key string, ms int64) {
	w.Key(key)
	if ms == 0 {
		w.Null()
	} else {
		w.String(stamp(ms))
	}
}

// setting reads a setting that is a text; empty: it is not set.
func setting(r *call, name string) string {
	text, _ := r.Config(name).String()
	return text
}

// number reads a setting that is a whole number within bounds.
func number(r *call, name string, otherwise, low, high int64) int64 {
	text := setting(r, name)
	if text == "" {
		return otherwise
	}
	n, ok := int64(0), true
	for _, c := range []byte(strings.TrimPrefix(text, "+")) {
		if ok = ok && c >= '0' && c <= '9' && n < high; !ok {
			break
		}
		n = n*10 + int64(c-'0')
	}
	if !ok {
		n = otherwise
	}
	return min(max(n, low), high)
}

func legacy(r *call) bool { return setting(r, "legacy_topics") == "true" }
