package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend makes REST calls to gateways that die now and then.
type backend struct {
	t  *testing.T
	at *atomic.Pointer[endpoint]
}

// post posts until there is an answer, which has to be want, or 409 if an earlier
// attempt may have had its effect. It returns the id of what was made.
func (b backend) post(path, body string, want int) (id string) {
	again := false
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		status, answer, err := rest(b.at.Load().http, "POST", path, []byte(body))
		if err != nil || status >= 500 {
			again = true
			continue
		}
		var out struct{ ExecutionID, JobID string }
		if status != want && (!again || status != 409) || json.Unmarshal(answer, &out) != nil {
			b.t.Errorf("%s: %d %s", path, status, answer)
		}
		return out.ExecutionID + out.JobID
	}
	b.t.Errorf("%s was never answered", path)
	return ""
}

// timed is one thing's part in TestFleetsTimersOverKills: it returns the id of the
// job or command that it was about, and what the log has to say of that.
type timed func(d *survivor, b backend) (id string, steps []string)

// start begins the next job.
func (d *survivor) start(body map[string]any) {
	r, _ := d.ask("$emqx/things/"+d.name+"/jobs/start-next", maps.Clone(body), d.token())
	if r.Execution == nil || r.Execution.Status != "IN_PROGRESS" {
		d.t.Errorf("%s: start-next gives %+v", d.name, r)
	}
}

// step updates a job that is at a version.
func (d *survivor) step(job, status string, version int64, more map[string]any) {
	body := map[string]any{"status": status, "expectedVersion": version}
	for k, v := range more {
		body[k] = v
	}
	r, again := d.ask("$emqx/things/"+d.name+"/jobs/"+job+"/update", body, d.token())
	if r.Code != nil && (!again || r.ExecutionState.Status != status || r.ExecutionState.VersionNumber != version+1) {
		d.t.Errorf("%s: job %s to %s at version %d (again: %v): %+v", d.name, job, status, version, again, r)
	}
}

func timedThings() map[string]timed {
	job := func(d *survivor, b backend, more string) string {
		return b.post("/api/v1/jobs", `{"document":{"steps":1},"targets":{"thingNames":["`+d.name+`"]}`+more+`}`, 201)
	}
	minute := map[string]any{"stepTimeoutInMinutes": 1}
	return map[string]timed{
		"step": func(d *survivor, b backend) (string, []string) {
			id := job(d, b, "")
			d.start(minute)
			return id, []string{"QUEUED1", "IN_PROGRESS2", "TIMED_OUT3", "COMPLETED"}
		},
		"later-step": func(d *survivor, b backend) (string, []string) {
			id := job(d, b, "")
			d.start(map[string]any{"stepTimeoutInMinutes": 100})
			d.step(id, "IN_PROGRESS", 2, minute)
			return id, []string{"QUEUED1", "IN_PROGRESS2", "IN_PROGRESS3", "TIMED_OUT4", "COMPLETED"}
		},
		"retry": func(d *survivor, b backend) (string, []string) {
			id := job(d, b, `,"inProgressTimeoutInMinutes":1,"numberOfRetries":1`)
			d.start(map[string]any{})
			return id, []string{"QUEUED1", "IN_PROGRESS2", "TIMED_OUT3", "QUEUED4", "IN_PROGRESS5", "SUCCEEDED6", "COMPLETED"}
		},
		"in-time": func(d *survivor, b backend) (string, []string) {
			id := job(d, b, "")
			d.start(minute)
			d.step(id, "SUCCEEDED", 2, nil)
			return id, []string{"QUEUED1", "IN_PROGRESS2", "SUCCEEDED3", "COMPLETED"}
		},
		"canceled": func(d *survivor, b backend) (string, []string) {
			id := job(d, b, "")
			b.post("/api/v1/jobs/"+id+"/cancel", "", 200)
			return id, []string{"QUEUED1", "CANCELED2", "CANCELED"}
		},
		"canceled-step": func(d *survivor, b backend) (string, []string) {
			id := job(d, b, "")
			d.start(minute)
			b.post("/api/v1/jobs/"+id+"/cancel?force=true", "", 200)
			return id, []string{"QUEUED1", "IN_PROGRESS2", "CANCELED3", "CANCELED"}
		},
		"command": func(d *survivor, b backend) (string, []string) {
			id := b.post("/api/v1/commands", `{"thingName":"`+d.name+`","action":"ignore","ttl":60}`, 201)
			return id, []string{"SENT", "TIMED_OUT"}
		},
		"canceled-command": func(d *survivor, b backend) (string, []string) {
			id := b.post("/api/v1/commands", `{"thingName":"`+d.name+`","action":"ignore","ttl":60}`, 201)
			b.post("/api/v1/commands/executions/"+id+"/cancel", "", 200)
			return id, []string{"SENT", "CANCELED"}
		},
	}
}

// The least time of a job's step is a minute. While it passes the process is killed
// again and again: what is due fires once, and what was finished or canceled before
// does not.
func TestFleetsTimersOverKills(t *testing.T) {
	t.Parallel() // with whatever else mostly waits
	const each = 3
	g := start(t, fleets(t, ""))
	var at atomic.Pointer[endpoint]
	move := func() { at.Store(&endpoint{g.out.address("mqtt.tcp"), g.out.address("http.rest")}) }
	move()
	b := backend{t, &at}
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[string][]string{}
	retries := map[string]*survivor{}
	for kind, do := range timedThings() {
		for i := range each {
			d := &survivor{t: t, name: fmt.Sprint(kind, "-", i), at: &at, answered: map[string]bool{}}
			wg.Go(func() {
				id, steps := do(d, b)
				mu.Lock()
				defer mu.Unlock()
				want[id] = steps
				if kind == "retry" {
					retries[id] = d
				}
			})
		}
	}
	begun := make(chan struct{})
	go func() { wg.Wait(); close(begun) }()
	kills := 0
	for left := true; left && !t.Failed(); kills++ {
		time.Sleep(time.Duration(20+rand.IntN(100)*(1+kills)) * time.Millisecond) // the random moment
		g.restart()
		move()
		select {
		case <-begun:
			pending, ok := g.metric("tributary_timers_pending")
			left = !ok || pending > 0
		default:
		}
	}
	for id, d := range retries { // timed out, and queued once more
		d.start(map[string]any{})
		d.step(id, "SUCCEEDED", 5, nil)
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
	if all := len(timedThings()) * each; len(want) != all {
		t.Errorf("%d jobs and commands were made, want %d", len(want), all)
	}
	got := g.history().steps()
	for id, steps := range want {
		if !slices.Equal(got[id], steps) {
			t.Errorf("%s went through %v, want %v", id, got[id], steps)
		}
	}
	t.Logf("%d kills", kills)
}
