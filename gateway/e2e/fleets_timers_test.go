package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// timed is one thing's part in TestFleetsTimersOverKills: a job or a command that is
// made, what is done with it while the process dies now and then, and what the log has
// to say of it.
type timed struct {
	path, more string // of the POST that makes it, and beside the target
	do         func(d *survivor, b backend, id string)
	steps      []string
}

// start begins the next job.
func (d *survivor) start(options map[string]any) {
	body := map[string]any{}
	maps.Copy(body, options) // options are shared
	r, _ := d.ask("$emqx/things/"+d.name+"/jobs/start-next", body, d.token())
	if r.Execution == nil || r.Execution.Status != "IN_PROGRESS" {
		d.t.Errorf("%s: start-next gives %+v", d.name, r)
	}
}

func timedThings() map[string]timed {
	const jobs, commands = "/api/v1/jobs", "/api/v1/commands"
	minute := map[string]any{"stepTimeoutInMinutes": 1}
	return map[string]timed{
		"step": {jobs, "", func(d *survivor, _ backend, _ string) { d.start(minute) },
			[]string{"QUEUED1", "IN_PROGRESS2", "TIMED_OUT3", "COMPLETED"}},
		"later-step": {jobs, "", func(d *survivor, _ backend, id string) {
			d.start(map[string]any{"stepTimeoutInMinutes": 100})
			d.step(id, "IN_PROGRESS", 2, minute, "IN_PROGRESS", 3)
		}, []string{"QUEUED1", "IN_PROGRESS2", "IN_PROGRESS3", "TIMED_OUT4", "COMPLETED"}},
		"retry": {jobs, `,"inProgressTimeoutInMinutes":1,"numberOfRetries":1`, func(d *survivor, _ backend, _ string) { d.start(nil) },
			[]string{"QUEUED1", "IN_PROGRESS2", "TIMED_OUT3", "QUEUED4", "IN_PROGRESS5", "SUCCEEDED6", "COMPLETED"}},
		"in-time": {jobs, "", func(d *survivor, _ backend, id string) {
			d.start(minute)
			d.step(id, "SUCCEEDED", 2, nil, "SUCCEEDED", 3)
		}, []string{"QUEUED1", "IN_PROGRESS2", "SUCCEEDED3", "COMPLETED"}},
		"canceled": {jobs, "", func(_ *survivor, b backend, id string) { b.post(jobs+"/"+id+"/cancel", "", 200, 409) },
			[]string{"QUEUED1", "CANCELED2", "CANCELED"}},
		"canceled-step": {jobs, "", func(d *survivor, b backend, id string) {
			d.start(minute)
			b.post(jobs+"/"+id+"/cancel?force=true", "", 200, 409)
		}, []string{"QUEUED1", "IN_PROGRESS2", "CANCELED3", "CANCELED"}},
		"command": {commands, "", func(*survivor, backend, string) {}, []string{"SENT", "TIMED_OUT"}},
		"canceled-command": {commands, "", func(_ *survivor, b backend, id string) { b.post(commands+"/executions/"+id+"/cancel", "", 200, 409) },
			[]string{"SENT", "CANCELED"}},
	}
}

// make makes a thing's job or command. Nothing dies meanwhile: a second attempt would
// make a second one.
func (x *timed) make(g *gateway, thing string) string {
	body := `{"document":{"steps":1},"targets":{"thingNames":["` + thing + `"]}` + x.more + `}`
	if x.path == "/api/v1/commands" {
		body = `{"thingName":"` + thing + `","action":"ignore","ttl":60}`
	}
	var out struct{ ExecutionID, JobID string }
	g.asked("POST", x.path, body, 201, &out)
	return out.ExecutionID + out.JobID
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
	want := map[string][]string{}
	retries := map[string]*survivor{}
	for kind, x := range timedThings() {
		for i := range each {
			d := &survivor{t: t, name: fmt.Sprint(kind, "-", i), at: &at, answered: map[string]bool{}}
			id := x.make(g, d.name)
			want[id] = x.steps
			if kind == "retry" {
				retries[id] = d
			}
			wg.Go(func() { x.do(d, b, id) })
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
		d.start(nil)
		d.step(id, "SUCCEEDED", 5, nil, "SUCCEEDED", 6)
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
	got := g.history().steps()
	for id, steps := range want {
		if !slices.Equal(got[id], steps) {
			t.Errorf("%s went through %v, want %v", id, got[id], steps)
		}
	}
	t.Logf("%d kills", kills)
}
