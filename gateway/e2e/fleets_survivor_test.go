package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
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
				err = c.write(&packet.Subscribe{ID: 65535, Filters: []packet.Filter{{Topic: "$emqx/commands/things/" + d.name + "/executions/+/request",
					QoS: 1}}})
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
	r, again := d.ask("$emqx/things/"+d.name+"/shadow/update", map[string]any{"state": map[string]any{"reported": map[string]any{"n": n}},
		"version": version}, d.token())
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
			d.ask(strings.TrimSuffix(q.topic, "request")+"response", map[string]any{"status": "SUCCEEDED", "result": map[string]any{"by": d.name}},
				"")
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
		d.step(x.JobID, status, version, nil, after, afterVersion)
	}
	return true
}

// step updates a job that is at a version, which brings it to another status and
// version: the status that was given, unless the job queues another attempt.
func (d *survivor) step(job, status string, version int64, more map[string]any, after string, afterVersion int64) {
	body := map[string]any{"status": status, "expectedVersion": version}
	maps.Copy(body, more)
	r, again := d.ask("$emqx/things/"+d.name+"/jobs/"+job+"/update", body, d.token())
	if r.Code == nil {
		return
	}
	if !again || r.ExecutionState.Status != after || r.ExecutionState.VersionNumber != afterVersion {
		d.t.Errorf("%s: job %s to %s at version %d (again: %v): %+v", d.name, job, status, version, again, r)
	}
	d.dones++
}

// backend makes REST calls to gateways that die now and then.
type backend struct {
	t  *testing.T
	at *atomic.Pointer[endpoint]
}

// post posts until there is an answer, whose status has to be want, or repeated where
// an earlier attempt may have had its effect. It returns the id of what was made.
func (b backend) post(path, body string, want, repeated int) (id string) {
	again := false
	for end := time.Now().Add(patience); time.Now().Before(end) && !b.t.Failed(); time.Sleep(5 * time.Millisecond) {
		status, answer, err := rest(b.at.Load().http, "POST", path, []byte(body))
		if err != nil || status >= 500 {
			again = true
			continue
		}
		var out struct{ ExecutionID, JobID string }
		if status != want && (!again || status != repeated) {
			b.t.Errorf("%s: %d %s", path, status, answer)
		} else if err := json.Unmarshal(answer, &out); err != nil {
			b.t.Errorf("%s: %v: %s", path, err, answer)
		}
		return out.ExecutionID + out.JobID
	}
	b.t.Errorf("%s was never answered", path)
	return ""
}
