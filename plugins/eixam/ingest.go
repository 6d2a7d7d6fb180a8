package main

import (
	"math"
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
)

// maxHardware bounds the hardware id of a device.
const maxHardware = 128

// reading is what a client reports of somebody: an alert, or telemetry.
type reading struct {
	at       time.Time // of the client's clock
	suspect  bool      // that clock may be wrong
	hardware string    // the device that it is of; empty: the phone itself
	position bool
	body     sdk.Value
}

// parseReading checks the fields of an ingest object. wrong names the rule that it
// breaks; empty: none.
func parseReading(r *call) (m reading, wrong string) {
	m.body = r.JSON()
	if m.body.Kind() != sdk.Object {
		return m, "not_an_object"
	}
	if m.at, wrong = readTime(m.body); wrong != "" {
		return m, wrong
	}
	m.suspect = m.at.After(r.Now.Add(5*time.Minute)) || m.at.Before(r.Now.AddDate(0, 0, -30))
	if m.position, wrong = readPosition(m.body); wrong != "" {
		return m, wrong
	}
	if v := given(m.body, "deviceId"); v.Exists() {
		var ok bool
		if m.hardware, ok = v.String(); !ok || !validHardware(m.hardware) {
			return m, "deviceId_type"
		}
	}
	return m, readConditions(m.body)
}

// given is a member of an object, or missing; null says that it is not there.
func given(v sdk.Value, name string) sdk.Value {
	if m := v.Get(name); m.Kind() != sdk.Null {
		return m
	}
	return sdk.Value{}
}

// validHardware says whether s can be a hardware id: it stands in a key of the state.
func validHardware(s string) bool {
	return s != "" && len(s) <= maxHardware && printable(s)
}

// readTime is timestamp, or else occurredAt, in RFC 3339.
func readTime(v sdk.Value) (at time.Time, wrong string) {
	for _, name := range [...]string{"timestamp", "occurredAt"} {
		m := given(v, name)
		if !m.Exists() {
			continue
		}
		text, ok := m.String()
		if !ok || at.UnmarshalText([]byte(text)) != nil || at.Year() < 1970 || at.Year() > 2261 ||
			strings.HasPrefix(text[len(text)-len("24:00"):], "24") { // package time takes an offset of a whole day
			return at, name + "_format"
		}
		return at.UTC(), ""
	}
	return at, "time_missing"
}

func readPosition(v sdk.Value) (there bool, wrong string) {
	latitude, longitude, altitude := given(v, "latitude"), given(v, "longitude"), given(v, "altitude")
	for _, f := range [...]struct {
		name string
		v    sdk.Value
		most float64
	}{{"latitude", latitude, 90}, {"longitude", longitude, 180}, {"altitude", altitude, math.MaxFloat64}} {
		if !f.v.Exists() {
			continue
		}
		n, ok := f.v.Float()
		switch {
		case !ok && f.v.Kind() != sdk.Number:
			return false, f.name + "_type"
		case !ok || math.IsNaN(n) || math.Abs(n) > f.most:
			return false, f.name + "_range"
		}
	}
	switch {
	case latitude.Exists() != longitude.Exists():
		return false, "latitude_longitude_pair"
	case altitude.Exists() && !latitude.Exists():
		return false, "altitude_without_position"
	}
	return latitude.Exists(), ""
}

// readConditions checks what is said of batteries and coverage.
func readConditions(v sdk.Value) (wrong string) {
	if m := given(v, "mobileBattery"); m.Exists() {
		n, ok := m.Int()
		switch {
		case !ok && m.Kind() == sdk.Number && strings.ContainsAny(string(m.Raw()), ".eE"), m.Kind() != sdk.Number:
			return "mobileBattery_type"
		case !ok || n < 0 || n > 100:
			return "mobileBattery_range"
		}
	}
	if m := given(v, "deviceBattery"); m.Exists() {
		n, ok := m.Get("rawValue").Float()
		_, text := m.Get("range").String()
		switch {
		case m.Kind() != sdk.Object || m.Get("rawValue").Kind() != sdk.Number || !text:
			return "deviceBattery_type"
		case !ok || n < 0 || n > 100:
			return "deviceBattery_range"
		}
	}
	for _, name := range [...]string{"deviceCoverage", "mobileCoverage"} {
		if m := given(v, name); m.Exists() && !validCoverage(m) {
			return name + "_type"
		}
	}
	return ""
}

// validCoverage says whether v is {signalStrength?: int, networkType: string,
// isConnected: bool}.
func validCoverage(v sdk.Value) bool {
	_, network := v.Get("networkType").String()
	_, connected := v.Get("isConnected").Bool()
	strength := given(v, "signalStrength")
	_, whole := strength.Int()
	return v.Kind() == sdk.Object && network && connected && (!strength.Exists() || whole)
}

// write is the reading in the events of the log: what is known of it, and all that the
// client sent, but for what it must not say of whom it is.
func (m *reading) write(w *sdk.Writer, r *call, owner *user, relay string) {
	w.Object().Key("appId").String(owner.app).Key("userId").String(owner.id).Key("externalUserId").String(owner.external)
	w.Key("occurredAt").String(stamp(m.at.UnixMilli())).Key("receivedAt").String(stamp(r.Now.UnixMilli()))
	if m.hardware != "" {
		w.Key("deviceId").String(m.hardware)
	}
	if relay != owner.id {
		w.Key("relayedBy").String(relay)
	}
	if m.suspect {
		w.Key("clockSuspect").Bool(true)
	}
	w.Key("reported").Object()
	for name, v := range m.body.Fields() {
		switch name {
		case "userId", "originalDeviceId", "reportingDeviceId":
		default:
			w.Field(name, v)
		}
	}
	w.End()
}
