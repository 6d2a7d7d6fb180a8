package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// eventsGateway serves CloudEvents over HTTP, with a user who may do everything in demo.
func eventsGateway(t testing.TB, more string) *gateway {
	t.Helper()
	return start(t, demo("", `
[users.backend]
read = ["demo"]
write = ["demo"]
password_hashes = ["`+hashed(t, "secret")+`"]
[applications.demo.devices.sensor-1]
[listeners.http.web]
address = "127.0.0.1:0"
auth = ["password"]
events = true
`+more))
}

func (g *gateway) eventsURL() string { return "http://" + g.out.address("http.web") + "/events/demo" }

// web does one request as the user.
func (g *gateway) web(method, query, body string, header ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.eventsURL()+query, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.SetBasicAuth("backend", "secret")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return http.DefaultClient.Do(r)
}

func numberedEvent(n int) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/test","type":"com.example.n","device":"sensor-1",`+
		`"datacontenttype":"application/json","data":{"n":%[1]d}}`, n)
}

// follow reads a stream from where it stands until it has count events or the stream ends.
type follow struct {
	last string
	n    []int // the numbers of the events
}

func (f *follow) read(g *gateway, query string, count int) error {
	header := []string{"Accept", "text/event-stream"}
	if f.last != "" {
		header = append(header, "Last-Event-ID", f.last)
	}
	resp, err := g.web("GET", query, "", header...)
	if err != nil {
		return nil // the gateway is away
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s %s", resp.Status, text)
	}
	in := bufio.NewReader(resp.Body)
	id := ""
	for count > 0 {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil
		}
		if v, ok := strings.CutPrefix(line, "id: "); ok {
			id = strings.TrimSpace(v)
		}
		if line == "\n" && id != "" {
			f.last = id
		}
		if v, ok := strings.CutPrefix(line, "data: {\"spec"); ok {
			var e struct{ Data struct{ N int } }
			if err := json.Unmarshal([]byte(`{"spec`+v), &e); err != nil {
				return err
			}
			f.n = append(f.n, e.Data.N)
			if _, err := in.ReadString('\n'); err != nil { // the event is whole
				return nil
			}
			f.last = id
			count--
		}
	}
	return nil
}

// sdk-go sends in each mode and reads a batch, unchanged; curl does, too.
func TestEventsWithTheSDK(t *testing.T) {
	g := eventsGateway(t, "")
	auth := cehttp.WithHeader("Authorization", "Basic YmFja2VuZDpzZWNyZXQ=") // backend:secret
	p, err := cloudevents.NewHTTP(cloudevents.WithTarget(g.eventsURL()), auth)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cloudevents.NewClient(p, cloudevents.WithTimeNow(), cloudevents.WithUUIDs())
	if err != nil {
		t.Fatal(err)
	}
	for i, mode := range []func(context.Context) context.Context{cloudevents.WithEncodingBinary, cloudevents.WithEncodingStructured} {
		e := cloudevents.NewEvent()
		e.SetSource("/sdk ü")
		e.SetSource("/sdk")
		e.SetType("com.example.n")
		e.SetExtension("device", "sensor-1")
		e.SetSubject("grün")
		if err := e.SetData("application/json", map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
		if result := c.Send(mode(t.Context()), e); !cloudevents.IsACK(result) {
			t.Fatal(result)
		}
	}
	bad := cloudevents.NewEvent()
	bad.SetSource("/sdk")
	bad.SetType("t")
	bad.SetExtension("device", "unknown")
	if result := c.Send(t.Context(), bad); cloudevents.IsACK(result) {
		t.Fatal("an event about an unknown device is acknowledged")
	}
	out, err := exec.Command("curl", "-sS", "-f", "-u", "backend:secret", "-H", "Content-Type: application/cloudevents-batch+json", "-d",
		"["+numberedEvent(2)+","+numberedEvent(3)+"]", g.eventsURL()).CombinedOutput()
	if err != nil {
		t.Fatal(err, string(out))
	}
	resp, err := g.web("GET", "?from=first&wait=10s", "")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	list, err := cehttp.NewEventsFromHTTPResponse(resp)
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for i, e := range list {
		var data struct{ N int }
		if err := e.DataAs(&data); err != nil || data.N != i || e.Type() != "com.example.n" || e.Extensions()["device"] != "sensor-1" ||
			e.Extensions()["plugin"] != "drogue" || i < 2 && e.Subject() != "grün" {
			t.Errorf("%d: %v %v", i, e, err)
		}
	}
}

// Whatever was answered with 2xx is on the log after kill -9, once or, if its answer did not
// arrive, at most as often as it was sent; batches whole or not at all; and a reader that
// resumes by Last-Event-ID gets the log without a gap and without a repetition.
func TestEventsOverHTTPSurviveCrashes(t *testing.T) {
	g := eventsGateway(t, "")
	rounds := 2
	if !testing.Short() {
		rounds = 6
	}
	var mu sync.Mutex
	accepted := map[int]bool{}
	reader := &follow{}
	next := 0
	for round := range rounds {
		ctx, stop := context.WithCancel(t.Context())
		var senders sync.WaitGroup
		for w := range 4 {
			base := next + w*100_000
			senders.Go(func() {
				for n := base; ctx.Err() == nil; n += 3 {
					body := "[" + numberedEvent(n) + "," + numberedEvent(n+1) + "," + numberedEvent(n+2) + "]"
					resp, err := g.web("POST", "", body, "Content-Type", "application/cloudevents-batch+json")
					if err != nil {
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode == 204 {
						mu.Lock()
						for i := range 3 {
							accepted[n+i] = true
						}
						mu.Unlock()
					}
				}
			})
		}
		next += 1_000_000
		if err := reader.read(g, "?from=first", 40+round); err != nil { // some of what there is
			t.Fatal(err)
		}
		g.kill()
		stop()
		senders.Wait()
		g.run()
	}
	log := g.numbers()
	count := map[int]int{}
	for _, n := range log {
		count[n]++
	}
	for n := range accepted {
		if count[n] != 1 {
			t.Errorf("event %d was answered with 204 and is there %d times", n, count[n])
		}
	}
	for n, times := range count {
		first := n - (n%100_000)%3
		if times != 1 || count[first] != 1 || count[first+1] != 1 || count[first+2] != 1 {
			t.Errorf("batch of %d is there in part", first)
		}
	}
	if len(accepted) < 20*rounds {
		t.Errorf("only %d events were accepted", len(accepted))
	}
	for end := time.Now().Add(patience); len(reader.n) < len(log); {
		if err := reader.read(g, "?from=first", len(log)-len(reader.n)); err != nil || time.Now().After(end) {
			t.Fatal(err, len(reader.n), len(log))
		}
	}
	if !slices.Equal(reader.n, log) {
		t.Errorf("the reader got %d events, which are not the log's %d", len(reader.n), len(log))
	}
}

// numbers reads the whole log in batches.
func (g *gateway) numbers() (list []int) {
	g.t.Helper()
	at := "first"
	for {
		resp, err := g.web("GET", "?max=256&from="+at, "")
		if err != nil {
			g.t.Fatal(err)
		}
		var batch []struct{ Data struct{ N int } }
		err = json.NewDecoder(resp.Body).Decode(&batch)
		resp.Body.Close()
		if err != nil {
			g.t.Fatal(err)
		}
		for _, e := range batch {
			list = append(list, e.Data.N)
		}
		from := at
		if at = resp.Header.Get("Tributary-Next"); at == from {
			return list
		}
	}
}

// Many readers of one log: each gets all of it, in order.
func TestManyReadersOverHTTP(t *testing.T) {
	readers, events := 100, 200
	if !testing.Short() {
		readers, events = 1000, 1000
	}
	g := eventsGateway(t, "max_readers = 2000\n")
	var all sync.WaitGroup
	failed := make(chan error, readers)
	for range readers {
		all.Go(func() {
			f := &follow{}
			for end := time.Now().Add(3 * patience); len(f.n) < events; {
				if err := f.read(g, "?from=first", events-len(f.n)); err != nil || time.Now().After(end) {
					failed <- fmt.Errorf("%d of %d: %w", len(f.n), events, err)
					return
				}
			}
			for i, n := range f.n {
				if i != n {
					failed <- fmt.Errorf("event %d has number %d", i, n)
					return
				}
			}
		})
	}
	for n := 0; n < events; n += 50 {
		var b []string
		for i := range 50 {
			b = append(b, numberedEvent(n+i))
		}
		resp, err := g.web("POST", "", "["+strings.Join(b, ",")+"]", "Content-Type", "application/cloudevents-batch+json")
		if err != nil || resp.StatusCode != 204 {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

// A persistent MQTT session keeps its filter over a restart of the gateway, and shares its
// group's filter with nobody.
func TestFilterOverMQTTSurvivesARestart(t *testing.T) {
	g := eventsGateway(t, "")
	post := func(n int, typ string) {
		t.Helper()
		body := strings.Replace(numberedEvent(n), "com.example.n", typ, 1)
		resp, err := g.web("POST", "", body, "Content-Type", "application/cloudevents+json")
		if err != nil || resp.StatusCode != 204 {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	c := g.kept("reader")
	if code := c.subscribe("app/demo", "filter", "type = 'com.example.a'"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	post(1, "com.example.b")
	post(2, "com.example.a")
	if e := c.event(); e.Type != "com.example.a" {
		t.Fatal(e)
	}
	g.restart()
	post(3, "com.example.b")
	post(4, "com.example.a")
	c = g.kept("reader")
	for {
		e := c.event()
		if e.Type != "com.example.a" {
			t.Fatalf("%+v", e)
		}
		if strings.Contains(string(e.Data), "4") {
			break
		}
	}
}
