package main

import (
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// The REST interface. A device may use what is below /api/v1/thing-datas, for its
// own thing; a back end everything. The gateway has judged credentials and rights.

// request answers an HTTP request.
func request(r *call) error {
	path, ok := strings.CutPrefix(r.Transport.Path, "/api/v1/")
	if !ok {
		return fail(r, 404, "there is nothing at this path; Fleets is below /api/v1")
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if parts[i], ok = sdk.Unescape(part); !ok || parts[i] == "" || !event.ValidString(parts[i]) {
			return fail(r, 400, "the path is malformed")
		}
	}
	if r.Event.Device != "" && parts[0] != "thing-datas" {
		return fail(r, 403, "a device may use only what is below /api/v1/thing-datas")
	}
	switch parts[0] {
	case "thing-datas":
		return thingData(r, parts[1:])
	case "things":
		return thingsPath(r, parts[1:])
	case "thing-types":
		return thingTypes(r, parts[1:])
	case "commands":
		return commandsPath(r, parts[1:])
	case "jobs":
		return jobsPath(r, parts[1:])
	}
	return fail(r, 404, "there is nothing at this path")
}

// query returns a parameter of the query, empty when there is none.
func query(r *call, name string) string { return sdk.FormValue(r.Transport.Query, name) }

// answer replies with JSON.
func answer(r *call, status int, body []byte) error {
	r.Do(&event.Reply{Code: event.Code(status), Payload: body, Headers: []event.Property{{Name: "Content-Type", Value: "application/json"}}})
	return nil
}

func fail(r *call, status int, message string) error {
	var w sdk.Writer
	return answer(r, status, w.Object().Key("code").Int(int64(status)).Key("message").String(message).End().Bytes())
}

// wrongMethod names the methods that there are.
func wrongMethod(r *call, allowed string) error {
	allowed = strings.Replace(allowed, "GET", "GET, HEAD", 1) // the listener makes the one of the other
	var w sdk.Writer
	w.Object().Key("code").Int(405).Key("message").String("the methods of this path are " + allowed).End()
	r.Do(&event.Reply{Code: 405, Payload: w.Bytes(), Headers: []event.Property{{Name: "Allow", Value: allowed},
		{Name: "Content-Type", Value: "application/json"}}})
	return nil
}

// body checks that a request has a JSON object.
func body(r *call) (sdk.Value, bool) {
	if v := r.JSON(); v.Kind() == sdk.Object {
		return v, true
	}
	fail(r, 400, "the body must be a JSON object")
	return sdk.Value{}, false
}

// bodyThing is the thing that a body names, which for a device is its own.
func bodyThing(r *call) (string, bool) {
	if _, ok := body(r); !ok {
		return "", false
	}
	name, _ := r.JSON("thingName").String()
	if !validName(name) {
		fail(r, 400, "thingName must be the name of a thing")
		return "", false
	}
	return name, ownThing(r, name)
}

// ownThing says whether the client that asks may speak for the thing.
func ownThing(r *call, thing string) bool {
	if r.Event.Device != "" && r.Event.Device != thing {
		fail(r, 403, "a device may speak only of its own thing, "+r.Event.Device)
		return false
	}
	return true
}

// thingData answers what devices ask over HTTP, and the reading of shadows.
func thingData(r *call, parts []string) error {
	switch path := strings.Join(parts, "/"); {
	case len(parts) == 2 && parts[1] == "shadow":
		if r.Transport.Method != "GET" {
			return wrongMethod(r, "GET")
		}
		if !ownThing(r, parts[0]) {
			return nil
		}
		return showShadow(r, parts[0])
	case r.Transport.Method != "POST":
		return wrongMethod(r, "POST")
	case path == "shadow/reported":
		return reportPath(r)
	case path == "events":
		return eventPath(r)
	case path == "jobs/get", path == "jobs/start-next":
		return jobsVerbPath(r, "", parts[1])
	case len(parts) == 3 && parts[0] == "jobs" && (parts[2] == "get" || parts[2] == "update"):
		return jobsVerbPath(r, parts[1], parts[2])
	}
	return fail(r, 404, "there is nothing at this path")
}

// showShadow answers with a shadow. A thing without one has an empty shadow of
// version 0, so that HTTP devices need not tell the two apart.
func showShadow(r *call, name string) error {
	if t, ok := findThing(r, name); ok {
		name = t.name
	}
	s, _ := loadShadow(r, name)
	var w sdk.Writer
	w.Object().Key("thingName").String(name)
	side := func(name string, v sdk.Value) {
		if v.Exists() {
			w.Field(name, v)
		} else {
			w.Key(name).Object().End()
		}
	}
	side("reported", s.reported.state)
	side("desired", s.desired.state)
	if s.pending() {
		writeDelta(w.Key("delta"), s.desired.state, s.reported.state)
	} else {
		w.Key("delta").Object().End()
	}
	s.metadata(w.Key("metadata"))
	return answer(r, 200, w.Key("version").Int(s.version).Key("timestamp").Int(seconds(r)).End().Bytes())
}

// reportPath is shadow/update of an HTTP device.
func reportPath(r *call) error {
	thing, ok := bodyThing(r)
	if !ok {
		return nil
	}
	token, p := clientToken(r)
	var accepted []byte
	if p == nil {
		accepted, p = reportShadow(r, thing, token)
	}
	if p != nil {
		return answer(r, p.code, rejected(r, p, token))
	}
	return answer(r, 200, accepted)
}

func eventPath(r *call) error {
	thing, ok := bodyThing(r)
	if !ok {
		return nil
	}
	typ, _ := r.JSON("eventType").String()
	if !validName(typ) {
		return fail(r, 400, "eventType must be a text without /, + and #")
	}
	data, p := checkEvent(r, thing, typ)
	if p != nil {
		return fail(r, p.code, p.message)
	}
	keepEvent(r, thing, typ, data)
	return answer(r, 200, data)
}

// jobsVerbPath is jobs/… of an HTTP device.
func jobsVerbPath(r *call, id, verb string) error {
	thing, ok := bodyThing(r)
	if !ok {
		return nil
	}
	accepted, f := jobVerb(r, thing, id, verb)
	if f != nil {
		return answer(r, f.status(), jobRejected(r, f))
	}
	return answer(r, 200, accepted)
}

// commandsPath answers /api/v1/commands….
func commandsPath(r *call, parts []string) error {
	method := r.Transport.Method
	switch {
	case len(parts) == 0 && method == "POST":
		thing, ok := bodyThing(r)
		if !ok {
			return nil
		}
		action, _ := r.JSON("action").String()
		x, p := sendCommand(r, thing, action, r.JSON("params"), r.JSON("ttl"))
		if p != nil {
			return fail(r, p.code, p.message)
		}
		var w sdk.Writer
		w.Object().Key("commandId").String(x.command).Key("executionId").String(x.id).Key("status").String(x.status)
		return answer(r, 201, w.End().Bytes())
	case len(parts) == 0:
		return wrongMethod(r, "POST")
	case parts[0] != "executions" || len(parts) > 3 || len(parts) == 3 && parts[2] != "cancel":
		return fail(r, 404, "there is nothing at this path")
	case len(parts) == 3 && method != "POST":
		return wrongMethod(r, "POST")
	case len(parts) < 3 && method != "GET":
		return wrongMethod(r, "GET")
	case len(parts) == 1:
		return listExecutions(r)
	}
	var x commandExecution
	var p *problem
	if len(parts) == 3 {
		x, p = cancelCommand(r, parts[1])
	} else if found, ok := loadExecution(r, parts[1]); ok {
		x = found
	} else {
		p = &problem{404, "there is no execution " + parts[1]}
	}
	if p != nil {
		return fail(r, p.code, p.message)
	}
	var w sdk.Writer
	x.write(&w)
	return answer(r, 200, w.Bytes())
}

// jobsPath answers /api/v1/jobs….
func jobsPath(r *call, parts []string) error {
	method := r.Transport.Method
	switch {
	case len(parts) == 0 && method == "GET":
		return listJobs(r)
	case len(parts) == 0 && method == "POST":
		v, ok := body(r)
		if !ok {
			return nil
		}
		j, p := createJob(r, v)
		if p != nil {
			return fail(r, p.code, p.message)
		}
		var w sdk.Writer
		return answer(r, 201, w.Object().Key("jobId").String(j.id).End().Bytes())
	case len(parts) == 0:
		return wrongMethod(r, "GET, POST")
	case len(parts) == 1 && method == "GET":
		return showJob(r, parts[0])
	case len(parts) == 1 && method == "DELETE":
		return deleteJob(r, parts[0])
	case len(parts) == 1:
		return wrongMethod(r, "GET, DELETE")
	case len(parts) == 2 && parts[1] == "executions":
		if method != "GET" {
			return wrongMethod(r, "GET")
		}
		return showExecutions(r, parts[0])
	case len(parts) == 2 && parts[1] == "cancel":
		if method != "POST" {
			return wrongMethod(r, "POST")
		}
		force, _ := r.JSON("force").Bool()
		j, p := cancelJob(r, parts[0], force || query(r, "force") == "true", statusCanceled, statusCanceled)
		if p != nil {
			return fail(r, p.code, p.message)
		}
		var w sdk.Writer
		j.write(&w)
		return answer(r, 200, w.Bytes())
	}
	return fail(r, 404, "there is nothing at this path")
}

func showJob(r *call, id string) error {
	j, ok := loadJob(r, id)
	if !ok {
		return fail(r, 404, "there is no job "+id)
	}
	var w sdk.Writer
	j.write(&w)
	return answer(r, 200, w.Bytes())
}

// deleteJob removes a job and ends what is left of it.
func deleteJob(r *call, id string) error {
	j, p := cancelJob(r, id, query(r, "force") == "true", jobDeleted, jobRemoved)
	if p != nil {
		return fail(r, p.code, p.message)
	}
	for _, thing := range j.targets {
		r.Delete(executionKey(thing, id))
	}
	r.Delete(jobKey(id))
	r.Delete(jobByTimeKey(&j))
	return answer(r, 204, nil)
}

func showExecutions(r *call, id string) error {
	j, ok := loadJob(r, id)
	if !ok {
		return fail(r, 404, "there is no job "+id)
	}
	status, ok := choice(r, "status", jobQueued, jobInProgress, statusSucceeded, statusFailed, statusRejected, statusTimedOut, statusCanceled,
		jobRemoved)
	if !ok {
		return nil
	}
	var w sdk.Writer
	w.Object().Key("executions").Array()
	for _, thing := range j.targets {
		if x, ok := loadJobExecution(r, thing, id); ok && (status == "" || x.status == status) {
			x.write(&w, sdk.Value{})
		}
	}
	return answer(r, 200, w.End().End().Bytes())
}
