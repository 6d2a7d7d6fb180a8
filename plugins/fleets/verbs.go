package main

import (
	"cmp"
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// jobsTopic handles <thing>/jobs/….
func jobsTopic(r *call, thing, rest string) error {
	var answer []byte
	var f *refusal
	id, verb, _ := strings.Cut(rest, "/")
	switch {
	case rest == "get", rest == "start-next":
		answer, f = jobVerb(r, thing, "", rest)
	case verb == "get", verb == "update":
		answer, f = jobVerb(r, thing, id, verb)
	default:
		f = &refusal{code: "InvalidTopic", message: "Fleets has no such topic for jobs"}
	}
	if f != nil {
		replyToThing(r, "/rejected", jobRejected(r, f))
		return nil
	}
	replyToThing(r, "/accepted", answer)
	return nil
}

// jobVerb is the part that MQTT and REST have in common: it checks the body and does what is
// asked.
func jobVerb(r *call, thing, id, verb string) ([]byte, *refusal) {
	if len(r.Event.Data) > 0 && r.JSON().Kind() != sdk.Object {
		return nil, &refusal{code: "InvalidJson", message: "the payload is no JSON object"}
	}
	if token := r.JSON("clientToken"); token.Exists() {
		if text, ok := token.String(); !ok || len(text) > maxToken {
			return nil, invalid("clientToken must be a text of at most 64 bytes")
		}
	}
	if name := r.JSON("thingName"); name.Exists() {
		if text, _ := name.String(); text != thing {
			return nil, invalid("thingName is not that of the topic")
		}
	}
	if id != "" {
		resolved, ok := resolveJob(r, thing, id)
		if !ok {
			return nil, &refusal{code: "ResourceNotFound", message: "there is no job " + id + " for this thing"}
		}
		id = resolved
	}
	switch {
	case verb == "get" && id == "":
		return pendingJobs(r, thing), nil
	case verb == "get":
		return describeJob(r, thing, id)
	case verb == "update":
		return updateJob(r, thing, id)
	}
	return startNext(r, thing)
}

func invalid(message string) *refusal { return &refusal{code: "InvalidRequest", message: message} }

// resolveJob turns $next into the id of the next job.
func resolveJob(r *call, thing, id string) (string, bool) {
	if id != "$next" {
		return id, true
	}
	if next := loadQueue(r, thing).next(); next != nil {
		return next.job, true
	}
	return "", false
}

func jobRejected(r *call, f *refusal) []byte {
	var w sdk.Writer
	w.Object().Key("code").String(f.code).Key("message").String(f.message).Key("timestamp").Int(seconds(r)).Field("clientToken",
		r.JSON("clientToken"))
	if f.state != nil {
		f.state.write(w.Key("executionState"), sdk.Value{})
	}
	return w.End().Bytes()
}

// answered ends the payload of an accepted request.
func answered(r *call, w *sdk.Writer) []byte {
	return w.Key("timestamp").Int(seconds(r)).Field("clientToken", r.JSON("clientToken")).End().Bytes()
}

// pendingJobs is the payload of jobs/get/accepted.
func pendingJobs(r *call, thing string) []byte {
	q := loadQueue(r, thing)
	var w sdk.Writer
	q.list(w.Object().Key("inProgressJobs"), jobInProgress)
	q.list(w.Key("queuedJobs"), jobQueued)
	return answered(r, &w)
}

// describeJob is the payload of jobs/<id>/get/accepted. An execution that has ended
// is described by REST alone, as in AWS.
func describeJob(r *call, thing, id string) ([]byte, *refusal) {
	attempt, named, f := number(r, "executionNumber")
	if f != nil {
		return nil, f
	}
	x, ok := loadJobExecution(r, thing, id)
	if !ok {
		return nil, &refusal{code: "ResourceNotFound", message: "there is no job " + id + " for this thing"}
	}
	if named && attempt != x.number {
		return nil, &refusal{code: "ResourceNotFound", message: "this attempt of the job is not the present one"}
	}
	if x.ended() {
		return nil, &refusal{code: "TerminalStateReached", message: "the execution has ended as " + x.status}
	}
	var document sdk.Value
	if include, ok := r.JSON("includeJobDocument").Bool(); include || !ok {
		document = documentOf(r, id)
	}
	var w sdk.Writer
	x.write(w.Object().Key("execution"), document)
	return answered(r, &w), nil
}

// startNext starts the next execution. One that is in progress is returned as it is.
func startNext(r *call, thing string) ([]byte, *refusal) {
	step, f := stepMinutes(r)
	if f != nil {
		return nil, f
	}
	details := r.JSON("statusDetails")
	if details.Exists() && details.Kind() != sdk.Object {
		return nil, invalid("statusDetails must be an object")
	}
	var w sdk.Writer
	w.Object()
	next := loadQueue(r, thing).next()
	if next == nil {
		return answered(r, &w), nil
	}
	x, ok := loadJobExecution(r, thing, next.job)
	if !ok {
		return nil, &refusal{code: "InternalError", message: "the queue names an execution that does not exist"}
	}
	j, _ := loadJob(r, next.job)
	if x.status == jobQueued {
		x.status, x.started, x.version, x.details = jobInProgress, seconds(r), x.version+1, details
		x.limit(r, step, j.minutes)
		x.store(r, j.document)
	}
	x.write(w.Key("execution"), j.document)
	return answered(r, &w), nil
}

// limit sets when an execution that goes on times out.
func (x *jobExecution) limit(r *call, step, whole int64) {
	if step > 0 {
		x.step = seconds(r) + step*60
	}
	if x.end == 0 && whole > 0 {
		x.end = seconds(r) + whole*60
	}
}

// stepMinutes reads stepTimeoutInMinutes; 0 is none.
func stepMinutes(r *call) (int64, *refusal) {
	v := r.JSON("stepTimeoutInMinutes")
	if !v.Exists() {
		return 0, nil
	}
	n, ok := v.Int()
	if !ok || n < 1 || n > maxMinutes {
		return 0, invalid("stepTimeoutInMinutes must be from 1 to " + strconv.Itoa(maxMinutes))
	}
	return n, nil
}

// number reads a version or the number of an attempt, if there is one. Some clients, such as
// AWS's own in C, send them as text.
func number(r *call, member string) (n int64, given bool, f *refusal) {
	v := r.JSON(member)
	if !v.Exists() {
		return 0, false, nil
	}
	n, ok := v.Int()
	switch v.Kind() {
	case sdk.Number:
	case sdk.String:
		text, _ := v.String()
		var err error
		n, err = strconv.ParseInt(text, 10, 64)
		ok = err == nil
	default:
		ok = false
	}
	if !ok {
		return 0, true, invalid(member + " must be an integer")
	}
	return n, true, nil
}

// updateJob takes a device's word on how its execution stands.
func updateJob(r *call, thing, id string) ([]byte, *refusal) {
	step, f := stepMinutes(r)
	status, _ := r.JSON("status").String()
	details := r.JSON("statusDetails")
	expected, checked, f1 := number(r, "expectedVersion")
	attempt, named, f2 := number(r, "executionNumber")
	x, ok := loadJobExecution(r, thing, id)
	switch {
	case f != nil || f1 != nil || f2 != nil:
		return nil, cmp.Or(f, f1, f2)
	case status != jobInProgress && status != statusSucceeded && status != statusFailed && status != statusRejected:
		return nil, invalid("status must be IN_PROGRESS, SUCCEEDED, FAILED or REJECTED")
	case details.Exists() && details.Kind() != sdk.Object:
		return nil, invalid("statusDetails must be an object")
	case !ok:
		return nil, &refusal{code: "ResourceNotFound", message: "there is no job " + id + " for this thing"}
	}
	if checked && expected != x.version {
		return nil, &refusal{"VersionMismatch", "the execution has version " + strconv.FormatInt(x.version, 10), &x}
	}
	if named && attempt > x.number {
		return nil, &refusal{code: "ResourceNotFound", message: "the execution is only at attempt " + strconv.FormatInt(x.number, 10)}
	}
	if named && attempt != x.number { // a late word on an attempt that is over
		return nil, &refusal{"InvalidStateTransition", "the execution is at attempt " + strconv.FormatInt(x.number, 10), &x}
	}
	if x.ended() {
		return nil, &refusal{"InvalidStateTransition", "the execution has ended as " + x.status, &x}
	}
	j, _ := loadJob(r, id)
	if details.Exists() {
		x.details = details
	}
	if x.started == 0 {
		x.started = seconds(r)
	}
	x.status, x.version = status, x.version+1
	x.limit(r, step, j.minutes)
	x.settle(r, &j)
	var w sdk.Writer
	w.Object()
	if include, _ := r.JSON("includeJobExecutionState").Bool(); include {
		x.write(w.Key("executionState"), sdk.Value{})
	}
	if include, _ := r.JSON("includeJobDocument").Bool(); include {
		w.Field("jobDocument", j.document)
	}
	return answered(r, &w), nil
}
