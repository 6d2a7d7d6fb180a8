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
func stamp(ms int64) string { return string(appendStamp(nil, ms)) }

// appendStamp does without package time, whose way of formats takes a plugin ten times as
// long.
func appendStamp(b []byte, ms int64) []byte {
	year, month, day := time.UnixMilli(ms).UTC().Date()
	rest := ms % 86_400_000
	if rest < 0 {
		rest += 86_400_000
	}
	b = append(appendDigits(b, int64(year), 4), '-')
	b = append(appendDigits(b, int64(month), 2), '-')
	b = append(appendDigits(b, int64(day), 2), 'T')
	b = append(appendDigits(b, rest/3_600_000, 2), ':')
	b = append(appendDigits(b, rest/60_000%60, 2), ':')
	b = append(appendDigits(b, rest/1000%60, 2), '.')
	return append(appendDigits(b, rest%1000, 3), 'Z')
}

// appendDigits appends the last so many decimal digits of a number.
func appendDigits(b []byte, n int64, digits int) []byte {
	for i, by := 0, pow10(digits-1); i < digits; i, by = i+1, by/10 {
		b = append(b, byte('0'+n/by%10))
	}
	return b
}

func pow10(n int) int64 {
	v := int64(1)
	for range n {
		v *= 10
	}
	return v
}

// writeStamp writes a time, which is null if it is 0.
func writeStamp(w *sdk.Writer, key string, ms int64) {
	w.Key(key)
	if ms == 0 {
		w.Null()
		return
	}
	var room [32]byte
	w.Raw(append(appendStamp(append(room[:0], '"'), ms), '"'))
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
