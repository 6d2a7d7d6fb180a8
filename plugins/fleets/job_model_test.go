package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model of jobs: a table of executions with the rules of the contract, and no
// idea of how the plugin stores them.

type modelExecution struct {
	status      string
	version     float64
	attempt     int
	step, whole time.Time // zero: none
	order       int       // of queueing
}

type modelJob struct {
	status     string
	retries    int
	minutes    int
	executions map[string]*modelExecution // by thing
}

type modelJobs struct {
	jobs  map[string]*modelJob
	ids   []string
	order int
}

func (m *modelJobs) pending(thing string) (ids []string) {
	for _, id := range m.ids {
		if x := m.jobs[id].executions[thing]; x != nil && (x.status == jobQueued || x.status == jobInProgress) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		return m.jobs[a].executions[thing].order - m.jobs[b].executions[thing].order
	})
	return ids
}

// next is what start-next returns: what is in progress before what is queued.
func (m *modelJobs) next(thing string) (id string) {
	pending := m.pending(thing)
	for _, id := range pending {
		if m.jobs[id].executions[thing].status == jobInProgress {
			return id
		}
	}
	if len(pending) > 0 {
		return pending[0]
	}
	return ""
}

// end ends an execution, or queues it anew.
func (m *modelJobs) end(id, thing, status string) {
	j := m.jobs[id]
	x := j.executions[thing]
	x.step, x.whole = time.Time{}, time.Time{}
	if (status == statusFailed || status == statusTimedOut) && x.attempt <= j.retries {
		m.order++
		x.status, x.attempt, x.order = jobQueued, x.attempt+1, m.order
		x.version++
		return
	}
	x.status = status
	for _, other := range j.executions {
		if other.status == jobQueued || other.status == jobInProgress {
			return
		}
	}
	if j.status == jobInProgress {
		j.status = jobCompleted
	}
}

func (x *modelExecution) due() time.Time {
	if x.status != jobInProgress {
		return time.Time{}
	}
	if x.step.IsZero() || !x.whole.IsZero() && x.whole.Before(x.step) {
		return x.whole
	}
	return x.step
}

func TestJobModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		m := &modelJobs{jobs: map[string]*modelJob{}}
		all := []string{"t1", "t2"}
		thing := func(t *rapid.T) string { return rapid.SampledFrom(all).Draw(t, "thing") }
		known := func(t *rapid.T) string {
			if len(m.ids) == 0 {
				t.Skip("no job yet")
			}
			return rapid.SampledFrom(m.ids).Draw(t, "job")
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				if len(m.ids) == 6 {
					t.Skip("enough")
				}
				j := &modelJob{status: jobInProgress, retries: rapid.IntRange(0, 2).Draw(t, "retries"),
					minutes: rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "minutes"), executions: map[string]*modelExecution{}}
				names := rapid.SampledFrom([][]string{{"t1"}, {"t2"}, {"t1", "t2"}}).Draw(t, "things")
				for _, name := range names {
					m.order++
					j.executions[name] = &modelExecution{status: jobQueued, version: 1, attempt: 1, order: m.order}
				}
				before := map[string]string{"t1": m.next("t1"), "t2": m.next("t2")}
				asked := map[string]any{"document": map[string]any{"n": len(m.ids)}, "targets": map[string]any{"thingNames": names},
					"numberOfRetries": j.retries}
				if j.minutes > 0 {
					asked["inProgressTimeoutInMinutes"] = j.minutes
				}
				status, body := w.request("POST", "/api/v1/jobs", asked)
				if status != 201 {
					t.Fatal(status, body)
				}
				id := body["jobId"].(string)
				m.jobs[id] = j
				m.ids = append(m.ids, id)
				for _, name := range all {
					queued := j.executions[name] != nil
					if (w.message(name, "jobs/notify") != nil) != queued || (w.message(name,
						"jobs/notify-next") != nil) != (m.next(name) != before[name]) {
						t.Fatalf("%s: notify %v, notify-next %v", name, w.message(name, "jobs/notify"), w.message(name, "jobs/notify-next"))
					}
				}
			},
			"start": func(t *rapid.T) {
				name := thing(t)
				body := map[string]any{"thingName": name}
				step := rapid.SampledFrom([]int{0, 1, 2, 9}).Draw(t, "step")
				if step > 0 {
					body["stepTimeoutInMinutes"] = step
				}
				w.publish(name, things+name+"/jobs/start-next", body)
				got := w.message(name, "jobs/start-next/accepted")
				id := m.next(name)
				if id == "" {
					if got["execution"] != nil {
						t.Fatal(got)
					}
					return
				}
				x := m.jobs[id].executions[name]
				if x.status == jobQueued {
					x.status = jobInProgress
					x.version++
					if step > 0 {
						x.step = w.now.Add(time.Duration(step) * time.Minute)
					}
					if minutes := m.jobs[id].minutes; minutes > 0 {
						x.whole = w.now.Add(time.Duration(minutes) * time.Minute)
					}
				}
				execution := got["execution"].(map[string]any)
				if execution["jobId"] != id || execution["versionNumber"] != x.version || execution["status"] != jobInProgress ||
					execution["jobDocument"] == nil {
					t.Fatalf("%v, want %s at %v", execution, id, x.version)
				}
			},
			"update": func(t *rapid.T) {
				name, id := thing(t), known(t)
				x := m.jobs[id].executions[name]
				status := rapid.SampledFrom([]string{jobInProgress, statusSucceeded, statusFailed, statusRejected, jobQueued}).Draw(t, "status")
				body := map[string]any{"status": status}
				expected := rapid.SampledFrom([]float64{-1, 0, 1}).Draw(t, "expected") // off the right one by one, or not
				if x != nil && rapid.Bool().Draw(t, "check") {
					body["expectedVersion"] = x.version + expected
				}
				step := rapid.SampledFrom([]int{0, 4}).Draw(t, "step")
				if step > 0 {
					body["stepTimeoutInMinutes"] = step
				}
				w.publish(name, things+name+"/jobs/"+id+"/update", body)
				rejected := w.message(name, "jobs/"+id+"/update/rejected")
				want := ""
				switch v, checked := body["expectedVersion"]; {
				case status == jobQueued:
					want = "InvalidRequest"
				case x == nil:
					want = "ResourceNotFound"
				case checked && v != x.version:
					want = "VersionMismatch"
				case x.status != jobQueued && x.status != jobInProgress:
					want = "InvalidStateTransition"
				}
				if want != "" {
					if rejected["code"] != want || len(w.emitted) > 0 {
						t.Fatalf("%v, want %s", rejected, want)
					}
					return
				}
				if rejected != nil || w.message(name, "jobs/"+id+"/update/accepted") == nil {
					t.Fatal(rejected)
				}
				x.version++
				if status != jobInProgress {
					m.end(id, name, status)
					return
				}
				x.status = jobInProgress
				if step > 0 {
					x.step = w.now.Add(time.Duration(step) * time.Minute)
				}
				if minutes := m.jobs[id].minutes; minutes > 0 && x.whole.IsZero() {
					x.whole = w.now.Add(time.Duration(minutes) * time.Minute)
				}
			},
			"cancel": func(t *rapid.T) {
				id, force := known(t), rapid.Bool().Draw(t, "force")
				j := m.jobs[id]
				busy := false
				for _, x := range j.executions {
					busy = busy || x.status == jobInProgress
				}
				status, body := w.request("POST", fmt.Sprintf("/api/v1/jobs/%s/cancel?force=%v", id, force), nil)
				if j.status != jobInProgress || busy && !force {
					if status != 409 {
						t.Fatal(status, body)
					}
					return
				}
				j.status = statusCanceled
				for _, x := range j.executions {
					if x.status == jobQueued || x.status == jobInProgress {
						x.status, x.step, x.whole = statusCanceled, time.Time{}, time.Time{}
						x.version++
					}
				}
			},
			"wait": func(t *rapid.T) {
				d := time.Duration(rapid.IntRange(1, 6).Draw(t, "minutes")) * time.Minute
				end := w.now.Add(d)
				w.advance(d)
				for {
					var first *modelExecution
					var at [2]string
					for _, id := range m.ids {
						for name, x := range m.jobs[id].executions {
							if due := x.due(); !due.IsZero() && !due.After(end) && (first == nil || due.Before(first.due())) {
								first, at = x, [2]string{id, name}
							}
						}
					}
					if first == nil {
						return
					}
					first.version++
					m.end(at[0], at[1], statusTimedOut)
				}
			},
			"": func(t *rapid.T) {
				for _, id := range m.ids {
					j := m.jobs[id]
					if _, body := w.request("GET", "/api/v1/jobs/"+id, nil); body["status"] != j.status {
						t.Fatalf("job %s is %v, want %s", id, body["status"], j.status)
					}
					_, body := w.request("GET", "/api/v1/jobs/"+id+"/executions", nil)
					for _, e := range body["executions"].([]any) {
						got := e.(map[string]any)
						x := j.executions[got["thingName"].(string)]
						if got["status"] != x.status || got["versionNumber"] != x.version || got["executionNumber"] != float64(x.attempt) {
							t.Fatalf("execution %v, want %+v", got, x)
						}
					}
				}
				for _, name := range all {
					w.publish(name, things+name+"/jobs/get", map[string]any{})
					got := w.message(name, "jobs/get/accepted")
					count := len(got["queuedJobs"].([]any)) + len(got["inProgressJobs"].([]any))
					if pending := m.pending(name); count != len(pending) {
						t.Fatalf("%s has %v, want %v", name, got, pending)
					}
				}
			},
		})
	})
}

// A command is SENT, then whatever came first, for ever.
func TestCommandModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		type execution struct {
			status, late string
			due          time.Time
		}
		all := map[string]*execution{}
		var ids []string
		known := func(t *rapid.T) string {
			if len(ids) == 0 {
				t.Skip("no command yet")
			}
			return rapid.SampledFrom(ids).Draw(t, "id")
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				ttl := rapid.IntRange(1, 20).Draw(t, "ttl")
				status, body := w.request("POST", "/api/v1/commands", map[string]any{"thingName": "t1", "action": "go", "ttl": ttl})
				if status != 201 || len(w.published) != 1 || w.published[0].Expiry != time.Duration(ttl)*time.Second {
					t.Fatal(status, body, w.published)
				}
				id := body["executionId"].(string)
				all[id] = &execution{status: statusSent, due: w.now.Add(time.Duration(ttl) * time.Second)}
				ids = append(ids, id)
			},
			"answer": func(t *rapid.T) {
				id := known(t)
				status := rapid.SampledFrom([]string{statusSucceeded, statusFailed, statusRejected, statusTimedOut, statusCanceled}).Draw(t, "status")
				w.publish("t1", commands+"t1/executions/"+id+"/response", map[string]any{"status": status})
				switch x := all[id]; {
				case x.status == statusSent:
					x.status = status
				case x.status == status && status != statusTimedOut && status != statusCanceled: // the same again
				default:
					x.late = status
				}
			},
			"cancel": func(t *rapid.T) {
				id := known(t)
				status, _ := w.request("POST", "/api/v1/commands/executions/"+id+"/cancel", nil)
				if x := all[id]; x.status != statusSent {
					if status != 409 {
						t.Fatal(status)
					}
				} else {
					x.status = statusCanceled
				}
			},
			"wait": func(t *rapid.T) {
				w.advance(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
				for _, x := range all {
					if x.status == statusSent && !x.due.After(w.now) {
						x.status = statusTimedOut
					}
				}
			},
			"": func(t *rapid.T) {
				for id, x := range all {
					_, got := w.request("GET", "/api/v1/commands/executions/"+id, nil)
					late, _ := got["lateResponse"].(map[string]any)
					if got["status"] != x.status || x.late != "" && late["status"] != x.late || x.late == "" && late != nil {
						t.Fatalf("%v, want %+v", got, x)
					}
				}
			},
		})
	})
}
