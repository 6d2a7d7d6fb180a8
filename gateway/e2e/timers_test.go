package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// later is the plugin that sets timers and makes calls, and the route of the
// topics later/#.
func later(host string) string {
	return `
[plugins.later]
path = "` + wasm("later") + `"
[plugins.later.grant]
emit = ["test.later"]
timers = 1000
hosts = ["` + host + `"]
[[routes]]
application = "demo"
plugin = "later"
type = "io.tributary.publish.v1"
topic = "later/#"
`
}

// told counts the plugin's events that begin with a word, by the second word.
func (g *gateway) told(word string) map[string][]string {
	got := map[string][]string{}
	for _, e := range g.events() {
		if words := strings.SplitN(e.Subject, " ", 3); e.Type == "test.later" && words[0] == word && len(words) == 3 {
			got[words[1]] = append(got[words[1]], words[2])
		}
	}
	return got
}

// killRounds runs rounds that each have the plugin do things, and kill the
// process at a random moment thereafter.
func (g *gateway) killRounds(rounds int, commands func(round int) string) {
	g.t.Helper()
	for round := range rounds {
		c := g.v5(fmt.Sprint("device-", round%3))
		c.accepted("later/x", commands(round))
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond) // the random moment
		g.kill()
		if round%3 == 2 { // and one that dies while it starts
			if err := g.spawn(); err != nil {
				g.t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			g.kill()
		}
		g.run()
	}
}

// A timer that was set fires once, whenever the process is killed.
func TestTimersOverKills(t *testing.T) {
	const rounds, each = 8, 25
	g := start(t, demo(later("http://127.0.0.1"), ""))
	g.killRounds(rounds, func(round int) string {
		var b strings.Builder
		for i := range each {
			fmt.Fprintf(&b, "timer k%d 0\n", round*each+i) // replaced by the next line
			fmt.Fprintf(&b, "timer k%d %d\n", round*each+i, rand.IntN(1200))
		}
		return b.String()
	})
	eventually(t, "all timers to fire", func() bool {
		pending, ok := g.metric("tributary_timers_pending")
		return ok && pending == 0
	})
	fired := g.told("timer")
	for i := range rounds * each {
		key := fmt.Sprint("k", i)
		if len(fired[key]) != 1 || fired[key][0] != "data-"+key {
			t.Errorf("timer %s fired %d times: %v", key, len(fired[key]), fired[key])
		}
	}
	if len(fired) != rounds*each {
		t.Errorf("%d timers fired, %d were set", len(fired), rounds*each)
	}
}

// The answer to a call is handled once, whenever the process is killed; the server
// sees each request at least once, always with the same key.
func TestCallsOverKills(t *testing.T) {
	const rounds, each = 8, 25
	var mu sync.Mutex
	keys := map[string]map[string]int{} // by the call's id
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := io.ReadAll(r.Body)
		mu.Lock()
		if keys[string(id)] == nil {
			keys[string(id)] = map[string]int{}
		}
		keys[string(id)][r.Header.Get("Idempotency-Key")]++
		mu.Unlock()
		switch rand.IntN(5) {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case 1:
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		}
		fmt.Fprintf(w, "re:%s", id)
	}))
	defer server.Close()
	g := start(t, demo(later(server.URL), "[outbound]\nbackoff = \"20ms\"\nbackoff_max = \"200ms\"\n"))
	g.killRounds(rounds, func(round int) string {
		var b strings.Builder
		for i := range each {
			fmt.Fprintf(&b, "call c%d %s/path\n", round*each+i, server.URL)
		}
		return b.String()
	})
	eventually(t, "all calls to end", func() bool {
		pending, ok := g.metric("tributary_outbound_pending")
		return ok && pending == 0
	})
	answers := g.told("answer")
	mu.Lock()
	defer mu.Unlock()
	repeated := 0
	for i := range rounds * each {
		id := fmt.Sprint("c", i)
		if len(answers[id]) != 1 || answers[id][0] != "200 re:"+id {
			t.Errorf("call %s was answered with %q", id, answers[id])
		}
		if len(keys[id]) != 1 {
			t.Errorf("the server saw call %s with the keys %v", id, keys[id])
		}
		for key, n := range keys[id] {
			if key == "" {
				t.Errorf("call %s came without a key", id)
			}
			repeated += n - 1
		}
	}
	t.Logf("%d calls, %d requests were repeated", rounds*each, repeated)
}
