package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// The eixam plugin with real clients, REST and providers.

const (
	eixamUser   = "11111111-1111-1111-1111-111111111111"
	eixamSecret = "test-secret"
)

// eixamPlugin is the plugin with what it needs; settings are lines of TOML.
func eixamPlugin(host, settings string) string {
	return `
[plugins.eixam]
path = "` + wasm("eixam") + `"
[plugins.eixam.grant]
emit = ["io.tributary.eixam.*"]
publish = ["sos/events/+"]
about = true
state_bytes = "1GiB"
timers = 100_000
hosts = ["` + host + `"]
[plugins.eixam.grant.judge]
applications = ["eixam"]
publish = ["sos/alerts", "sos/alerts/+", "tel/data", "tel/+/data"]
subscribe = ["sos/events/+"]
[plugins.eixam.settings]
link_secret = "a-secret-of-thirty-two-characters"
public_url = "https://sos.example"
` + settings
}

// eixam is a gateway for it, with the operator ak_test:sk_test, an app partner-app and
// the user partner-user-123, who has two contacts.
func eixam(t *testing.T, host, settings, tables string) *gateway {
	t.Helper()
	g := start(t, eixamPlugin(host, settings)+`
[[routes]]
application = "eixam"
plugin = "eixam"
[applications.eixam]
[users.ak_test]
password_hashes = ["`+hashed(t, "sk_test")+`"]
read = ["eixam"]
write = ["eixam"]
[auth.plugin.eixam]
applications = ["eixam"]
enroll = true
[listeners.mqtt.tcp]
auth = ["plugin.eixam", "password"]
[listeners.http.rest]
address = "127.0.0.1:0"
application = "eixam"
auth = ["plugin.eixam", "apikey", "password"]
public = ["/v1/public/", "/v1/sdk/mqtt/auth/"]
`+tables)
	g.asked("PUT", "/v1/admin/apps/partner-app", `{"secret":"`+eixamSecret+`","actuators":["emergency_contacts","slack"]}`, 200, nil)
	g.asked("POST", "/v1/admin/apps/partner-app/users", `{"id":"`+eixamUser+`","external_user_id":"partner-user-123","name":"Ana"}`, 201, nil)
	for _, phone := range []string{"+34600000001", "+34600000002"} {
		g.asked("POST", "/v1/admin/apps/partner-app/users/"+eixamUser+"/contacts", `{"name":"C","phone":"`+phone+`"}`, 201, nil)
	}
	return g
}

// userHash is what an app's back end gives its user.
func userHash(secret, external string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(external))
	return hex.EncodeToString(mac.Sum(nil))
}

// sdk is a REST request of a user.
func (g *gateway) sdk(method, path, body, app, external, hash string) (status int, answer []byte) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.out.address("http.rest")+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, value := range map[string]string{"X-App-ID": app, "X-User-ID": external, "Authorization": "Bearer " + hash} {
		if value != "" && value != "Bearer " {
			req.Header.Set(name, value)
		}
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// own is a request of partner-user-123 that has to work.
func (g *gateway) own(method, path, body string, want int, out any) {
	g.t.Helper()
	status, answer := g.sdk(method, path, body, "partner-app", "partner-user-123", userHash(eixamSecret, "partner-user-123"))
	if status != want {
		g.t.Fatalf("%s %s: %d %s, want %d", method, path, status, answer, want)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			g.t.Fatalf("%v: %s", err, answer)
		}
	}
}

// knock is the code of a CONNACK. The codes of MQTT 3.1.1 are its own.
func (g *gateway) knock(version byte, username, password string) byte {
	g.t.Helper()
	c := g.dial(version)
	defer c.nc.Close()
	c.send(&packet.Connect{Version: version, CleanStart: true, ClientID: "c", KeepAlive: 30, Username: username, HasUsername: true,
		Password: []byte(password), HasPassword: true})
	return expect[*packet.Connack](c).Code
}

// phone connects a user.
func (g *gateway) phone(version byte, external, hash string) *thing {
	g.t.Helper()
	return g.thing(external, packet.Connect{Version: version, CleanStart: true, KeepAlive: 30, Username: "sdk:partner-app:" + external,
		HasUsername: true,
		Password:    []byte(hash), HasPassword: true})
}

func (g *gateway) ana(version byte) *thing {
	g.t.Helper()
	return g.phone(version, "partner-user-123", userHash(eixamSecret, "partner-user-123"))
}

// Wrong, rotated and foreign credentials get the documented codes, with each protocol.
func TestEixamCredentials(t *testing.T) {
	g := eixam(t, "http://127.0.0.1", "", "")
	g.asked("PUT", "/v1/admin/apps/other-app", `{"secret":"other-secret"}`, 200, nil)
	g.asked("PUT", "/v1/admin/apps/sleeping-app", `{"secret":"s","active":false}`, 200, nil)
	right, foreign := userHash(eixamSecret, "partner-user-123"), userHash("other-secret", "partner-user-123")
	check := func(what, app, external, hash string, v5, v311 byte, status int) {
		t.Helper()
		for version, want := range map[byte]byte{packet.V5: v5, packet.V311: v311} {
			if got := g.knock(version, "sdk:"+app+":"+external, hash); got != want {
				t.Errorf("%s: CONNACK %#x, want %#x with version %d", what, got, want, version)
			}
		}
		got, answer := g.sdk("GET", "/v1/sdk/me", "", app, external, hash)
		if got != status || status == 401 && !strings.Contains(string(answer), `"code":"E_SDK_UNAUTHORIZED"`) {
			t.Errorf("%s: %d %s, want %d", what, got, answer, status)
		}
		allowed, _ := g.sdk("POST", "/v1/sdk/mqtt/auth/connect", "username=sdk:"+app+":"+external+"&password="+hash, "", "", "")
		if want := map[bool]int{true: 200, false: 401}[v5 == 0]; allowed != want {
			t.Errorf("%s: the callback answers %d, want %d", what, allowed, want)
		}
	}
	check("the right hash", "partner-app", "partner-user-123", right, 0, 0, 200)
	check("a wrong hash", "partner-app", "partner-user-123", right[1:]+"0", 0x86, 4, 401)
	check("the hash of somebody else", "partner-app", "somebody", right, 0x86, 4, 401)
	check("a stolen hash in another app", "other-app", "partner-user-123", right, 0x86, 4, 401)
	check("a hash of another app's secret", "partner-app", "partner-user-123", foreign, 0x86, 4, 401)
	check("an unknown app", "no-app", "partner-user-123", right, 0x86, 4, 401)
	check("an app that is not active", "sleeping-app", "x", userHash("s", "x"), 0x87, 5, 401)
	for version, want := range map[byte]byte{packet.V5: 0x86, packet.V311: 4} {
		if got := g.knock(version, "partner-user-123", "x"); got != want {
			t.Errorf("no user name of an SDK user: %#x, want %#x", got, want)
		}
	}
	// The verdict is remembered, and gone with the secret that it rests on.
	g.asked("POST", "/v1/admin/apps/partner-app/secret", `{"secret":"next-secret"}`, 200, nil)
	check("a rotated secret", "partner-app", "partner-user-123", right, 0x86, 4, 401)
	check("the next secret", "partner-app", "partner-user-123", userHash("next-secret", "partner-user-123"), 0, 0, 200)
	g.asked("PUT", "/v1/admin/apps/partner-app", `{"active":false}`, 200, nil)
	check("an app that is not active any more", "partner-app", "partner-user-123", userHash("next-secret", "partner-user-123"), 0x87, 5, 401)
}

// What a phone may say and hear, and what becomes of what it may not.
func TestEixamTopics(t *testing.T) {
	g := eixam(t, "http://127.0.0.1", "", "")
	own, other := "sos/alerts/"+eixamUser, "22222222-2222-2222-2222-222222222222"
	for _, version := range []byte{packet.V311, packet.V5} {
		d := g.ana(version)
		refused := map[byte]byte{packet.V311: 0x80, packet.V5: 0x87}[version]
		for filter, want := range map[string]byte{"sos/events/" + eixamUser: 1, "sos/events/partner-user-123": refused, "sos/events/+": refused,
			"#":                   refused,
			"sos/events/" + other: refused, own: refused} {
			if got := d.want(filter); got != want {
				t.Errorf("version %d, %s: SUBACK %#x, want %#x", version, filter, got, want)
			}
		}
		for topic, want := range map[string]byte{"tel/" + eixamUser + "/data": 0, "tel/" + other + "/data": 0x87, "sos/alerts/" + other: 0x87,
			"sos/events/" + eixamUser: 0x87, "tel/partner-user-123/data": 0x87, "sos/alerts": 0x87} {
			if version == packet.V311 {
				want = 0 // it has no code for a refusal: acknowledged and dropped
			}
			if got := d.say(topic, []byte(`{"timestamp":"2026-04-18T12:00:00Z"}`)); got != want {
				t.Errorf("version %d, %s: PUBACK %#x, want %#x", version, topic, got, want)
			}
		}
		for payload, want := range map[string]byte{`{"timestamp":"2026-04-18T12:00:00Z","latitude":41.3851}`: 0x99, `{}`: 0x99,
			`{"timestamp":"2026-04-18T12:00:00Z","deviceId":"no-such"}`: 0x99} {
			if version == packet.V311 {
				want = 0
			}
			if got := d.say(own, []byte(payload)); got != want {
				t.Errorf("version %d, %s: PUBACK %#x, want %#x", version, payload, got, want)
			}
		}
		// A retain flag is passed over.
		d.id++
		d.send(&packet.Publish{Topic: "tel/" + eixamUser + "/data", QoS: 1, ID: d.id, Retain: true,
			Payload: []byte(`{"timestamp":"2026-04-18T12:00:01Z"}`)})
		d.until(func(p packet.Packet) bool {
			ack, ok := p.(*packet.Ack)
			if ok && ack.Code != 0 {
				t.Errorf("version %d: a retained message: PUBACK %#x", version, ack.Code)
			}
			return ok
		})
		if size, _ := g.metric("tributary_mqtt_retained_bytes"); size != 0 {
			t.Errorf("version %d: a message was retained", version)
		}
		// cleanSession=0 is taken, and the session ends with the connection all the same.
		for range 2 {
			c, ack := g.login(packet.Connect{Version: version, ClientID: "persistent", Username: "sdk:partner-app:partner-user-123",
				HasUsername: true,
				Password:    []byte(userHash(eixamSecret, "partner-user-123")), HasPassword: true, Props: map[byte]*packet.Properties{
					packet.V5: {SessionExpiry: ptr(uint32(1000))}}[version]})
			if ack.SessionPresent {
				t.Errorf("version %d: a session was kept", version)
			}
			c.send(&packet.Disconnect{})
		}
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if q := g.stored(store.Quarantine("eixam")); len(q) != 6 {
		t.Errorf("%d payloads are in quarantine, want 6: %+v", len(q), q)
	}
	if e := g.stored(store.Events("eixam")); len(e) != 4 || e[0].ID != e[2].ID || e[1].ID == e[2].ID || e[0].Device != eixamUser {
		t.Errorf("the log has %+v", e)
	}
}

// A beacon that somebody else's phone hears is its owner's: the event, the incident and
// the message. Nobody hears of it on the phone that passed it on.
func TestEixamRelay(t *testing.T) {
	g := eixam(t, "http://127.0.0.1", "", "")
	g.own("POST", "/v1/sdk/devices", `{"hardware_id":"hw-R"}`, 200, nil)
	owner, relay := g.ana(packet.V5), g.phone(packet.V5, "relay", userHash(eixamSecret, "relay"))
	var me struct{ User struct{ ID string } }
	status, answer := g.sdk("GET", "/v1/sdk/me", "", "partner-app", "relay", userHash(eixamSecret, "relay"))
	if err := json.Unmarshal(answer, &me); err != nil || status != 200 {
		t.Fatal(status, string(answer), err)
	}
	for d, id := range map[*thing]string{owner: eixamUser, relay: me.User.ID} {
		if code := d.want("sos/events/" + id); code != 1 {
			t.Fatalf("SUBACK %#x", code)
		}
	}
	for range 2 { // the second is a repeat
		if code := relay.say("sos/alerts/"+me.User.ID, []byte(`{"timestamp":"2026-04-18T12:00:00Z","deviceId":"hw-R"}`)); code != 0 {
			t.Fatalf("PUBACK %#x", code)
		}
	}
	var said map[string]any
	if err := json.Unmarshal(owner.heard("sos/events/"+eixamUser).Payload, &said); err != nil || said["type"] != "processed" ||
		said["userId"] != eixamUser {
		t.Errorf("the owner heard %v, %v", said, err)
	}
	relay.settled()
	if owner.settled(); len(relay.inbox)+len(owner.inbox) > 0 {
		t.Errorf("there was more to hear: %v %v", relay.inbox, owner.inbox)
	}
	g.stop()
	var seen []string
	for _, e := range g.stored(store.Events("eixam")) {
		seen = append(seen, e.Subject)
		if e.Device != eixamUser || e.Sender != me.User.ID {
			t.Errorf("%s is about %s and of %s", e.Subject, e.Device, e.Sender)
		}
	}
	if fmt.Sprint(seen) != "[alert processed]" {
		t.Errorf("the log has %v", seen)
	}
}

// smsProvider takes orders of text messages, voice calls and deliveries.
type smsProvider struct {
	*httptest.Server
	mu     sync.Mutex
	orders []order
	answer func(o *order, n int) (status int, body string) // n: how often this order was heard before; nil: 200
}

type order struct {
	path, key string
	body      struct{ To, Text, Link, StatusCallback, IncidentID string }
}

func newSMSProvider(t *testing.T) *smsProvider {
	p := &smsProvider{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := order{path: r.URL.Path, key: r.Header.Get("Idempotency-Key")}
		text, _ := io.ReadAll(r.Body)
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&o.body); err != nil {
			t.Errorf("%s: %v: %s", r.URL.Path, err, text)
		}
		p.mu.Lock()
		n := 0
		for i := range p.orders {
			if p.orders[i].key == o.key {
				n++
			}
		}
		p.orders = append(p.orders, o)
		p.mu.Unlock()
		if p.answer == nil {
			return
		}
		status, body := p.answer(&o, n)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(p.Close)
	return p
}

// settings make everything go to the provider, in a second each.
func (p *smsProvider) settings() string {
	return `sms_url = "` + p.URL + `/sms"
voice_url = "` + p.URL + `/voice"
slack_url = "` + p.URL + `/slack"
grace_seconds = "1"
escalate_seconds = "1"
`
}

// ordered waits for the first order of a path.
func (p *smsProvider) ordered(t *testing.T, path string) (found order) {
	t.Helper()
	eventually(t, "an order at "+path, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, o := range p.orders {
			if o.path == path {
				found = o
				return true
			}
		}
		return false
	})
	return found
}

// snapshots are what the log says of the incidents, in its order.
func snapshots(t *testing.T, list []event.Event) map[string][]snapshot {
	t.Helper()
	all := map[string][]snapshot{}
	for _, e := range list {
		if e.Type != "io.tributary.eixam.incident.v1" {
			continue
		}
		var s snapshot
		if err := json.Unmarshal(e.Data, &s); err != nil {
			t.Fatal(err)
		}
		all[s.IncidentID] = append(all[s.IncidentID], s)
	}
	return all
}

type snapshot struct {
	Type, IncidentID, Status string
	SnapshotVersion          int
	Actuators                struct {
		SnapshotVersion int
		Items           []struct {
			ID, Status string
			Contacts   []struct {
				ContactID string
				Channels  []struct{ Channel, Status string }
			}
			Deliveries []struct {
				Attempt int
				Status  string
			}
		}
	}
}
