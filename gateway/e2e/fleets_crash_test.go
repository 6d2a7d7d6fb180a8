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

	"tributary.io/gateway/store"
)

// operator makes commands and jobs for a thing, again where it got no answer. It
// returns the ids of those that were answered.
func operator(b backend, thing string, commands, jobs int) (executions, made []string) {
	for i := range max(commands, jobs) {
		if i < commands {
			action := "act"
			if i%4 == 0 {
				action = "ignore"
			}
			executions = append(executions, b.post("/api/v1/commands", fmt.Sprintf(`{"thingName":"%s","action":"%s","ttl":%d}`, thing, action,
				1+i%3), 201, 201))
		}
		if i < jobs {
			made = append(made, b.post("/api/v1/jobs",
				fmt.Sprintf(`{"document":{"steps":%d,"fails":%d},"numberOfRetries":%[2]d,"targets":{"thingNames":["%[3]s"]}}`, 1+i%3, max(0, i%5-2),
					thing), 201, 201))
		}
	}
	return executions, made
}

// The process is killed again and again while things report, answer commands and do
// jobs. What each thing's shadow, commands and jobs went through stands in the log:
// every step once, in order, and each as it must follow on the one before.
func TestFleetsOverKills(t *testing.T) {
	const things, updates, commands, jobs = 4, 250, 50, 50
	g := start(t, fleets(t, ""))
	var at atomic.Pointer[endpoint]
	move := func() { at.Store(&endpoint{g.out.address("mqtt.tcp"), g.out.address("http.rest")}) }
	move()
	var mu sync.Mutex
	var executions, made []string
	devices := make([]*survivor, things)
	var wg, operators sync.WaitGroup
	var operated atomic.Bool
	for i := range things {
		d := &survivor{t: t, name: fmt.Sprint("c", i), at: &at, answered: map[string]bool{}}
		devices[i] = d
		g.asked("POST", "/api/v1/thing-datas/shadow/reported", `{"thingName":"`+d.name+`","state":{"reported":{"n":0}}}`, 200, nil)
		operators.Go(func() {
			e, j := operator(backend{t, &at}, d.name, commands, jobs)
			mu.Lock()
			defer mu.Unlock()
			executions, made = append(executions, e...), append(made, j...)
		})
		wg.Go(func() {
			for n := int64(1); !t.Failed(); n++ {
				last := operated.Load()
				if n <= updates {
					d.report(n, n)
				}
				d.answer()
				if worked := d.work(); n >= updates && last && !worked {
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		operators.Wait()
		operated.Store(true)
		wg.Wait()
		close(done)
	}()
	kills := 0
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		// the random moment; ever later, so that a slow machine gets on, too
		case <-time.After(time.Duration(20+rand.IntN(120)+4*kills) * time.Millisecond):
			g.restart()
			move()
			kills++
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	// Timers that are set when the process dies are due in its next life.
	var last struct{ ExecutionID string }
	g.asked("POST", "/api/v1/commands", `{"thingName":"c0","action":"ignore","ttl":2}`, 201, &last)
	executions = append(executions, last.ExecutionID)
	g.restart()
	eventually(t, "all timers to fire", func() bool {
		pending, ok := g.metric("tributary_timers_pending")
		return ok && pending == 0
	})
	for _, d := range devices {
		var shadow struct{ Version int64 }
		if g.asked("GET", "/api/v1/thing-datas/"+d.name+"/shadow", "", 200, &shadow); shadow.Version != updates+1 {
			t.Errorf("the shadow of %s has version %d, want %d", d.name, shadow.Version, updates+1)
		}
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
	if q := g.stored(store.Quarantine("fleet")); len(q) > 0 {
		t.Errorf("%d events are in quarantine: %s", len(q), q[0].Data)
	}
	h := g.history()
	h.check(t, updates+1, executions, made)
	repeated := 0
	for _, d := range devices {
		repeated += d.dones
	}
	t.Logf("%d kills; %d requests were repeated that had been done; %d commands (%d timed out), %d jobs", kills, repeated, len(h.commands),
		h.timedOut, len(h.jobs))
	if kills < 3 {
		t.Errorf("%d kills: that proves little", kills)
	}
}

// history is what the log says, by shadow, command and job.
type history struct {
	shadows  map[string][]int64
	commands map[string][]string
	jobs     map[string][]string // status and version
	plans    map[string]jobPlan
	ended    map[string]int      // how often a job was COMPLETED
	states   map[string][]string // of jobs themselves
	timedOut int
}

func (g *gateway) history() *history {
	g.t.Helper()
	h := &history{map[string][]int64{}, map[string][]string{}, map[string][]string{}, map[string]jobPlan{}, map[string]int{},
		map[string][]string{}, 0}
	for _, e := range g.stored(store.Events("fleet")) {
		var v struct {
			Version            int64
			ExecutionID, JobID string
			Status             string
			VersionNumber      int64
			LateResponse       any
			Document           jobPlan
		}
		if err := json.Unmarshal(e.Data, &v); err != nil {
			g.t.Fatalf("%v: %s", err, e.Data)
		}
		switch e.Type {
		case "io.tributary.fleets.shadow.v1":
			h.shadows[e.Device] = append(h.shadows[e.Device], v.Version)
		case "io.tributary.fleets.command.v1":
			if v.LateResponse == nil { // that is no transition
				h.commands[v.ExecutionID] = append(h.commands[v.ExecutionID], v.Status)
			}
			if v.Status == "TIMED_OUT" && v.LateResponse == nil {
				h.timedOut++
			}
		case "io.tributary.fleets.execution.v1":
			h.jobs[v.JobID] = append(h.jobs[v.JobID], fmt.Sprint(v.Status, v.VersionNumber))
		case "io.tributary.fleets.job.v1":
			h.plans[v.JobID] = v.Document
			h.states[v.JobID] = append(h.states[v.JobID], v.Status)
			if v.Status == "COMPLETED" {
				h.ended[v.JobID]++
			}
		}
	}
	return h
}

// steps is what the log says of each job and command: the steps of its execution, and
// how the job itself ended.
func (h *history) steps() map[string][]string {
	all := maps.Clone(h.commands)
	for id, steps := range h.jobs {
		all[id] = slices.Clone(steps)
		for _, state := range h.states[id] {
			if state != "IN_PROGRESS" {
				all[id] = append(all[id], state)
			}
		}
	}
	return all
}

func (h *history) check(t *testing.T, version int64, executions, jobs []string) {
	t.Helper()
	for thing, versions := range h.shadows {
		for i, v := range versions {
			if v != int64(i+1) {
				t.Fatalf("the shadow of %s: version %d is at place %d of the log", thing, v, i)
			}
		}
		if int64(len(versions)) != version {
			t.Errorf("the shadow of %s has %d versions in the log, want %d", thing, len(versions), version)
		}
	}
	for id, s := range h.commands {
		if len(s) != 2 || s[0] != "SENT" || s[1] != "SUCCEEDED" && s[1] != "TIMED_OUT" {
			t.Errorf("command %s went through %v", id, s)
		}
	}
	for id, s := range h.jobs {
		if !slices.Equal(s, h.plans[id].history()) || h.ended[id] != 1 {
			t.Errorf("job %s went through %v and was completed %d times", id, s, h.ended[id])
		}
	}
	for _, id := range executions {
		if h.commands[id] == nil {
			t.Errorf("the log does not know command %s, which was answered", id)
		}
	}
	for _, id := range jobs {
		if h.jobs[id] == nil {
			t.Errorf("the log does not know job %s, which was answered", id)
		}
	}
}
