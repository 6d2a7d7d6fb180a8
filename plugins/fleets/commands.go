package main

import (
	"bytes"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// A command's execution is one key of the state. SENT is its only status that changes; any
// other is final.
type commandExecution struct {
	id, command   string
	thing, action string
	params        sdk.Value
	ttl           int64 // s
	status        string
	sent, updated int64 // ms
	result        sdk.Value
	late          sdk.Value // an answer that came after the end
}

const (
	statusSent      = "SENT"
	statusSucceeded = "SUCCEEDED"
	statusFailed    = "FAILED"
	statusRejected  = "REJECTED"
	statusTimedOut  = "TIMED_OUT"
	statusCanceled  = "CANCELED"
)

const (
	defaultTTL, minTTL, maxTTL = 30, 1, 3600 // s
	// executionTTL is how long an execution can be read after its last change.
	executionTTL = 30 * 24 * hour
	maxParams    = 64 << 10 // bytes
)

func loadExecution(r *call, id string) (x commandExecution, ok bool) {
	text, ok := r.State(commandKey(id))
	if !ok {
		return x, false
	}
	return parseExecution(text), true
}

func parseExecution(text []byte) (x commandExecution) {
	v := sdk.ParseJSON(text)
	x.id, _ = v.Get("executionId").String()
	x.command, _ = v.Get("commandId").String()
	x.thing, _ = v.Get("thingName").String()
	x.action, _ = v.Get("action").String()
	x.params = v.Get("params")
	x.ttl, _ = v.Get("ttl").Int()
	x.status, _ = v.Get("status").String()
	x.sent, _ = v.Get("sentAt").Int()
	x.updated, _ = v.Get("lastUpdatedAt").Int()
	x.result, x.late = v.Get("result"), v.Get("lateResponse")
	return x
}

func (x *commandExecution) write(w *sdk.Writer) {
	w.Object().Key("executionId").String(x.id).Key("commandId").String(x.command).Key("thingName").String(x.thing).
		Key("action").String(x.action).Field("params", x.params).Key("ttl").Int(x.ttl).Key("status").String(x.status).
		Key("sentAt").Int(x.sent).Key("lastUpdatedAt").Int(x.updated).
		Field("result", x.result).Field("lateResponse", x.late).End()
}

// store writes an execution and tells the application of it.
func (x *commandExecution) store(r *call) {
	var w sdk.Writer
	x.write(&w)
	r.Put(commandKey(x.id), w.Bytes(), executionTTL)
	emit(r, x.thing, "command.v1", x.status, w.Bytes())
}

func (x *commandExecution) topic(last string) string {
	return commands + x.thing + "/executions/" + x.id + "/" + last
}

// sendCommand begins an execution.
func sendCommand(r *call, thing, action string, params, ttl sdk.Value) (commandExecution, *problem) {
	x := commandExecution{thing: thing, action: action, params: params, ttl: defaultTTL, status: statusSent}
	if ttl.Exists() {
		var ok bool
		if x.ttl, ok = ttl.Int(); !ok || x.ttl < minTTL || x.ttl > maxTTL {
			return x, &problem{400, "ttl must be a whole number of seconds from 1 to 3600"}
		}
	}
	switch {
	case action == "":
		return x, &problem{400, "action must be a text that is not empty"}
	case params.Exists() && params.Kind() != sdk.Object:
		return x, &problem{400, "params must be an object"}
	case len(params.Raw()) > maxParams:
		return x, &problem{413, "params are longer than 64 KB"}
	}
	x.id, x.command = uuid(), uuid()
	x.sent = r.Now.UnixMilli()
	x.updated = x.sent
	x.store(r)
	r.Put(commandByTimeKey(&x), []byte(x.id), executionTTL)
	var w sdk.Writer
	w.Object().Key("commandId").String(x.command).Key("action").String(action)
	if params.Exists() {
		w.Field("params", params)
	} else {
		w.Key("params").Object().End()
	}
	w.Key("timestamp").Int(seconds(r)).Key("ttl").Int(x.ttl).End()
	lifetime := time.Duration(x.ttl) * time.Second
	// A persistent session must not hand out a command that is over.
	r.Publish(event.Publish{Topics: []string{x.topic("request")}, Device: thing, Payload: w.Bytes(), QoS: 1, ContentType: "application/json",
		Expiry: lifetime})
	var data sdk.Writer
	r.Do(&event.SetTimer{Key: commandKey(x.id), At: r.Now.Add(lifetime),
		Data: data.Object().Key("kind").String("command").Key("id").String(x.id).End().Bytes()})
	return x, nil
}

// commandResponse handles a device's answer to a command.
func commandResponse(r *call, thing, id string) error {
	x, ok := loadExecution(r, id)
	if !ok || x.thing != thing {
		r.Reply(event.ImplementationSpecificError, "there is no such execution of this thing")
		return nil
	}
	status, _ := r.JSON("status").String()
	result := r.JSON("result")
	switch status {
	case statusSucceeded, statusFailed, statusRejected, statusTimedOut, statusCanceled:
	default:
		return sdk.Permanent("status must be SUCCEEDED, FAILED, REJECTED, TIMED_OUT or CANCELED")
	}
	if result.Exists() && result.Kind() != sdk.Object {
		return sdk.Permanent("result must be an object")
	}
	if x.answeredSo(status, result) {
		return nil // the device says again what got no PUBACK
	}
	x.updated = r.Now.UnixMilli()
	if x.status != statusSent {
		var w sdk.Writer
		w.Object().Key("status").String(status).Field("result", result).Key("timestamp").Int(seconds(r)).End()
		x.late = sdk.ParseJSON(w.Bytes())
		x.store(r)
		return nil
	}
	x.status, x.result = status, result
	x.store(r)
	r.Do(&event.CancelTimer{Key: commandKey(id)})
	return nil
}

// answeredSo says whether the device gave this answer before, as the answer or a
// late one. TIMED_OUT and CANCELED can also have come without it.
func (x *commandExecution) answeredSo(status string, result sdk.Value) bool {
	if status == x.status && status != statusTimedOut && status != statusCanceled {
		return bytes.Equal(x.result.Raw(), result.Raw())
	}
	late, _ := x.late.Get("status").String()
	return status == late && bytes.Equal(x.late.Get("result").Raw(), result.Raw())
}

// commandDue ends an execution that was not answered in time.
func commandDue(r *call, id string) error {
	x, ok := loadExecution(r, id)
	if !ok || x.status != statusSent {
		return nil // it ended while the timer was under way
	}
	x.status, x.updated = statusTimedOut, r.Now.UnixMilli()
	x.store(r)
	return nil
}

// cancelCommand ends an execution at the operator's wish.
func cancelCommand(r *call, id string) (commandExecution, *problem) {
	x, ok := loadExecution(r, id)
	switch {
	case !ok:
		return x, &problem{404, "there is no execution " + id}
	case x.status != statusSent:
		return x, &problem{409, "the execution has ended as " + x.status}
	}
	x.status, x.updated = statusCanceled, r.Now.UnixMilli()
	x.store(r)
	r.Do(&event.CancelTimer{Key: commandKey(id)})
	return x, nil
}

// command handles a command that an application publishes to
// command/<application>/<thing>/<action>, with its params as the payload. The
// device hears the same as after a REST call.
func command(r *call) error {
	params := sdk.Value{}
	if len(r.Event.Data) > 0 {
		if params = r.JSON(); params.Kind() != sdk.Object {
			return sdk.Permanent("the payload of a command must be a JSON object, its params, or empty")
		}
	}
	x, p := sendCommand(r, r.Event.Device, r.Event.Subject, params, sdk.Value{})
	if p != nil {
		return sdk.Permanent(p.message)
	}
	var w sdk.Writer
	w.Object().Key("commandId").String(x.command).Key("executionId").String(x.id).Key("status").String(x.status).End()
	r.Do(&event.Reply{Payload: w.Bytes()})
	return nil
}
