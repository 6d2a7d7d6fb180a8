package main

import (
	"slices"
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// Statuses of a job and of its executions, one for each thing.
const (
	jobQueued     = "QUEUED"
	jobInProgress = "IN_PROGRESS"
	jobRemoved    = "REMOVED"
	jobCompleted  = "COMPLETED"
	jobDeleted    = "DELETION_IN_PROGRESS"
	// The others are those of commands: SUCCEEDED, FAILED, REJECTED, TIMED_OUT, CANCELED.
)

// Types of a job.
const (
	jobSnapshot   = "SNAPSHOT"
	jobContinuous = "CONTINUOUS" // things that join its groups later get it, too
)

// job is one key of the state; its executions are keys of their own.
type job struct {
	id, name, description string
	continuous            bool
	status                string
	targets               []string // things that have an execution
	groups                []string
	document              sdk.Value
	created, updated      int64 // s
	open                  int64 // executions that have not ended
	minutes               int64 // an execution in progress may take; 0: any time
	retries               int64 // attempts after the first that failed or timed out
}

const (
	maxTargets  = 1000     // things of one job: an event may read 4096 keys, and each needs three
	maxGroups   = 16       // of one job: an event may make 64 calls to scan, and each group needs two or more
	maxDocument = 32 << 10 // bytes
	maxRetries  = 10
	maxMinutes  = 7 * 24 * 60 // one week
)

func loadJob(r *call, id string) (j job, ok bool) {
	text, ok := r.State(jobKey(id))
	if !ok {
		return j, false
	}
	return parseJob(text), true
}

func parseJob(text []byte) (j job) {
	v := sdk.ParseJSON(text)
	j.id, _ = v.Get("jobId").String()
	j.name, _ = v.Get("name").String()
	j.description, _ = v.Get("description").String()
	kind, _ := v.Get("jobType").String()
	j.continuous = kind == jobContinuous
	j.status, _ = v.Get("status").String()
	j.targets, j.groups = texts(v.Get("targets", "thingNames")), texts(v.Get("targets", "thingGroupNames"))
	j.document = v.Get("document")
	j.created, _ = v.Get("createdAt").Int()
	j.updated, _ = v.Get("lastUpdatedAt").Int()
	j.open, _ = v.Get("openExecutions").Int()
	j.minutes, _ = v.Get("inProgressTimeoutInMinutes").Int()
	j.retries, _ = v.Get("numberOfRetries").Int()
	return j
}

func texts(list sdk.Value) (out []string) {
	for v := range list.Elements() {
		s, _ := v.String()
		out = append(out, s)
	}
	return out
}

func writeTexts(w *sdk.Writer, list []string) {
	w.Array()
	for _, s := range list {
		w.String(s)
	}
	w.End()
}

func (j *job) kind() string {
	if j.continuous {
		return jobContinuous
	}
	return jobSnapshot
}

func (j *job) write(w *sdk.Writer) {
	w.Object().Key("jobId").String(j.id)
	if j.name != "" {
		w.Key("name").String(j.name)
	}
	if j.description != "" {
		w.Key("description").String(j.description)
	}
	w.Key("jobType").String(j.kind()).Key("status").String(j.status).Key("targets").Object()
	writeTexts(w.Key("thingNames"), j.targets)
	writeTexts(w.Key("thingGroupNames"), j.groups)
	w.End().Field("document", j.document).Key("createdAt").Int(j.created).Key("lastUpdatedAt").Int(j.updated).Key("openExecutions").Int(j.open)
	if j.minutes != 0 {
		w.Key("inProgressTimeoutInMinutes").Int(j.minutes)
	}
	if j.retries != 0 {
		w.Key("numberOfRetries").Int(j.retries)
	}
	w.End()
}

// store writes a job and tells the application if its status is new.
func (j *job) store(r *call, changed bool) {
	j.updated = seconds(r)
	var w sdk.Writer
	j.write(&w)
	r.Put(jobKey(j.id), w.Bytes(), 0)
	if changed {
		emit(r, "", "job.v1", j.status, w.Bytes())
	}
}

// documentOf is the document of a job.
func documentOf(r *call, id string) sdk.Value {
	j, _ := loadJob(r, id)
	return j.document
}

// createJob makes a job out of a request's body and queues it for its things.
func createJob(r *call, body sdk.Value) (job, *problem) {
	j := job{status: jobInProgress, document: body.Get("document"), created: seconds(r)}
	if p := j.read(body); p != nil {
		return j, p
	}
	for _, group := range j.groups {
		for _, name := range members(r, group) {
			if !slices.Contains(j.targets, name) {
				j.targets = append(j.targets, name)
			}
		}
	}
	switch {
	case len(j.targets) == 0 && !j.continuous:
		return j, &problem{400, "targets name no thing"}
	case len(j.targets) > maxTargets:
		return j, &problem{422, "a job has at most 1000 things; make several jobs"}
	}
	for _, thing := range j.targets { // before anything is queued: all of them get it, or none
		if queueFull(r, thing) {
			return j, &problem{429, "the queue of the thing " + thing + " is full"}
		}
	}
	j.id = uuid()
	for _, thing := range j.targets {
		enqueue(r, &j, thing)
	}
	for _, group := range j.groups {
		if j.continuous {
			r.Put(continuousKey(group, j.id), nil, 0)
		}
	}
	r.Put(jobByTimeKey(&j), []byte(j.id), 0)
	j.store(r, true)
	return j, nil
}

// read checks the members of a new job.
func (j *job) read(body sdk.Value) *problem {
	kind, ok := body.Get("jobType").String()
	targets := body.Get("targets")
	number := func(name string, least, most int64, at *int64) bool {
		v := body.Get(name)
		if !v.Exists() {
			return true
		}
		n, ok := v.Int()
		*at = n
		return ok && n >= least && n <= most
	}
	j.name, _ = body.Get("name").String()
	j.description, _ = body.Get("description").String()
	j.continuous = kind == jobContinuous
	switch {
	case body.Kind() != sdk.Object:
		return &problem{400, "Invalid JSON"}
	case body.Get("jobType").Exists() && (!ok || kind != jobSnapshot && kind != jobContinuous):
		return &problem{400, "jobType must be SNAPSHOT or CONTINUOUS"}
	case j.document.Kind() != sdk.Object:
		return &problem{400, "document must be an object"}
	case len(j.document.Raw()) > maxDocument:
		return &problem{413, "the document is longer than 32 KB"}
	case targets.Kind() != sdk.Object:
		return &problem{400, "targets must be an object with thingNames or thingGroupNames"}
	case !number("inProgressTimeoutInMinutes", 1, maxMinutes, &j.minutes):
		return &problem{400, "inProgressTimeoutInMinutes must be from 1 to 10080"}
	case !number("numberOfRetries", 0, maxRetries, &j.retries):
		return &problem{400, "numberOfRetries must be from 0 to 10"}
	}
	for _, name := range texts(targets.Get("thingNames")) {
		if !validName(name) {
			return &problem{400, "thingNames must be names of things"}
		}
		if !slices.Contains(j.targets, name) {
			j.targets = append(j.targets, name)
		}
	}
	for _, name := range texts(targets.Get("thingGroupNames")) {
		if !validName(name) {
			return &problem{400, "thingGroupNames must be names of groups"}
		}
		if !slices.Contains(j.groups, name) {
			j.groups = append(j.groups, name)
		}
	}
	if len(j.groups) > maxGroups {
		return &problem{422, "a job has at most 16 groups; make several jobs"}
	}
	return nil
}

// validName says whether a name can be a device's in the gateway: a level of a topic, an
// attribute of an event (no control characters), and a part of a URL, where a dot or two
// stand for a place.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 128 && !strings.ContainsAny(name, "/+#") && event.ValidString(name)
}

// queueFull says whether a thing's queue takes no more.
func queueFull(r *call, thing string) bool { return len(loadQueue(r, thing)) >= maxQueue }

// enqueue queues the first attempt of a job for a thing.
func enqueue(r *call, j *job, thing string) {
	x := jobExecution{job: j.id, thing: thing, status: jobQueued, queued: seconds(r), version: 1, number: 1}
	x.store(r, j.document)
	j.open++
}

// cancelJob ends a job and all its executions. Those in progress end too when
// force is set; else the job stays as it is when there are any.
func cancelJob(r *call, id string, force bool, status, end string) (job, *problem) {
	j, ok := loadJob(r, id)
	switch {
	case !ok:
		return j, &problem{404, "there is no job " + id}
	case j.status != jobInProgress && end == statusCanceled:
		return j, &problem{409, "the job has ended as " + j.status}
	}
	var open []jobExecution
	for _, thing := range j.targets {
		x, ok := loadJobExecution(r, thing, id)
		if !ok || x.ended() {
			continue
		}
		if x.status == jobInProgress && !force {
			return j, &problem{409, "an execution is in progress on " + thing + "; cancel with force=true to end it"}
		}
		open = append(open, x)
	}
	for i := range open {
		x := &open[i]
		x.status, x.version = end, x.version+1
		x.store(r, j.document)
	}
	for _, group := range j.groups {
		if j.continuous {
			r.Delete(continuousKey(group, id))
		}
	}
	j.open, j.status = 0, status
	j.store(r, true)
	return j, nil
}

// joining are the continuous jobs that a thing gets when it joins a group: all of
// them, or it cannot join.
func joining(r *call, group, thing string) (jobs []job, p *problem) {
	for _, id := range continuousJobs(r, group) {
		j, ok := loadJob(r, id)
		switch {
		case !ok || slices.Contains(j.targets, thing):
			continue
		case len(j.targets) >= maxTargets:
			return nil, &problem{422, "the job " + id + " of the group " + group + " has 1000 things already; cancel it and make another one first"}
		}
		jobs = append(jobs, j)
		if len(loadQueue(r, thing))+len(jobs) > maxQueue {
			return nil, &problem{429, "the queue of the thing " + thing + " has no room for the jobs of the group " + group}
		}
	}
	return jobs, nil
}
