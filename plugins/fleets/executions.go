package main

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// jobExecution is what a thing does of a job. It is one key of the state.
type jobExecution struct {
	job, thing      string
	status          string
	details         sdk.Value // statusDetails
	queued, started int64     // s
	updated         int64     // s
	version, number int64     // number counts the attempts
	step            int64     // when the step has to be done, s; 0: no such time
	end             int64     // when the whole has to be done, s
}

func jobExecutionKey(thing, job string) string { return "execution/" + thing + "/" + job }

func loadJobExecution(r *call, thing, job string) (x jobExecution, ok bool) {
	text, ok := r.State(jobExecutionKey(thing, job))
	if !ok {
		return x, false
	}
	v := sdk.ParseJSON(text)
	x.job, x.thing = job, thing
	x.status, _ = v.Get("status").String()
	x.details = v.Get("statusDetails")
	x.queued, _ = v.Get("queuedAt").Int()
	x.started, _ = v.Get("startedAt").Int()
	x.updated, _ = v.Get("lastUpdatedAt").Int()
	x.version, _ = v.Get("versionNumber").Int()
	x.number, _ = v.Get("executionNumber").Int()
	x.step, _ = v.Get("stepDueAt").Int()
	x.end, _ = v.Get("dueAt").Int()
	return x, true
}

func (x *jobExecution) ended() bool { return x.status != jobQueued && x.status != jobInProgress }

// write writes an execution as devices see it; a missing document is left out.
func (x *jobExecution) write(w *sdk.Writer, document sdk.Value) {
	w.Object()
	x.fields(w)
	w.Field("jobDocument", document).End()
}

func (x *jobExecution) fields(w *sdk.Writer) {
	w.Key("jobId").String(x.job).Key("thingName").String(x.thing).Key("status").String(x.status).Key("statusDetails")
	if x.details.Exists() {
		w.Raw(x.details.Raw())
	} else {
		w.Object().End()
	}
	w.Key("queuedAt").Int(x.queued)
	if x.started != 0 {
		w.Key("startedAt").Int(x.started)
	}
	w.Key("lastUpdatedAt").Int(x.updated).Key("versionNumber").Int(x.version).Key("executionNumber").Int(x.number)
}

// store writes an execution, its place in the thing's queue and its timer, and
// tells the device and the application.
func (x *jobExecution) store(r *call, document sdk.Value) {
	x.updated = seconds(r)
	if x.ended() {
		x.step, x.end = 0, 0
	}
	var w sdk.Writer
	w.Object()
	x.fields(&w)
	if x.step != 0 {
		w.Key("stepDueAt").Int(x.step)
	}
	if x.end != 0 {
		w.Key("dueAt").Int(x.end)
	}
	w.End()
	r.Put(jobExecutionKey(x.thing, x.job), w.Bytes(), 0)
	requeue(r, x, document)
	if due := x.due(); due != 0 {
		var data sdk.Writer
		data.Object().Key("kind").String("job").Key("thing").String(x.thing).Key("job").String(x.job).End()
		r.Do(&event.SetTimer{Key: jobExecutionKey(x.thing, x.job), At: time.Unix(due, 0), Data: data.Bytes()})
	} else {
		r.Do(&event.CancelTimer{Key: jobExecutionKey(x.thing, x.job)})
	}
	var told sdk.Writer
	told.Object()
	x.fields(&told)
	emit(r, x.thing, "execution.v1", x.status, told.End().Bytes())
}

// due is when an execution times out; 0 is never. A step never outlives the whole.
func (x *jobExecution) due() int64 {
	if x.status != jobInProgress {
		return 0
	}
	if x.step == 0 || x.end != 0 && x.end < x.step {
		return x.end
	}
	return x.step
}

// refusal is why a job request is refused, in AWS's words.
type refusal struct {
	code, message string
	state         *jobExecution // shown where the device has to know it
}

// status is the HTTP status that says the same.
func (f *refusal) status() int {
	switch f.code {
	case "ResourceNotFound":
		return 404
	case "VersionMismatch", "InvalidStateTransition", "TerminalStateReached":
		return 409
	case "InternalError":
		return 500
	}
	return 400
}

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
		reply(r, "/rejected", jobRejected(r, f))
		return nil
	}
	reply(r, "/accepted", answer)
	return nil
}

// jobVerb is what MQTT and REST have in common: it checks the body and does what
// is asked.
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
	w.Object().Key("code").String(f.code).Key("message").String(f.message).Key("timestamp").Int(seconds(r)).Field("clientToken", r.JSON("clientToken"))
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
	x, ok := loadJobExecution(r, thing, id)
	if !ok {
		return nil, &refusal{code: "ResourceNotFound", message: "there is no job " + id + " for this thing"}
	}
	if number := r.JSON("executionNumber"); number.Exists() {
		if n, ok := number.Int(); !ok || n != x.number {
			return nil, &refusal{code: "ResourceNotFound", message: "this attempt of the job is not the present one"}
		}
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

// settle stores an execution whose status is new. One that failed or timed out is
// queued again where its job has attempts left; the job ends with its last one.
func (x *jobExecution) settle(r *call, j *job) {
	if !x.ended() {
		x.store(r, j.document)
		return
	}
	if (x.status == statusFailed || x.status == statusTimedOut) && x.number <= j.retries {
		var told sdk.Writer // the attempt that ended
		told.Object()
		x.fields(&told)
		emit(r, x.thing, "execution.v1", x.status, told.End().Bytes())
		again := jobExecution{job: x.job, thing: x.thing, status: jobQueued, queued: seconds(r), version: x.version + 1, number: x.number + 1}
		again.store(r, j.document)
		return
	}
	x.store(r, j.document)
	if j.id == "" { // it was deleted
		return
	}
	j.open--
	done := j.open == 0 && !j.continuous && j.status == jobInProgress
	if done {
		j.status = jobCompleted
	}
	j.store(r, done)
}

// executionDue ends an execution that took too long.
func executionDue(r *call, thing, id string) error {
	x, ok := loadJobExecution(r, thing, id)
	if !ok || x.due() == 0 || x.due() > seconds(r) {
		return nil // it ended, or got more time, while the timer was under way
	}
	j, _ := loadJob(r, id)
	x.status, x.version = statusTimedOut, x.version+1
	x.settle(r, &j)
	return nil
}
