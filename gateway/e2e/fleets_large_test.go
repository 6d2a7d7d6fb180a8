package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// A job for as many things as one may have: made in one step, begun by each, canceled
// in one step, with each step of each thing in the log once.
func TestFleetsLargeJob(t *testing.T) {
	const many = 1000
	g := start(t, fleets(t, ""))
	var names []string
	for i := range many {
		names = append(names, fmt.Sprintf("thing-%04d", i))
	}
	targets, _ := json.Marshal(names) // texts
	begin := time.Now()
	var job struct{ JobID string }
	g.asked("POST", "/api/v1/jobs", `{"document":{"steps":1},"targets":{"thingNames":`+string(targets)+`}}`, 201, &job)
	t.Logf("made in %v", time.Since(begin))
	last := g.thing(names[many-1], packet.Connect{Version: packet.V5, CleanStart: true})
	begin = time.Now()
	last.say("$emqx/things/"+last.name+"/jobs/start-next", []byte(`{"clientToken":"a"}`))
	last.heard("$emqx/things/" + last.name + "/jobs/start-next/accepted")
	t.Logf("begun in %v", time.Since(begin))
	if status, answer, err := g.rest("POST", "/api/v1/jobs/"+job.JobID+"/cancel", nil); err != nil || status != 409 {
		t.Errorf("a job in progress is canceled without force: %d %s %v", status, answer, err)
	}
	begin = time.Now()
	g.asked("POST", "/api/v1/jobs/"+job.JobID+"/cancel?force=true", "", 200, nil)
	t.Logf("canceled in %v", time.Since(begin))
	if status, answer, err := g.rest("POST", "/api/v1/jobs",
		[]byte(`{"document":{},"targets":{"thingNames":`+string(targets[:len(targets)-1])+`,"one-more"]}}`)); err != nil || status != 422 {
		t.Errorf("a job for one more: %d %s %v", status, answer, err)
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
	if q := g.stored(store.Quarantine("fleet")); len(q) > 0 {
		t.Errorf("%d events are in quarantine: %s", len(q), q[0].Data)
	}
	steps := map[string]string{}
	for _, e := range g.stored(store.Events("fleet")) {
		var v struct{ Status string }
		if json.Unmarshal(e.Data, &v) == nil && e.Type == "io.tributary.fleets.execution.v1" {
			steps[e.Device] += v.Status + " "
		}
	}
	for i, name := range names {
		want := "QUEUED CANCELED "
		if i == many-1 {
			want = "QUEUED IN_PROGRESS CANCELED "
		}
		if steps[name] != want {
			t.Fatalf("%s went through %s, want %s", name, steps[name], want)
		}
	}
}
