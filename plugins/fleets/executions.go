package main

import (
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// jobExecution is the execution of a job by a thing. It is one key of the state.
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

func loadJobExecution(r *call, thing, job string) (x jobExecution, ok bool) {
	text, ok := r.State(executionKey(thing, job))
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
	r.Put(executionKey(x.thing, x.job), w.Bytes(), 0)
	requeue(r, x, document)
	if due := x.due(); due != 0 {
		var data sdk.Writer
		data.Object().Key("kind").String("job").Key("thing").String(x.thing).Key("job").String(x.job).End()
		r.Do(&event.SetTimer{Key: executionKey(x.thing, x.job), At: time.Unix(due, 0), Data: data.Bytes()})
	} else {
		r.Do(&event.CancelTimer{Key: executionKey(x.thing, x.job)})
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

// settle stores an execution whose status is new. One that failed or timed out is queued again
// if its job has attempts left. The job ends with its last execution.
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
