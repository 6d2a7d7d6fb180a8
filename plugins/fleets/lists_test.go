package main

import (
	"fmt"
	"testing"
)

// A list of far more than one event may read, of which few match the filter: a
// client that follows the cursors sees each match once, in order, and no page fails.
func TestListsOfMany(t *testing.T) {
	const many, every = 5000, 700
	status := func(i int, match, other string) string {
		if i%every == 0 {
			return match
		}
		return other
	}
	lists := []struct {
		path, name, member string
		put                func(state map[string][]byte, i int, id string)
	}{
		{"/api/v1/jobs?status=COMPLETED&jobType=SNAPSHOT", "jobs", "jobId", func(state map[string][]byte, i int, id string) {
			state["jobs/"+sortable(int64(i))+"/"+id] = []byte(id)
			state[jobKey(id)] = fmt.Appendf(nil, `{"jobId":"%s","status":"%s","document":{}}`, id, status(i, jobCompleted, jobInProgress))
		}},
		{"/api/v1/commands/executions?thingName=t1&status=FAILED", "executions", "executionId", func(state map[string][]byte, i int, id string) {
			state["commands/t1/"+sortable(int64(i))+"/"+id] = []byte(id)
			state[commandKey(id)] = fmt.Appendf(nil, `{"executionId":"%s","status":"%s"}`, id, status(i, statusFailed, statusTimedOut))
		}},
		{"/api/v1/things?tagName=new", "things", "name", func(state map[string][]byte, i int, id string) {
			state[thingKey(id)] = fmt.Appendf(nil, `{"name":"%s","tags":["%s"]}`, id, status(i, "new", "old"))
		}},
		{"/api/v1/things/t1/events?severity=error&from=1&to=4500", "events", "eventType", func(state map[string][]byte, i int, id string) {
			state["event/t1/"+sortable(int64(i))+"/"+id] = fmt.Appendf(nil,
				`{"eventType":"%s","severity":"%s","timestamp":%d,"data":{"text":"%0*d"}}`,
				id, status(i, "error", "info"), i, i%7*300, 0)
		}},
		{"/api/v1/thing-types?limit=200", "thingTypes", "thingTypeId", func(state map[string][]byte, i int, id string) {
			if i%every == 0 {
				state[typeKey(id)] = fmt.Appendf(nil, `{"thingTypeId":"%s","description":"%050000d"}`, id, 0)
			}
		}},
	}
	for _, list := range lists {
		w := newWorld(t)
		var want []string
		for i := range many {
			id := fmt.Sprintf("x%05d", i)
			list.put(w.state, i, id)
			if i%every == 0 && (list.name != "events" || i >= 1 && i <= 4500) {
				want = append(want, id)
			}
		}
		var got []string
		cursor := ""
		for pages := 0; ; pages++ {
			code, body := w.request("GET", list.path+cursor, nil)
			if code != 200 || pages > many {
				t.Fatal(list.path, code, pages)
			}
			for _, item := range body[list.name].([]any) {
				got = append(got, item.(map[string]any)[list.member].(string))
			}
			next, more := body["cursor"].(string)
			if !more {
				t.Logf("%s in %d pages", list.name, pages+1)
				break
			}
			cursor = "&cursor=" + next
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", list.path, got, want)
		}
	}
}
