package main

import (
	"strconv"

	sdk "tributary.io/sdk-plugin"
)

// A shadow is one key of the state:
//
//	{"version":4,"reported":{…},"desired":{…},"times":{"reported":…,"desired":…},"documents":true}
//
// For times see mergeTimes. A deleted one keeps its version. documents is there when the thing's device has
// subscribed to shadow/update/documents, which no other device pays for.
type shadow struct {
	version           int64
	documents         bool // its device has subscribed to shadow/update/documents
	reported, desired side
}

// side is the reported or the desired state, with the times at which its members were set.
type side struct{ state, times sdk.Value }

const (
	maxDepth = 6       // levels of reported or desired, its own included
	maxState = 8 << 10 // bytes of reported and desired
	maxToken = 64      // bytes of a clientToken
)

// loadShadow reads a thing's shadow; ok is false when there is none.
func loadShadow(r *call, thing string) (s shadow, ok bool) {
	text, found := r.State(shadowKey(r, thing))
	if !found {
		return s, false
	}
	s = parseShadow(r, text)
	return s, s.reported.state.Exists() || s.desired.state.Exists()
}

// parseShadow reads what appendShadow wrote.
func parseShadow(r *call, text []byte) (s shadow) {
	for m := r.Parse(text).First(); m.Ok(); m = m.Next() {
		switch value := m.Value(); m.Name() {
		case "version":
			s.version, _ = value.Int()
		case "documents":
			s.documents, _ = value.Bool()
		case "reported":
			s.reported.state = value
		case "desired":
			s.desired.state = value
		case "times":
			s.reported.times, s.desired.times = value.Get("reported"), value.Get("desired")
		}
	}
	return s
}

// sideText is a side of a shadow as it is to be stored: what is set, and when.
type sideText struct{ state, times []byte }

func (p *side) text() sideText { return sideText{p.state.Raw(), p.times.Raw()} }

// appendShadow writes a shadow as it is stored.
func appendShadow(b, version []byte, reported, desired sideText, documents bool) []byte {
	b = append(append(b, `{"version":`...), version...)
	if reported.state != nil {
		b = append(append(b, `,"reported":`...), reported.state...)
	}
	if desired.state != nil {
		b = append(append(b, `,"desired":`...), desired.state...)
	}
	b = append(b, `,"times":{`...)
	if reported.times != nil {
		b = append(append(b, `"reported":`...), reported.times...)
	}
	if desired.times != nil {
		if reported.times != nil {
			b = append(b, ',')
		}
		b = append(append(b, `"desired":`...), desired.times...)
	}
	if b = append(b, '}'); documents {
		b = append(b, `,"documents":true`...)
	}
	return append(b, '}')
}

// problem is why a request is refused: an HTTP status, which Fleets uses over MQTT
// too, and a text.
type problem struct {
	code    int
	message string
}

// shadowTopic handles <thing>/shadow/….
func shadowTopic(r *call, thing, verb string) error {
	switch verb {
	case "update", "get", "delete":
	default:
		return strange(r)
	}
	token, p := clientToken(r)
	var accepted []byte
	if p == nil {
		switch verb {
		case "update":
			accepted, p = reportShadow(r, thing, token)
		case "get":
			accepted, p = readShadow(r, thing, token)
		default:
			accepted, p = removeShadow(r, thing, token)
		}
	}
	if p != nil {
		replyToThing(r, "/rejected", rejected(r, p, token))
		return nil
	}
	replyToThing(r, "/accepted", accepted)
	return nil
}

// clientToken reads the token of a request, whose payload may be empty.
func clientToken(r *call) (sdk.Value, *problem) {
	if len(r.Event.Data) == 0 {
		return sdk.Value{}, nil
	}
	if !r.JSON().Exists() {
		return sdk.Value{}, &problem{400, "Invalid JSON"}
	}
	token := r.JSON("clientToken")
	if text, ok := token.String(); token.Exists() && (!ok || len(text) > maxToken) {
		return sdk.Value{}, &problem{400, "Invalid clientToken"}
	}
	return token, nil
}

// rejected is the payload of …/rejected.
func rejected(r *call, p *problem, token sdk.Value) []byte {
	var w sdk.Writer
	return w.Object().Key("code").Int(int64(p.code)).Key("message").String(p.message).
		Key("timestamp").Int(seconds(r)).Field("clientToken", token).End().Bytes()
}

// reportShadow merges what a device reports.
func reportShadow(r *call, thing string, token sdk.Value) ([]byte, *problem) {
	var state, version, reported, desired sdk.Value
	for m := r.JSON().First(); m.Ok(); m = m.Next() {
		switch m.Name() {
		case "state":
			state = m.Value()
		case "version":
			version = m.Value()
		}
	}
	for m := state.First(); m.Ok(); m = m.Next() {
		switch m.Name() {
		case "reported":
			reported = m.Value()
		case "desired":
			desired = m.Value()
		}
	}
	switch {
	case !r.JSON().Exists():
		return nil, &problem{400, "Invalid JSON"}
	case !state.Exists():
		return nil, &problem{400, "Missing required node: state"}
	case state.Kind() != sdk.Object:
		return nil, &problem{400, "State node must be an object"}
	case !reported.Exists() || desired.Exists(): // desired is the cloud's
		return nil, &problem{400, "Missing required node: reported"}
	case reported.Kind() != sdk.Object:
		return nil, &problem{400, "Reported node must be an object"}
	}
	s, e, p := changeShadow(r, thing, "reported", reported, version, token)
	if p != nil {
		return nil, p
	}
	if s.pending() {
		sendDelta(r, thing, &s)
	}
	return accepted(r, reported, e), nil
}

// changeShadow merges a patch into one side of a shadow, stores it and tells the
// application. It returns the shadow as it is then, and what ends the messages
// about the change.
func changeShadow(r *call, thing, side string, patch, version, token sdk.Value) (s shadow, e shadowEnding, p *problem) {
	if len(patch.Raw()) > 2*maxState {
		return s, e, tooLarge()
	}
	old, _ := loadShadow(r, thing)
	before := &old.reported
	if side == "desired" {
		before = &old.desired
	}
	looks := shapeOf(before.state, patch)
	switch {
	case looks.depth > maxDepth:
		return s, e, &problem{400, "JSON contains too many levels of nesting; maximum is 6"}
	case looks.doubled:
		return s, e, &problem{400, "Invalid JSON"}
	}
	if p := checkVersion(version, old.version); p != nil {
		return s, e, p
	}
	e = endingOf(r, old.version+1, token)
	after := sideText{patch.Raw(), e.time}
	if looks.merges {
		after = before.merge(patch, e.time)
	}
	reported, desired := after, old.desired.text()
	if side == "desired" {
		reported, desired = old.reported.text(), after
	}
	if len(reported.state)+len(desired.state) > maxState {
		return s, e, tooLarge()
	}
	stored := appendShadow(r.Scratch(len(reported.state)+len(reported.times)+len(desired.state)+len(desired.times)+100),
		e.version, reported, desired, old.documents)
	r.Put(shadowKey(r, thing), stored, 0)
	s.version = old.version + 1
	if side == "desired" || old.desired.state.Exists() || old.documents { // else nobody asks for more
		s = parseShadow(r, stored)
	}
	if old.documents {
		sendDocuments(r, thing, &old, &s, token)
	}
	announce(r, thing, side, patch, e)
	return s, e, nil
}

// merge returns a side after a patch, at a time.
func (p *side) merge(patch sdk.Value, now []byte) sideText {
	var state, times sdk.Writer
	merge(&state, p.state, patch)
	mergeTimes(&times, p.times, p.state, patch, now)
	return sideText{state.Bytes(), times.Bytes()}
}

func tooLarge() *problem {
	return &problem{413, "The payload exceeds the maximum size allowed: 8 KB of state"}
}

// pending says whether anything desired is not reported yet.
func (s *shadow) pending() bool { return differs(s.desired.state, s.reported.state) }

// checkVersion is the optimistic lock: absent or 0 is no check.
func checkVersion(wanted sdk.Value, current int64) *problem {
	if !wanted.Exists() {
		return nil
	}
	v, ok := wanted.Int()
	switch {
	case !ok || v < 0:
		return &problem{400, "Invalid version"}
	case v != 0 && v != current:
		return &problem{409, "Version conflict"}
	}
	return nil
}

// shadowEnding is the end of the messages about a change, with the comma before it, and the
// version and the time in it as they are written.
type shadowEnding struct{ text, version, time []byte }

func endingOf(r *call, version int64, token sdk.Value) (e shadowEnding) {
	b := append(r.Scratch(100+len(token.Raw())), `,"version":`...)
	at := len(b)
	b = strconv.AppendInt(b, version, 10)
	e.version = b[at:len(b):len(b)]
	b = append(b, `,"timestamp":`...)
	at = len(b)
	b = strconv.AppendInt(b, seconds(r), 10)
	e.time = b[at:len(b):len(b)]
	if token.Exists() {
		b = append(append(b, `,"clientToken":`...), token.Raw()...)
	}
	e.text = append(b, '}')
	return e
}

// accepted is the payload of shadow/update/accepted: what was sent, with the times of
// its leaves.
func accepted(r *call, reported sdk.Value, e shadowEnding) []byte {
	state, leaf := reported.Raw(), stamp(r.Scratch(40), e.time)
	b := append(r.Scratch(len(state)+20*len(leaf)+len(e.text)+100), `{"state":{"reported":`...)
	b = append(append(b, state...), `},"metadata":{"reported":`...)
	return append(append(stampedMembers(b, reported, leaf), '}'), e.text...)
}

// sendDelta tells the device what is desired of it and not yet so.
func sendDelta(r *call, thing string, s *shadow) {
	var w sdk.Writer
	w.Object().Key("version").Int(s.version).Key("timestamp").Int(seconds(r))
	writeDelta(w.Key("state"), s.desired.state, s.reported.state)
	deltaTimes(w.Key("metadata"), s.desired.state, s.reported.state, s.desired.times)
	sendToThing(r, thing, "shadow/update/delta", w.End().Bytes())
}

// sendDocuments tells the device the whole document before and after a change.
func sendDocuments(r *call, thing string, before, after *shadow, token sdk.Value) {
	var w sdk.Writer
	w.Object()
	for _, d := range [...]struct {
		name string
		s    *shadow
	}{{"previous", before}, {"current", after}} {
		w.Key(d.name).Object().Key("state").Object().Field("reported", d.s.reported.state).Field("desired", d.s.desired.state).End()
		d.s.metadata(w.Key("metadata"))
		w.Key("version").Int(d.s.version).End()
	}
	sendToThing(r, thing, "shadow/update/documents", w.Key("timestamp").Int(seconds(r)).Field("clientToken", token).End().Bytes())
}

// metadata writes when the leaves of both sides were set.
func (s *shadow) metadata(w *sdk.Writer) {
	w.Object()
	for _, side := range [...]struct {
		name string
		part *side
	}{{"reported", &s.reported}, {"desired", &s.desired}} {
		switch p := side.part; p.times.Kind() {
		case sdk.Number:
			w.Key(side.name).Raw(stampedMembers(nil, p.state, stamp(nil, p.times.Raw())))
		case sdk.Object:
			w.Key(side.name).Raw(metadata(p.state, p.times))
		}
	}
	w.End()
}

// announce tells the application what changed.
func announce(r *call, thing, side string, patch sdk.Value, e shadowEnding) {
	b := r.Scratch(6*len(thing) + len(patch.Raw()) + len(e.text) + 60)
	b = sdk.AppendString(append(b, `{"thingName":`...), thing)
	b = append(append(append(b, `,"state":{"`...), side...), `":`...)
	b = append(append(append(b, patch.Raw()...), '}'), e.text...)
	emit(r, thing, "shadow.v1", side, b)
}

// readShadow is the payload of shadow/get/accepted.
func readShadow(r *call, thing string, token sdk.Value) ([]byte, *problem) {
	s, ok := loadShadow(r, thing)
	if !ok {
		return nil, noShadow(thing)
	}
	var w sdk.Writer
	w.Object().Key("state").Object().Field("reported", s.reported.state).Field("desired", s.desired.state)
	if s.pending() {
		writeDelta(w.Key("delta"), s.desired.state, s.reported.state)
	}
	s.metadata(w.End().Key("metadata"))
	w.Key("version").Int(s.version).Key("timestamp").Int(seconds(r))
	return w.Field("clientToken", token).End().Bytes(), nil
}

func noShadow(thing string) *problem {
	return &problem{404, "No shadow exists with name: '" + thing + "'"}
}

// removeShadow deletes a shadow and keeps its version, so that a later one goes on from
// there.
func removeShadow(r *call, thing string, token sdk.Value) ([]byte, *problem) {
	s, ok := loadShadow(r, thing)
	if !ok {
		return nil, noShadow(thing)
	}
	kept := `{"version":` + strconv.FormatInt(s.version, 10)
	if s.documents {
		kept += `,"documents":true`
	}
	r.Put(shadowKey(r, thing), []byte(kept+"}"), 0)
	var w sdk.Writer
	w.Object().Key("thingName").String(thing).Key("version").Int(s.version).Key("deleted").Bool(true).
		Key("timestamp").Int(seconds(r)).Field("clientToken", token).End()
	emit(r, thing, "shadow.v1", "deleted", w.Bytes())
	var answer sdk.Writer
	return answer.Object().Key("version").Int(s.version).Key("timestamp").Int(seconds(r)).Field("clientToken", token).End().Bytes(), nil
}
