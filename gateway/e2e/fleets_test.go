package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// The fleets plugin with real clients and REST: testdata/fleets.jsonl has the golden
// exchanges of its contract, which run with MQTT 3.1.1, MQTT 5 and, where Fleets has
// the same over HTTP, so.

// fleetsPlugin is the plugin with what it needs.
func fleetsPlugin() string {
	return `
[plugins.fleets]
path = "` + wasm("fleets") + `"
[plugins.fleets.grant]
emit = ["io.tributary.fleets.*"]
publish = ["$emqx/#"]
state_bytes = "1GiB"
timers = 100_000
`
}

// fleets is a configuration with the fleets plugin for application fleet, open to
// this machine over MQTT, and the back end ak_test:sk_test over HTTP.
func fleets(t testing.TB, tables string) string {
	return fleetsPlugin() + `
[[routes]]
application = "fleet"
plugin = "fleets"
[applications.fleet]
anonymous = true
[users.ak_test]
password_hashes = ["` + hashed(t, "sk_test") + `"]
read = ["fleet"]
write = ["fleet"]
[listeners.http.rest]
address = "127.0.0.1:0"
application = "fleet"
auth = ["apikey", "password"]
` + tables
}

// rest is a request to the REST interface with the back end's credentials, or
// others, or none ("-").
func (g *gateway) rest(method, path string, body []byte, credentials ...string) (status int, answer []byte, err error) {
	return rest(g.out.address("http.rest"), method, path, body, credentials...)
}

func rest(address, method, path string, body []byte, credentials ...string) (status int, answer []byte, err error) {
	req, err := http.NewRequest(method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	user, password := "ak_test", "sk_test"
	if len(credentials) > 0 {
		user, password, _ = strings.Cut(credentials[0], ":")
	}
	if user != "-" {
		req.SetBasicAuth(user, password)
	}
	client := http.Client{Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// asked is rest where it has to work; the answer is read into out, which may be nil.
func (g *gateway) asked(method, path, body string, want int, out any) {
	g.t.Helper()
	status, answer, err := g.rest(method, path, []byte(body))
	if err != nil || status != want {
		g.t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			g.t.Fatalf("%s %s: %v: %s", method, path, err, answer)
		}
	}
}

// thing is a device of Fleets: a connection whose packets are read at any time, each
// message acknowledged and kept until a test asks for it.
type thing struct {
	*client
	name  string
	inbox []*packet.Publish
	id    uint16
}

func (g *gateway) thing(name string, p packet.Connect) *thing {
	g.t.Helper()
	if p.Version == 0 {
		p.Version = packet.V5
	}
	if p.ClientID == "" {
		p.ClientID = name
	}
	c, _ := g.login(p)
	return &thing{client: c, name: name}
}

// until reads packets until one is what was waited for; messages are kept.
func (d *thing) until(wanted func(packet.Packet) bool) {
	d.t.Helper()
	for {
		p := d.recv()
		if m, ok := p.(*packet.Publish); ok {
			if m.QoS > 0 {
				d.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
			}
			d.inbox = append(d.inbox, m)
		} else if p == nil {
			d.t.Fatalf("%s: the connection ended", d.name)
		}
		if wanted(p) {
			return
		}
	}
}

// say publishes at QoS 1 and returns the PUBACK's code.
func (d *thing) say(topic string, payload []byte) (code byte) {
	d.t.Helper()
	d.id++
	d.send(&packet.Publish{Topic: topic, Payload: payload, QoS: 1, ID: d.id})
	d.until(func(p packet.Packet) bool {
		ack, ok := p.(*packet.Ack)
		if ok {
			code = ack.Code
		}
		return ok && ack.ID == d.id
	})
	return code
}

// want subscribes and returns the code.
func (d *thing) want(filter string) (code byte) {
	d.t.Helper()
	d.id++
	d.send(&packet.Subscribe{ID: d.id, Filters: []packet.Filter{{Topic: filter, QoS: 1}}})
	d.until(func(p packet.Packet) bool {
		ack, ok := p.(*packet.Suback)
		if ok {
			code = ack.Codes[0]
		}
		return ok
	})
	return code
}

// settled waits until everything that the gateway had to say was said.
func (d *thing) settled() {
	d.t.Helper()
	d.send(&packet.Pingreq{})
	d.until(func(p packet.Packet) bool { _, ok := p.(*packet.Pingresp); return ok })
}

// heard takes the first message of a topic out of the inbox, and waits for it.
func (d *thing) heard(topic string) *packet.Publish {
	d.t.Helper()
	is := func(m *packet.Publish) bool { return m.Topic == topic }
	if !slices.ContainsFunc(d.inbox, is) {
		d.until(func(p packet.Packet) bool { m, ok := p.(*packet.Publish); return ok && is(m) })
	}
	i := slices.IndexFunc(d.inbox, is)
	m := d.inbox[i]
	d.inbox = slices.Delete(d.inbox, i, i+1)
	return m
}

// witness reads the log and the quarantine of application fleet from their beginnings.
type witness struct {
	mu          sync.Mutex
	log         []event.Event
	quarantined []event.Event
}

func (g *gateway) witness() *witness {
	g.t.Helper()
	w := &witness{}
	for source, to := range map[string]*[]event.Event{"app/fleet": &w.log, "quarantine/fleet": &w.quarantined} {
		c := g.in("witness/"+source, "ak_test", "sk_test")
		if code := c.subscribe(source, "stream-offset", "first"); code != 1 {
			g.t.Fatalf("SUBACK %#x", code)
		}
		go func() {
			for {
				p, err := c.read()
				if err != nil {
					return
				}
				m, ok := p.(*packet.Publish)
				if !ok {
					continue
				}
				var e event.Event
				if err := codec.ParseJSON(m.Payload, &e); err != nil {
					g.t.Errorf("not a CloudEvent: %v: %s", err, m.Payload)
				}
				w.mu.Lock()
				*to = append(*to, e)
				w.mu.Unlock()
				if c.write(&packet.Ack{Type: packet.PUBACK, ID: m.ID}) != nil {
					return
				}
			}
		}()
	}
	return w
}

// seen says whether an event was logged, or quarantined, so far.
func (w *witness) seen(quarantine bool, is func(*event.Event) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.log
	if quarantine {
		list = w.quarantined
	}
	return slices.ContainsFunc(list, func(e event.Event) bool { return is(&e) })
}

// A step of an exchange. Exactly one of the first members says what it is.
type step struct {
	Publish     string // topic; the thing says payload, or raw
	Subscribe   string // filter
	Expect      string // topic of a message, and what its payload has
	Never       string // no message of the topic came
	HTTP        string // method and path of the back end's request, with payload
	Event       string // type and subject of an event in the log, and what its data has
	Quarantined bool   // what the thing said is in quarantine

	Payload     any
	Raw         *string
	Absent      []string          // members that the payload must not have
	Code        byte              // of the PUBACK or SUBACK in MQTT 5
	Code311     byte              // of the SUBACK in MQTT 3.1.1
	Expiry      uint32            // s, in MQTT 5
	Credentials string            // of the HTTP request; "-": none
	Status      int               // of the answer
	Answer      any               // what the answer has
	Save        map[string]string // members of the answer, by the placeholder that stands for each thereafter
}

// exchange is a line of testdata/fleets.jsonl. Placeholders are {thing}, {other}
// and what steps save.
type exchange struct {
	ID    string
	HTTP  bool // Fleets has it over HTTP too
	Steps []json.RawMessage
}

// exchanger is who runs an exchange's steps.
type exchanger struct {
	t       *testing.T
	g       *gateway
	witness *witness
	thing   *thing // nil: it speaks HTTP
	name    string
	names   []string // placeholders and what they stand for
	answers []*packet.Publish
}

func (x *exchanger) run(raw json.RawMessage) {
	x.t.Helper()
	var s step
	in := json.NewDecoder(strings.NewReader(strings.NewReplacer(x.names...).Replace(string(raw))))
	in.DisallowUnknownFields()
	if err := in.Decode(&s); err != nil {
		x.t.Fatalf("%v: %s", err, raw)
	}
	switch {
	case s.Publish != "":
		x.publish(&s)
	case s.Subscribe != "":
		want := s.Code
		if x.thing.version == packet.V311 && want >= 0x80 {
			want = 0x80
		}
		if code := x.thing.want(s.Subscribe); code != want {
			x.t.Errorf("subscribing to %s: SUBACK %d, want %d", s.Subscribe, code, want)
		}
	case s.Expect != "":
		x.expect(&s)
	case s.Never != "":
		x.thing.settled()
		for _, m := range x.thing.inbox {
			if m.Topic == s.Never {
				x.t.Errorf("%s came: %s", m.Topic, m.Payload)
			}
		}
	case s.HTTP != "":
		x.request(&s)
	case s.Event != "":
		typ, subject, _ := strings.Cut(s.Event, " ")
		eventually(x.t, "an event "+s.Event, func() bool {
			return x.witness.seen(false, func(e *event.Event) bool {
				return e.Device == x.name && e.Type == "io.tributary.fleets."+typ && e.Subject == subject &&
					len(differences("", s.Payload, decoded(e.Data))) == 0
			})
		})
	case s.Quarantined:
		eventually(x.t, "the event in quarantine", func() bool {
			return x.witness.seen(true, func(e *event.Event) bool { return e.Device == x.name })
		})
	default:
		x.t.Fatalf("no step: %s", raw)
	}
}

func (x *exchanger) publish(s *step) {
	x.t.Helper()
	payload := []byte(encoded(s.Payload))
	if s.Raw != nil {
		payload = []byte(*s.Raw)
	}
	if x.thing == nil {
		x.answers = append(x.answers, x.overHTTP(s.Publish, s.Payload))
		return
	}
	code := x.thing.say(s.Publish, payload)
	if x.thing.version == packet.V5 && code != s.Code {
		x.t.Errorf("publishing to %s: PUBACK %d, want %d", s.Publish, code, s.Code)
	}
}

// overHTTP does by REST what the thing would publish, and returns the answer as
// what the thing would hear.
func (x *exchanger) overHTTP(topic string, payload any) *packet.Publish {
	x.t.Helper()
	body := map[string]any{}
	for name, v := range payload.(map[string]any) {
		body[name] = v
	}
	body["thingName"] = x.name
	rest := strings.TrimPrefix(topic, "$emqx/things/"+x.name)
	path := "/api/v1/thing-datas" + rest
	switch {
	case rest == "/shadow/update":
		path = "/api/v1/thing-datas/shadow/reported"
	case strings.HasPrefix(rest, "/events/"):
		path, body["eventType"] = "/api/v1/thing-datas/events", strings.TrimPrefix(rest, "/events/")
	}
	status, answer, err := x.g.rest("POST", path, []byte(encoded(body)))
	if err != nil {
		x.t.Fatal(err)
	}
	if status < 300 {
		return &packet.Publish{Topic: topic + "/accepted", Payload: answer}
	}
	var says struct{ Code any }
	if err := json.Unmarshal(answer, &says); err != nil {
		x.t.Fatalf("%d %s", status, answer)
	}
	if code, ok := says.Code.(float64); ok && int(code) != status {
		x.t.Errorf("the status is %d, the answer %s", status, answer)
	}
	return &packet.Publish{Topic: topic + "/rejected", Payload: answer}
}

func (x *exchanger) expect(s *step) {
	x.t.Helper()
	var m *packet.Publish
	if x.thing == nil {
		m = x.answers[len(x.answers)-1]
		if m.Topic != s.Expect {
			x.t.Fatalf("the answer is %s %s", m.Topic, m.Payload)
		}
	} else {
		m = x.thing.heard(s.Expect)
	}
	got := decoded(m.Payload)
	for _, d := range differences("", s.Payload, got) {
		x.t.Errorf("%s: %s: %s", s.Expect, d, m.Payload)
	}
	for _, name := range s.Absent {
		if object, _ := got.(map[string]any); object == nil || object[name] != nil {
			x.t.Errorf("%s must not have %s: %s", s.Expect, name, m.Payload)
		}
	}
	if s.Expiry != 0 && x.thing.version == packet.V5 && (m.Props == nil || m.Props.MessageExpiry == nil ||
		*m.Props.MessageExpiry+1 < s.Expiry || *m.Props.MessageExpiry > s.Expiry) {
		x.t.Errorf("%s: message expiry of %+v, want %d", s.Expect, m.Props, s.Expiry)
	}
}

func (x *exchanger) request(s *step) {
	x.t.Helper()
	method, path, _ := strings.Cut(s.HTTP, " ")
	var body []byte
	if s.Payload != nil {
		body = []byte(encoded(s.Payload))
	}
	credentials := "ak_test:sk_test"
	if s.Credentials != "" {
		credentials = s.Credentials
	}
	ask := func() (int, any, []byte) {
		status, answer, err := x.g.rest(method, path, body, credentials)
		if err != nil {
			x.t.Fatal(err)
		}
		return status, decoded(answer), answer
	}
	status, got, answer := ask()
	for end := time.Now().Add(patience); method == "GET" && len(differences("", s.Answer, got)) > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond) // until the timer is due
		status, got, answer = ask()
	}
	if status != s.Status {
		x.t.Fatalf("%s: %d %s", s.HTTP, status, answer)
	}
	for _, d := range differences("", s.Answer, got) {
		x.t.Errorf("%s: %s: %s", s.HTTP, d, answer)
	}
	for placeholder, member := range s.Save {
		text, _ := got.(map[string]any)[member].(string)
		if text == "" {
			x.t.Fatalf("%s: no %s: %s", s.HTTP, member, answer)
		}
		x.names = append(x.names, "{"+placeholder+"}", text)
	}
}

func encoded(v any) string {
	if v == nil {
		return ""
	}
	b, _ := json.Marshal(v) // it came out of JSON
	return string(b)
}

// decoded is nil for what is no JSON.
func decoded(b []byte) (v any) {
	_ = json.Unmarshal(b, &v)
	return v
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// differences says where got lacks something of want, both decoded JSON. Members of
// objects that want does not name do not count. "TS" stands for a time of this
// century, "ANY" for anything, "UUID" for a random one.
func differences(path string, want, got any) (list []string) {
	switch want := want.(type) {
	case nil:
		return nil
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return []string{path + " is no object"}
		}
		for name, w := range want {
			if v, there := object[name]; !there {
				list = append(list, path+"/"+name+" is missing")
			} else {
				list = append(list, differences(path+"/"+name, w, v)...)
			}
		}
		return list
	case []any:
		array, ok := got.([]any)
		if !ok || len(array) != len(want) {
			return []string{fmt.Sprintf("%s must be an array of %d", path, len(want))}
		}
		for i, w := range want {
			list = append(list, differences(fmt.Sprint(path, "/", i), w, array[i])...)
		}
		return list
	case string:
		n, _ := got.(float64)
		text, _ := got.(string)
		if want == "TS" && n > 1e9 || want == "ANY" || want == "UUID" && uuidForm.MatchString(text) {
			return nil
		}
	}
	if want != got {
		return []string{fmt.Sprintf("%s is %v, want %v", path, got, want)}
	}
	return nil
}

func exchanges(t *testing.T) (list []exchange) {
	t.Helper()
	text, err := os.ReadFile("testdata/fleets.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var x exchange
		if err := json.Unmarshal(line, &x); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, x)
	}
	return list
}

func TestFleets(t *testing.T) {
	g := start(t, fleets(t, ""))
	w := g.witness()
	list := exchanges(t)
	for n := range 25 {
		id := fmt.Sprintf("FL%02d", n+1)
		if !slices.ContainsFunc(list, func(x exchange) bool { return x.ID == id }) {
			t.Errorf("there is no %s", id)
		}
	}
	for _, protocol := range []string{"3.1.1", "5", "HTTP"} {
		for _, x := range list {
			if protocol == "HTTP" && !x.HTTP {
				continue
			}
			t.Run(protocol+"/"+x.ID, func(t *testing.T) {
				name := strings.ToLower(strings.ReplaceAll("t-"+x.ID+"-"+protocol, ".", ""))
				e := &exchanger{t: t, g: g, witness: w, name: name, names: []string{"{thing}", name, "{other}", "other-" + name}}
				if protocol != "HTTP" {
					p := packet.Connect{Version: packet.V5, CleanStart: true}
					if protocol == "3.1.1" {
						p.Version = packet.V311
					}
					e.thing = g.thing(name, p)
					e.thing.t = t
					defer e.thing.nc.Close()
				}
				for _, s := range x.Steps {
					e.run(s)
				}
			})
		}
	}
	checkFleetsEvents(t, w)
}

// curl does what net/http does in the other tests.
func TestFleetsCurl(t *testing.T) {
	curl := program(t, "curl")
	g := start(t, fleets(t, ""))
	base := "http://" + g.out.address("http.rest") + "/api/v1"
	run := func(args ...string) string {
		out, err := exec.Command(curl, append([]string{"-sS", "-w", " %{http_code} %{content_type}"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v: %s", err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{base + "/thing-datas/c1/shadow"}, " 401 application/problem+json"},
		{[]string{"-u", "ak_test:wrong", base + "/thing-datas/c1/shadow"}, " 401 application/problem+json"},
		{[]string{"-u", "ak_test:sk_test", base + "/thing-datas/c1/shadow"}, `"version":0,`},
		{[]string{"-u", "ak_test:sk_test", "-X", "PUT", "-d", `{"state":{"a":1}}`, base + "/things/c1/shadow/desired"}, " 200 application/json"},
		{[]string{"-H", "Authorization: Basic YWtfdGVzdDpza190ZXN0", base + "/thing-datas/c1/shadow"}, `"delta":{"a":1}`},
		{[]string{"-u", "ak_test:sk_test", "-d", `{"thingName":"c1","state":{"reported":{"a":1}},"version":1,"clientToken":"x"}`,
			base + "/thing-datas/shadow/reported"}, `"clientToken":"x"} 200`},
		{[]string{"-u", "ak_test:sk_test", "-d", `{"thingName":"c1","state":{"reported":{"a":1}},"version":1}`,
			base + "/thing-datas/shadow/reported"}, " 409 application/json"},
		{[]string{"-u", "ak_test:sk_test", "-d", `{"document":{},"targets":{"thingNames":["c1"]}}`, base + "/jobs"}, " 201 application/json"},
		{[]string{"-u", "ak_test:sk_test", "-X", "DELETE", base + "/commands"}, " 405 application/json"},
		{[]string{"-u", "ak_test:sk_test", base + "/nothing"}, " 404 application/json"},
	} {
		if got := run(c.args...); !strings.Contains(got, c.want) {
			t.Errorf("curl %v: %s, want %s", c.args, got, c.want)
		}
	}
}
