package main

import (
	"slices"

	sdk "tributary.io/sdk-plugin"
)

// The queue of a thing is one key: its executions that have not ended, in the
// order in which they were queued, with what lists and notifications show of them.
type jobQueue []queueEntry

type queueEntry struct {
	job             string
	status          string
	queued, started int64 // s
	updated         int64 // s
	number, version int64
}

// maxQueue bounds a thing's queue.
const maxQueue = 100

func loadQueue(r *call, thing string) (q jobQueue) {
	if q, ok := r.queues[thing]; ok {
		return q
	}
	text, _ := r.State(queueKey(thing))
	for v := range sdk.ParseJSON(text).Elements() {
		var e queueEntry
		e.job, _ = v.Get("jobId").String()
		e.status, _ = v.Get("status").String()
		e.queued, _ = v.Get("queuedAt").Int()
		e.started, _ = v.Get("startedAt").Int()
		e.updated, _ = v.Get("lastUpdatedAt").Int()
		e.number, _ = v.Get("executionNumber").Int()
		e.version, _ = v.Get("versionNumber").Int()
		q = append(q, e)
	}
	if r.queues == nil {
		r.queues = map[string]jobQueue{}
	}
	r.queues[thing] = q
	return q
}

func (e *queueEntry) write(w *sdk.Writer, withStatus bool) {
	w.Object().Key("jobId").String(e.job)
	if withStatus {
		w.Key("status").String(e.status)
	}
	w.Key("queuedAt").Int(e.queued)
	if e.started != 0 {
		w.Key("startedAt").Int(e.started)
	}
	w.Key("lastUpdatedAt").Int(e.updated).Key("executionNumber").Int(e.number).Key("versionNumber").Int(e.version).End()
}

// requeue stores the queue of a thing with one execution as it is now, and tells
// the device what is new: notify when the queue grew, or became or ceased to be
// empty; notify-next when another execution is next.
func requeue(r *call, x *jobExecution, document sdk.Value) {
	thing, before := x.thing, loadQueue(r, x.thing)
	after := before.with(x)
	r.queues[thing] = after
	if len(after) == 0 {
		r.Delete(queueKey(thing))
	} else {
		var w sdk.Writer
		w.Array()
		for i := range after {
			after[i].write(&w, true)
		}
		r.Put(queueKey(thing), w.End().Bytes(), 0)
	}
	if len(after) > len(before) || len(after) == 0 && len(before) > 0 {
		var w sdk.Writer
		w.Object().Key("timestamp").Int(seconds(r)).Key("jobs").Object()
		for _, status := range [...]string{jobQueued, jobInProgress} {
			if slices.ContainsFunc(after, func(e queueEntry) bool { return e.status == status }) {
				after.list(w.Key(status), status)
			}
		}
		sendToThing(r, thing, "jobs/notify", w.End().End().Bytes())
	}
	next := after.next()
	if was := before.next(); next != nil && (was == nil || was.job != next.job || was.number != next.number) || next == nil && was != nil {
		var w sdk.Writer
		w.Object().Key("timestamp").Int(seconds(r))
		switch {
		case next == nil:
		case next.job == x.job: // what is being stored cannot be read yet
			x.write(w.Key("execution"), document)
		default:
			if other, ok := loadJobExecution(r, thing, next.job); ok {
				other.write(w.Key("execution"), documentOf(r, next.job))
			}
		}
		sendToThing(r, thing, "jobs/notify-next", w.End().Bytes())
	}
}

// list writes the entries of a status as an array.
func (q jobQueue) list(w *sdk.Writer, status string) {
	w.Array()
	for i := range q {
		if q[i].status == status {
			q[i].write(w, false)
		}
	}
	w.End()
}

// next is the execution that a device should work on: the first in progress, else
// the first of all; nil when there is none.
func (q jobQueue) next() *queueEntry {
	for i := range q {
		if q[i].status == jobInProgress {
			return &q[i]
		}
	}
	if len(q) == 0 {
		return nil
	}
	return &q[0]
}

// with returns the queue with an execution as it is now: in its place, at the end
// when it is new, and not at all when it has ended.
func (q jobQueue) with(x *jobExecution) jobQueue {
	out := slices.Clone(q)
	i := slices.IndexFunc(out, func(e queueEntry) bool { return e.job == x.job })
	if x.ended() {
		if i >= 0 {
			out = slices.Delete(out, i, i+1)
		}
		return out
	}
	e := queueEntry{job: x.job, status: x.status, queued: x.queued, started: x.started, updated: x.updated, number: x.number,
		version: x.version}
	if i >= 0 && out[i].number == x.number {
		out[i] = e
		return out
	}
	if i >= 0 {
		out = slices.Delete(out, i, i+1) // another attempt goes to the end
	}
	return append(out, e)
}
