package main

import (
	"strconv"

	sdk "tributary.io/sdk-plugin"
)

// A shadow is one key of the state:
//
//	{"version":4,"reported":{…},"desired":{…},"times":{"reported":{…},"desired":{…}},"documents":true}
//
// A deleted one keeps its version. documents is there when the thing's device has
// subscribed to shadow/update/documents, which no other device pays for.
type shadow struct {
	version           int64
	documents         bool // its device has subscribed to shadow/update/documents
	reported, desired sdk.Value
	times             sdk.Value
	stamps            []byte // of a change: the metadata of what was set
}

func shadowKey(thing string) string { return "shadow/" + thing }

const (
	maxDepth = 6       // levels of reported or desired, its own included
	maxState = 8 << 10 // bytes of reported and desired
	maxToken = 64      // bytes of a clientToken
)

// load reads a thing's shadow; ok is false when there is none.
func load(r *call, thing string) (s shadow, ok bool) {
	text, found := r.State(shadowKey(thing))
	if !found {
		return s, false
	}
	doc := sdk.ParseJSON(text)
	s.version, _ = doc.Get("version").Int()
	s.documents, _ = doc.Get("documents").Bool()
	s.reported, s.desired, s.times = doc.Get("reported"), doc.Get("desired"), doc.Get("times")
	return s, s.reported.Exists() || s.desired.Exists()
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
			accepted, p = report(r, thing, token)
		case "get":
			accepted, p = read(r, thing, token)
		default:
			accepted, p = remove(r, thing, token)
		}
	}
	if p != nil {
		reply(r, thing, "shadow/"+verb+"/rejected", rejected(r, p, token))
		return nil
	}
	reply(r, thing, "shadow/"+verb+"/accepted", accepted)
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

// report merges what a device reports.
func report(r *call, thing string, token sdk.Value) ([]byte, *problem) {
	body := r.JSON()
	state := body.Get("state")
	reported := state.Get("reported")
	switch {
	case !body.Exists():
		return nil, &problem{400, "Invalid JSON"}
	case !state.Exists():
		return nil, &problem{400, "Missing required node: state"}
	case state.Kind() != sdk.Object:
		return nil, &problem{400, "State node must be an object"}
	case !reported.Exists() || state.Get("desired").Exists(): // desired is the cloud's
		return nil, &problem{400, "Missing required node: reported"}
	case reported.Kind() != sdk.Object:
		return nil, &problem{400, "Reported node must be an object"}
	}
	s, p := change(r, thing, "reported", reported, body.Get("version"), token)
	if p != nil {
		return nil, p
	}
	if s.pending() {
		sendDelta(r, thing, &s)
	}
	return acceptedUpdate(r, &s, "reported", reported, token), nil
}

// change merges a patch into one side of a shadow, stores it and tells the
// application. It returns the shadow as it is then.
func change(r *call, thing, side string, patch, version, token sdk.Value) (shadow, *problem) {
	if len(patch.Raw()) > 2*maxState {
		return shadow{}, tooLarge()
	}
	looks := shapeOf(patch)
	switch {
	case looks.depth > maxDepth:
		return shadow{}, &problem{400, "JSON contains too many levels of nesting; maximum is 6"}
	case looks.doubled:
		return shadow{}, &problem{400, "Invalid JSON"}
	}
	old, _ := load(r, thing)
	if p := checkVersion(version, old.version); p != nil {
		return shadow{}, p
	}
	set, w := leaf(seconds(r)), new(sdk.Writer)
	var stamps sdk.Writer
	stampMembers(stamps.Grow(3*len(patch.Raw())+100), patch, set)
	whole := !looks.nulls && (!old.side(side).Exists() || replaces(old.side(side), patch))
	w.Grow(4*len(patch.Raw()) + 2*len(old.reported.Raw()) + 2*len(old.desired.Raw()) + len(old.times.Raw()) + 100)
	w.Object().Key("version").Int(old.version + 1)
	sides := 0
	for _, name := range [...]string{"reported", "desired"} {
		before, from := old.side(name), len(w.Bytes())
		switch {
		case name != side:
			w.Field(name, before)
		case whole:
			w.Key(name).Raw(patch.Raw())
		default:
			merge(w.Key(name), before, patch)
		}
		sides += len(w.Bytes()) - from
	}
	if sides > maxState {
		return shadow{}, tooLarge()
	}
	w.Key("times").Object()
	for _, name := range [...]string{"reported", "desired"} {
		switch {
		case name != side:
			w.Field(name, old.times.Get(name))
		case whole:
			w.Key(name).Raw(stamps.Bytes())
		default:
			mergeTimes(w.Key(name), old.times.Get(name), old.side(name), patch, set)
		}
	}
	if w.End(); old.documents {
		w.Key("documents").Bool(true)
	}
	text := w.End().Bytes()
	r.Put(shadowKey(thing), text, 0)
	s := shadow{version: old.version + 1, stamps: stamps.Bytes()}
	if side == "desired" || old.desired.Exists() || old.documents { // else nobody asks for more
		doc := sdk.ParseJSON(text)
		s.reported, s.desired, s.times = doc.Get("reported"), doc.Get("desired"), doc.Get("times")
	}
	if old.documents {
		sendDocuments(r, thing, &old, &s, token)
	}
	announce(r, thing, side, patch, s.version, token)
	return s, nil
}

func tooLarge() *problem {
	return &problem{413, "The payload exceeds the maximum size allowed: 8 KB of state"}
}

// pending says whether anything desired is not reported yet.
func (s *shadow) pending() bool { return differs(s.desired, s.reported) }

func (s *shadow) side(name string) sdk.Value {
	if name == "reported" {
		return s.reported
	}
	return s.desired
}

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

// acceptedUpdate is the payload of shadow/update/accepted: what was sent, with
// the times of its leaves.
func acceptedUpdate(r *call, s *shadow, side string, patch, token sdk.Value) []byte {
	b := make([]byte, 0, len(patch.Raw())+len(s.stamps)+len(token.Raw())+120)
	b = append(append(append(b, `{"state":{"`...), side...), `":`...)
	b = append(append(b, patch.Raw()...), `},"metadata":{"`...)
	b = append(append(append(b, side...), `":`...), s.stamps...)
	return ended(append(b, '}'), s.version, seconds(r), token)
}

// ended ends an object with a version, a timestamp and a token. What every report
// costs is written in few pieces.
func ended(b []byte, version, timestamp int64, token sdk.Value) []byte {
	b = strconv.AppendInt(append(b, `,"version":`...), version, 10)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), timestamp, 10)
	if token.Exists() {
		b = append(append(b, `,"clientToken":`...), token.Raw()...)
	}
	return append(b, '}')
}

// sendDelta tells the device what is desired of it and not yet so.
func sendDelta(r *call, thing string, s *shadow) {
	var w sdk.Writer
	w.Object().Key("version").Int(s.version).Key("timestamp").Int(seconds(r))
	delta(w.Key("state"), s.desired, s.reported, s.desired)
	delta(w.Key("metadata"), s.desired, s.reported, s.times.Get("desired"))
	send(r, thing, "shadow/update/delta", w.End().Bytes())
}

// sendDocuments tells the device the whole document before and after a change.
func sendDocuments(r *call, thing string, before, after *shadow, token sdk.Value) {
	var w sdk.Writer
	w.Object()
	for _, d := range [...]struct {
		name string
		s    *shadow
	}{{"previous", before}, {"current", after}} {
		w.Key(d.name).Object().Key("state").Object().Field("reported", d.s.reported).Field("desired", d.s.desired).End().
			Field("metadata", d.s.times).Key("version").Int(d.s.version).End()
	}
	send(r, thing, "shadow/update/documents", w.Key("timestamp").Int(seconds(r)).Field("clientToken", token).End().Bytes())
}

// announce tells the application what changed.
func announce(r *call, thing, side string, patch sdk.Value, version int64, token sdk.Value) {
	var name sdk.Writer
	name.Grow(len(thing) + 20).String(thing)
	b := make([]byte, 0, len(patch.Raw())+len(name.Bytes())+len(token.Raw())+120)
	b = append(append(b, `{"thingName":`...), name.Bytes()...)
	b = append(append(append(b, `,"state":{"`...), side...), `":`...)
	b = append(append(b, patch.Raw()...), '}')
	emit(r, thing, "shadow.v1", side, ended(b, version, seconds(r), token))
}

// read is the payload of shadow/get/accepted.
func read(r *call, thing string, token sdk.Value) ([]byte, *problem) {
	s, ok := load(r, thing)
	if !ok {
		return nil, noShadow(thing)
	}
	var w sdk.Writer
	w.Object().Key("state").Object().Field("reported", s.reported).Field("desired", s.desired)
	if s.pending() {
		delta(w.Key("delta"), s.desired, s.reported, s.desired)
	}
	w.End().Field("metadata", s.times).Key("version").Int(s.version).Key("timestamp").Int(seconds(r))
	return w.Field("clientToken", token).End().Bytes(), nil
}

func noShadow(thing string) *problem {
	return &problem{404, "No shadow exists with name: '" + thing + "'"}
}

// remove deletes a shadow and keeps its version, so that a later one goes on from
// there.
func remove(r *call, thing string, token sdk.Value) ([]byte, *problem) {
	s, ok := load(r, thing)
	if !ok {
		return nil, noShadow(thing)
	}
	kept := `{"version":` + strconv.FormatInt(s.version, 10)
	if s.documents {
		kept += `,"documents":true`
	}
	r.Put(shadowKey(thing), []byte(kept+"}"), 0)
	var w sdk.Writer
	w.Object().Key("thingName").String(thing).Key("version").Int(s.version).Key("deleted").Bool(true).
		Key("timestamp").Int(seconds(r)).Field("clientToken", token).End()
	emit(r, thing, "shadow.v1", "deleted", w.Bytes())
	var answer sdk.Writer
	return answer.Object().Key("version").Int(s.version).Key("timestamp").Int(seconds(r)).Field("clientToken", token).End().Bytes(), nil
}
