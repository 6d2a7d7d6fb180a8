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

	latitude, longitude, altitude sdk.Value
	claims                        bool // the body says of whom it is, which nobody trusts
}

// fields of an ingest object, read in one pass. null counts as absent.
type fields struct {
	timestamp, occurredAt, latitude, longitude, altitude, deviceID sdk.Value
	mobileBattery, deviceBattery, deviceCoverage, mobileCoverage   sdk.Value
	claims                                                         bool // there is something of whom it is that clients must not say
}

func readFields(v sdk.Value) (f fields) {
	for m := v.First(); m.Ok(); m = m.Next() {
		value := m.Value()
		if value.Kind() == sdk.Null {
			value = sdk.Value{}
		}
		switch m.Name() {
		case "timestamp":
			f.timestamp = value
		case "occurredAt":
			f.occurredAt = value
		case "latitude":
			f.latitude = value
		case "longitude":
			f.longitude = value
		case "altitude":
			f.altitude = value
		case "deviceId":
			f.deviceID = value
		case "mobileBattery":
			f.mobileBattery = value
		case "deviceBattery":
			f.deviceBattery = value
		case "deviceCoverage":
			f.deviceCoverage = value
		case "mobileCoverage":
			f.mobileCoverage = value
		case "userId", "originalDeviceId", "reportingDeviceId":
			f.claims = true
		}
	}
	return f
}

// parseReading checks the fields of an ingest object. wrong names the rule that it
// breaks; empty: none.
func parseReading(r *call) (m reading, wrong string) {
	m.body = r.JSON()
	if m.body.Kind() != sdk.Object {
		return m, "not_an_object"
	}
	f := readFields(m.body)
	m.latitude, m.longitude, m.altitude, m.claims = f.latitude, f.longitude, f.altitude, f.claims
	if m.at, wrong = f.time(); wrong != "" {
		return m, wrong
	}
	const month = 30 * 24 * time.Hour
	m.suspect = m.at.Sub(r.Now) > 5*time.Minute || r.Now.Sub(m.at) > month
	if m.position, wrong = f.position(); wrong != "" {
		return m, wrong
	}
	if f.deviceID.Exists() {
		var ok bool
		if m.hardware, ok = f.deviceID.String(); !ok || !validHardware(m.hardware) {
			return m, "deviceId_type"
		}
	}
	return m, f.conditions()
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

// time is timestamp, or else occurredAt, in RFC 3339.
func (f *fields) time() (at time.Time, wrong string) {
	name, v := "timestamp", f.timestamp
	if !v.Exists() {
		name, v = "occurredAt", f.occurredAt
	}
	if !v.Exists() {
		return at, "time_missing"
	}
	text, ok := v.String()
	if !ok || at.UnmarshalText([]byte(text)) != nil || at.Year() < 1970 || at.Year() > 2261 ||
		strings.HasPrefix(text[len(text)-len("24:00"):], "24") { // package time takes an offset of a whole day
		return at, name + "_format"
	}
	return at.UTC(), ""
}

func (f *fields) position() (there bool, wrong string) {
	for _, c := range [...]struct {
		name string
		v    sdk.Value
		most float64
	}{{"latitude", f.latitude, 90}, {"longitude", f.longitude, 180}, {"altitude", f.altitude, math.MaxFloat64}} {
		if !c.v.Exists() {
			continue
		}
		n, ok := c.v.Float()
		switch {
		case !ok && c.v.Kind() != sdk.Number:
			return false, c.name + "_type"
		case !ok || math.IsNaN(n) || math.Abs(n) > c.most:
			return false, c.name + "_range"
		}
	}
	switch {
	case f.latitude.Exists() != f.longitude.Exists():
		return false, "latitude_longitude_pair"
	case f.altitude.Exists() && !f.latitude.Exists():
		return false, "altitude_without_position"
	}
	return f.latitude.Exists(), ""
}

// conditions checks what is said of batteries and coverage.
func (f *fields) conditions() (wrong string) {
	if m := f.mobileBattery; m.Exists() {
		n, ok := m.Int()
		switch {
		case !ok && m.Kind() == sdk.Number && strings.ContainsAny(string(m.Raw()), ".eE"), m.Kind() != sdk.Number:
			return "mobileBattery_type"
		case !ok || n < 0 || n > 100:
			return "mobileBattery_range"
		}
	}
	if m := f.deviceBattery; m.Exists() {
		n, ok := m.Get("rawValue").Float()
		_, text := m.Get("range").String()
		switch {
		case m.Kind() != sdk.Object || m.Get("rawValue").Kind() != sdk.Number || !text:
			return "deviceBattery_type"
		case !ok || n < 0 || n > 100:
			return "deviceBattery_range"
		}
	}
	switch {
	case f.deviceCoverage.Exists() && !validCoverage(f.deviceCoverage):
		return "deviceCoverage_type"
	case f.mobileCoverage.Exists() && !validCoverage(f.mobileCoverage):
		return "mobileCoverage_type"
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
	writeStamp(w, "occurredAt", m.at.UnixMilli())
	writeStamp(w, "receivedAt", r.Now.UnixMilli())
	if m.hardware != "" {
		w.Key("deviceId").String(m.hardware)
	}
	if relay != owner.id {
		w.Key("relayedBy").String(relay)
	}
	if m.suspect {
		w.Key("clockSuspect").Bool(true)
	}
	if !m.claims {
		w.Field("reported", m.body)
		return
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
