package main

import (
	"slices"
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// thingsPath answers /api/v1/things….
func thingsPath(r *call, parts []string) error {
	method := r.Transport.Method
	switch {
	case len(parts) == 0 && method == "GET":
		return listThings(r)
	case len(parts) == 0 && method == "POST":
		return addThing(r)
	case len(parts) == 0:
		return wrongMethod(r, "GET, POST")
	case len(parts) == 3 && parts[1] == "shadow" && parts[2] == "desired":
		if method != "PUT" {
			return wrongMethod(r, "PUT")
		}
		return desire(r, parts[0])
	case len(parts) > 2 || len(parts) == 2 && parts[1] != "events":
		return fail(r, 404, "there is nothing at this path")
	}
	t, ok := findThing(r, parts[0])
	switch {
	case len(parts) == 2 && method != "GET":
		return wrongMethod(r, "GET")
	case len(parts) == 2 && !ok: // it may speak only HTTP, which registers nothing
		return listEvents(r, parts[0])
	case len(parts) == 2:
		return listEvents(r, t.name)
	case !ok:
		return fail(r, 404, "there is no thing "+parts[0])
	case method == "GET":
		return showThing(r, 200, &t)
	case method == "PUT", method == "PATCH":
		return changeThing(r, &t)
	case method == "DELETE":
		return removeThing(r, &t)
	}
	return wrongMethod(r, "GET, PUT, PATCH, DELETE")
}

func showThing(r *call, status int, t *thing) error {
	var w sdk.Writer
	t.write(&w)
	return answer(r, status, w.Bytes())
}

// addThing registers a thing before its device is first seen.
func addThing(r *call) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	name, _ := v.Get("name").String()
	if !validName(name) {
		return fail(r, 400, "name must be a text of at most 128 bytes without /, + and #")
	}
	if _, exists := r.State(thingKey(name)); exists {
		return fail(r, 409, "there is a thing of this name already")
	}
	t := thing{name: name, id: uuid(), added: r.Event.Time.UnixMilli()}
	if p := t.set(r, v); p != nil {
		return fail(r, p.code, p.message)
	}
	r.Put(idKey(t.id), []byte(name), 0)
	return showThing(r, 201, &t)
}

// changeThing sets the members that a body has. A thing keeps its name, which is
// its device's.
func changeThing(r *call, t *thing) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	if name := v.Get("name"); name.Exists() && !isText(name, t.name) {
		return fail(r, 422, "a thing keeps its name: it is the device's name in the gateway")
	}
	if p := t.set(r, v); p != nil {
		return fail(r, p.code, p.message)
	}
	return showThing(r, 200, t)
}

// set checks and takes over the members of a body, and stores the thing. A thing
// that joins a group gets its continuous jobs.
func (t *thing) set(r *call, v sdk.Value) *problem {
	before := *t
	if p := t.read(r, v); p != nil {
		return p
	}
	moves := before.group != t.group
	var jobs []job
	if moves && t.group != "" {
		var p *problem
		if jobs, p = joining(r, t.group, t.name); p != nil {
			return p
		}
	}
	if before.client != "" && before.client != t.client {
		r.Delete(clientKey(before.client))
	}
	r.Put(clientKey(t.client), []byte(t.name), 0)
	if moves && before.group != "" {
		r.Delete(memberKey(before.group, t.name))
	}
	if moves && t.group != "" {
		r.Put(memberKey(t.group, t.name), nil, 0)
	}
	for i := range jobs {
		j := &jobs[i]
		j.targets = append(j.targets, t.name)
		enqueue(r, j, t.name)
		j.store(r, false)
	}
	t.store(r)
	return nil
}

// read checks and takes over the members of a body.
func (t *thing) read(r *call, v sdk.Value) *problem {
	for _, m := range [...]struct {
		name string
		to   *string
	}{{"mqttClientId", &t.client}, {"thingTypeId", &t.typ}, {"group", &t.group}} {
		if member := v.Get(m.name); member.Exists() {
			text, ok := member.String()
			if !ok || text != "" && !validName(text) {
				return &problem{400, m.name + " must be a text of at most 128 bytes without /, + and #"}
			}
			*m.to = strings.Clone(text)
		}
	}
	if tags := v.Get("tags"); tags.Exists() {
		t.tags = nil
		for tag := range tags.Elements() {
			text, ok := tag.String()
			if !ok || text == "" || len(t.tags) == 50 {
				return &problem{400, "tags must be at most 50 texts"}
			}
			t.tags = append(t.tags, text)
		}
		if tags.Kind() != sdk.Array {
			return &problem{400, "tags must be an array of texts"}
		}
	}
	if t.typ != "" {
		if _, ok := r.State(typeKey(t.typ)); !ok {
			return &problem{422, "there is no thing type " + t.typ}
		}
	}
	if t.client == "" {
		t.client = t.name
	}
	if holder, taken := r.State(clientKey(t.client)); taken && string(holder) != t.name {
		return &problem{409, "mqttClientId belongs to another thing"}
	}
	return nil
}

// removeThing forgets a thing with its shadow. Its jobs and commands stay as the
// record of what was done.
func removeThing(r *call, t *thing) error {
	r.Delete(thingKey(t.name))
	r.Delete(idKey(t.id))
	r.Delete(clientKey(t.client))
	r.Delete(shadowKey(r, t.name))
	if t.group != "" {
		r.Delete(memberKey(t.group, t.name))
	}
	return answer(r, 204, nil)
}

// desire sets what is desired of a thing.
func desire(r *call, name string) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	if t, found := findThing(r, name); found {
		name = t.name
	}
	state := v.Get("state")
	if desired := state.Get("desired"); desired.Exists() {
		state = desired // as a shadow document has it
	}
	token, p := clientToken(r)
	switch {
	case p != nil:
		return fail(r, p.code, p.message)
	case !validName(name):
		return fail(r, 404, "there is no thing "+name)
	case !state.Exists():
		return fail(r, 400, "Missing required node: state")
	case state.Kind() != sdk.Object:
		return fail(r, 400, "State node must be an object")
	}
	s, _, p := changeShadow(r, name, "desired", state, v.Get("version"), token)
	if p != nil {
		return fail(r, p.code, p.message)
	}
	var w sdk.Writer
	w.Object().Key("version").Int(s.version).Key("delta")
	if s.pending() {
		sendDelta(r, name, &s)
		writeDelta(&w, s.desired.state, s.reported.state)
	} else {
		w.Object().End()
	}
	return answer(r, 200, w.Field("clientToken", token).End().Bytes())
}

// thingTypes answers /api/v1/thing-types….
func thingTypes(r *call, parts []string) error {
	method := r.Transport.Method
	switch {
	case len(parts) > 1:
		return fail(r, 404, "there is nothing at this path")
	case len(parts) == 0 && method == "GET":
		return writePage(r, list{name: "thingTypes", prefix: typeKey(""), show: func(w *sdk.Writer, _ string, value []byte) (int,
			bool) {
			w.Raw(value)
			return 0, true
		}})
	case len(parts) == 0 && method == "POST":
		return storeType(r, uuid(), 201)
	case len(parts) == 0:
		return wrongMethod(r, "GET, POST")
	}
	text, ok := r.State(typeKey(parts[0]))
	switch {
	case !ok:
		return fail(r, 404, "there is no thing type "+parts[0])
	case method == "GET":
		return answer(r, 200, slices.Clone(text))
	case method == "PUT":
		return storeType(r, parts[0], 200)
	}
	return wrongMethod(r, "GET, PUT")
}

func storeType(r *call, id string, status int) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	name, _ := v.Get("name").String()
	if name == "" || len(name) > 128 {
		return fail(r, 400, "name must be a text of at most 128 bytes")
	}
	var w sdk.Writer
	w.Object().Key("thingTypeId").String(id).Key("name").String(name)
	if text, ok := v.Get("description").String(); ok {
		w.Key("description").String(text)
	}
	w.End()
	r.Put(typeKey(id), w.Bytes(), 0)
	return answer(r, status, w.Bytes())
}
