package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// endpoint is where the gateway listens in its present life.
type endpoint struct{ mqtt, http string }

// survivor is a device of Fleets with a persistent session that outlives gateways: it
// sends again what was not acknowledged and answered.
type survivor struct {
	t    *testing.T
	name string
	at   *atomic.Pointer[endpoint]

	c        *client
	id       uint16
	tokens   int
	requests []request // commands that it has to answer
	answered map[string]bool
	dones    int // replies that it got after it had to ask again
}

type request struct {
	topic string
	quiet bool // the device is not to answer
}

// connect opens a connection, however long the gateway is away.
func (d *survivor) connect() {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Errorf("%s finds no gateway", d.name)
			return
		}
		c, err := open(d.at.Load().mqtt, packet.V5)
		if err != nil {
			continue
		}
		err = c.write(&packet.Connect{Version: packet.V5, ClientID: d.name, Props: &packet.Properties{SessionExpiry: ptr(uint32(3600))}})
		if err == nil {
			if ack, ok := first(c.read()).(*packet.Connack); ok && ack.Code == 0 {
				err = c.write(&packet.Subscribe{ID: 65535, Filters: []packet.Filter{{Topic: "$emqx/commands/things/" + d.name + "/executions/+/request", QoS: 1}}})
				if err == nil {
					d.c = c
					return
				}
			}
		}
		c.nc.Close()
	}
}

func first(p packet.Packet, _ error) packet.Packet { return p }

// jobPlan is the document of a job: how many updates an attempt of it takes, and how
// many attempts fail, each of which the job retries.
type jobPlan struct{ Steps, Fails int64 }

// started is the version of an execution when an attempt is begun: each attempt before
// was queued, begun and updated.
func (p jobPlan) started(attempt int64) int64 { return 2 + (attempt-1)*(p.Steps+2) }

// end is how an attempt ends.
func (p jobPlan) end(attempt int64) string {
	if attempt <= p.Fails {
		return "FAILED"
	}
	return "SUCCEEDED"
}

// history is what the log has to say of an execution, each step once.
func (p jobPlan) history() (out []string) {
	for attempt := int64(1); attempt <= p.Fails+1; attempt++ {
		version := p.started(attempt)
		out = append(out, fmt.Sprint("QUEUED", version-1))
		for n := range p.Steps {
			out = append(out, fmt.Sprint("IN_PROGRESS", version+n))
		}
		out = append(out, fmt.Sprint(p.end(attempt), version+p.Steps))
	}
	return out
}

// reply is what any answer of Fleets says.
type reply struct {
	Code        any
	Version     int64
	ClientToken string
	State       struct{ Reported map[string]int64 }
	Execution   *struct {
		JobID, Status string
		VersionNumber int64
		// ExecutionNumber counts the attempts.
		ExecutionNumber int64
		JobDocument     jobPlan
	}
	ExecutionState struct {
		Status        string
		VersionNumber int64
	}
}

// ask publishes until it has both the PUBACK and, where a token is given, the reply.
// again says that an earlier attempt may have had its effect.
func (d *survivor) ask(topic string, body map[string]any, token string) (r reply, again bool) {
	if token != "" {
		body["clientToken"] = token
	}
	payload, _ := json.Marshal(body) // it holds texts and numbers
	for !d.t.Failed() {
		if d.c == nil {
			d.connect()
			continue
		}
		d.id = d.id%60000 + 1
		if d.c.write(&packet.Publish{Topic: topic, Payload: payload, QoS: 1, ID: d.id}) == nil && d.await(token, &r) {
			return r, again
		}
		again = true
		d.c.nc.Close()
		d.c = nil
	}
	return r, again
}

// await reads until a publish is acknowledged and answered; it is false where the
// connection ends before.
func (d *survivor) await(token string, r *reply) bool {
	acked, replied := false, token == ""
	for !acked || !replied {
		p, err := d.c.read()
		if err != nil {
			return false
		}
		switch p := p.(type) {
		case *packet.Ack:
			if p.ID == d.id && p.Type == packet.PUBACK {
				if acked = true; p.Code >= 0x80 {
					d.t.Errorf("%s: PUBACK %#x %s", d.name, p.Code, reason(p.Props))
				}
			}
		case *packet.Publish:
			if d.c.write(&packet.Ack{Type: packet.PUBACK, ID: p.ID}) != nil {
				return false
			}
			if strings.HasSuffix(p.Topic, "/request") {
				d.requests = append(d.requests, request{p.Topic, strings.Contains(string(p.Payload), `"ignore"`)})
				continue
			}
			var got reply
			if err := json.Unmarshal(p.Payload, &got); err != nil {
				d.t.Errorf("%s: %v: %s", p.Topic, err, p.Payload)
			}
			if got.ClientToken == token {
				*r, replied = got, true
			}
		case *packet.Disconnect:
			return false
		}
	}
	return true
}

func (d *survivor) token() string {
	d.tokens++
	return fmt.Sprintf("%s-%d", d.name, d.tokens)
}

// report makes one update of the shadow, which has a version.
func (d *survivor) report(n, version int64) {
	r, again := d.ask("$emqx/things/"+d.name+"/shadow/update", map[string]any{"state": map[string]any{"reported": map[string]any{"n": n}}, "version": version}, d.token())
	if r.Code == nil && r.Version == version+1 || d.t.Failed() {
		return
	}
	if !again || r.Code != 409.0 {
		d.t.Errorf("%s: the update at version %d is answered with %+v", d.name, version, r)
		return
	}
	d.dones++ // the first attempt was stored and its answer lost: it must not count twice
	if r, _ = d.ask("$emqx/things/"+d.name+"/shadow/get", map[string]any{}, d.token()); r.Version != version+1 || r.State.Reported["n"] != n {
		d.t.Errorf("%s: after update %d at version %d the shadow is %+v", d.name, n, version, r)
	}
}

// answer answers the commands that came.
func (d *survivor) answer() {
	for len(d.requests) > 0 {
		q := d.requests[0]
		d.requests = d.requests[1:]
		if !q.quiet && !d.answered[q.topic] {
			d.answered[q.topic] = true
			d.ask(strings.TrimSuffix(q.topic, "request")+"response", map[string]any{"status": "SUCCEEDED", "result": map[string]any{"by": d.name}}, "")
		}
	}
}

// work does the next job, if there is one.
func (d *survivor) work() bool {
	root := "$emqx/things/" + d.name + "/jobs/"
	r, again := d.ask(root+"start-next", map[string]any{}, d.token())
	x := r.Execution
	if x == nil {
		return false
	}
	plan, start := x.JobDocument, x.JobDocument.started(x.ExecutionNumber)
	if x.Status != "IN_PROGRESS" || x.VersionNumber != start {
		d.t.Errorf("%s: start-next gives %+v (asked again: %v)", d.name, x, again)
		return false
	}
	for version := start; version < start+plan.Steps && !d.t.Failed(); version++ {
		status, after, afterVersion := "IN_PROGRESS", "IN_PROGRESS", version+1
		if version == start+plan.Steps-1 {
			status = plan.end(x.ExecutionNumber)
			if after = status; status == "FAILED" { // the next attempt is queued in the same step
				after, afterVersion = "QUEUED", version+2
			}
		}
		r, again := d.ask(root+x.JobID+"/update", map[string]any{"status": status, "expectedVersion": version}, d.token())
		if r.Code == nil {
			continue
		}
		if !again || r.ExecutionState.Status != after || r.ExecutionState.VersionNumber != afterVersion {
			d.t.Errorf("%s: job %s to %s at version %d (again: %v): %+v", d.name, x.JobID, status, version, again, r)
		}
		d.dones++
	}
	return true
}

// operator makes commands and jobs for a thing, again where it got no answer. It
// returns the ids of those that were answered.
func operator(t *testing.T, at *atomic.Pointer[endpoint], thing string, commands, jobs int) (executions, made []string) {
	ask := func(path, body string) (id string) {
		for end := time.Now().Add(patience); time.Now().Before(end) && !t.Failed(); {
			status, answer, err := rest(at.Load().http, "POST", path, []byte(body))
			var out struct{ ExecutionID, JobID string }
			switch {
			case err == nil && status == 201:
				if err := json.Unmarshal(answer, &out); err != nil {
					t.Errorf("%v: %s", err, answer)
				}
				return out.ExecutionID + out.JobID
			case err == nil && status < 500:
				t.Errorf("%s: %d %s", path, status, answer)
				return ""
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Errorf("%s was never answered", path)
		return ""
	}
	for i := range max(commands, jobs) {
		if i < commands {
			action := "act"
			if i%4 == 0 {
				action = "ignore"
			}
			executions = append(executions, ask("/api/v1/commands", fmt.Sprintf(`{"thingName":"%s","action":"%s","ttl":%d}`, thing, action, 1+i%3)))
		}
		if i < jobs {
			made = append(made, ask("/api/v1/jobs", fmt.Sprintf(`{"document":{"steps":%d,"fails":%d},"numberOfRetries":%[2]d,"targets":{"thingNames":["%[3]s"]}}`, 1+i%3, max(0, i%5-2), thing)))
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
			e, j := operator(t, &at, d.name, commands, jobs)
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
		case <-time.After(time.Duration(20+rand.IntN(120)+4*kills) * time.Millisecond): // the random moment; ever later, so that a slow machine gets on, too
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
	t.Logf("%d kills; %d requests were repeated that had been done; %d commands (%d timed out), %d jobs", kills, repeated, len(h.commands), h.timedOut, len(h.jobs))
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
	h := &history{map[string][]int64{}, map[string][]string{}, map[string][]string{}, map[string]jobPlan{}, map[string]int{}, map[string][]string{}, 0}
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
