package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/xdg-go/scram"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Every kind of credential over a real gateway: accepted when right; refused when
// wrong, expired, revoked or replayed, with the code that docs/operations.md has
// for it, in MQTT 5 and in 3.1.1.

// The codes of CONNACK.
const (
	accepted       = 0x00
	badCredentials = 0x86
	notAuthorized  = 0x87
	unavailable    = 0x88
	badMethod      = 0x8C
)

// in311 is what MQTT 3.1.1 says for a code of MQTT 5.
func in311(code byte) byte {
	switch code {
	case accepted:
		return 0
	case badCredentials:
		return 4
	case notAuthorized:
		return 5
	}
	return 3
}

// attempt is one try to connect.
type attempt struct {
	name     string
	username string // empty: none
	password string // empty: none
	clientID string // empty: c1
	want     byte
	only5    bool // MQTT 3.1.1 knows no such CONNECT
}

func (a attempt) connect(version byte) packet.Connect {
	id := a.clientID
	if id == "" {
		id = "c1"
	}
	return packet.Connect{Version: version, CleanStart: true, ClientID: id, Username: a.username, HasUsername: a.username != "",
		Password: []byte(a.password), HasPassword: a.password != ""}
}

// try makes every attempt in both versions.
func (g *gateway) try2(attempts ...attempt) {
	g.t.Helper()
	for _, a := range attempts {
		for _, version := range []byte{packet.V5, packet.V311} {
			if a.only5 && version != packet.V5 {
				continue
			}
			want := a.want
			if version == packet.V311 {
				want = in311(want)
			}
			c := g.dial(version)
			p := a.connect(version)
			c.send(&p)
			if ack := expect[*packet.Connack](c); ack.Code != want {
				g.t.Errorf("%s, version %d: CONNACK %#x %s, want %#x", a.name, version, ack.Code, reason(ack.Props), want)
			}
			c.nc.Close()
		}
	}
}

// open5 connects with what must be right.
func (g *gateway) open5(a attempt) *client {
	g.t.Helper()
	c, _ := g.login(a.connect(packet.V5))
	return c
}

// ended expects that the gateway ends the connection with a code.
func (c *client) ended(code byte) {
	c.t.Helper()
	if d := expect[*packet.Disconnect](c); d.Code != code {
		c.t.Errorf("DISCONNECT %#x %s, want %#x", d.Code, reason(d.Props), code)
	}
}

// api does a request to the admin API with the token of this machine, and reads
// the answer into out, which may be nil.
func (g *gateway) api(method, path string, body, out any) {
	g.t.Helper()
	token, err := os.ReadFile(filepath.Join(g.dir, "admin.token"))
	if err != nil {
		g.t.Fatal(err)
	}
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			g.t.Fatal(err)
		}
	}
	req, err := http.NewRequest(method, "http://"+g.admin+"/api/v1"+path, &content)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		g.t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, answer, err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			g.t.Fatal(err)
		}
	}
}

// made is a credential that the admin API made.
type made struct{ ID, Secret string }

func (g *gateway) credential(owner, kind string, more map[string]any) (m made) {
	g.t.Helper()
	body := map[string]any{"kind": kind}
	for k, v := range more {
		body[k] = v
	}
	g.api("POST", owner+"/credentials", body, &m)
	return m
}

// guarded is a gateway whose application "plant" knows devices d1 and off, which is
// disabled; tables are further settings, behind those of the listener.
func guarded(t *testing.T, auth, tables string) *gateway {
	t.Helper()
	return start(t, `
[listeners.mqtt.tcp]
auth = [`+auth+`]
login_failures = 0
`+demo("", `
[[routes]]
application = "plant"
plugin = "drogue"
[applications.plant]
messaging = true
[applications.plant.devices.d1]
publish = ["{device}", "{username}", "open", "secret"]
[applications.plant.devices.off]
disabled = true
`+tables))
}

func TestCredentialsOfTheRegistry(t *testing.T) {
	g := guarded(t, `"certificate", "apikey", "password", "scram", "anonymous"`, `
[users.alice]
password_hashes = ["`+hashed(t, "alice's")+`"]
read = ["plant"]
`)
	// What gateway.toml declares takes no credentials at run time, so d2 is made there.
	g.api("PUT", "/applications/field", map[string]any{"name": "field"}, nil)
	const d2 = "/applications/field/devices/d2"
	g.api("PUT", d2, map[string]any{"application": "field", "name": "d2", "publish": []string{"#"}, "subscribe": []string{"#"}}, nil)
	key, password := g.credential(d2, "key", nil), g.credential(d2, "password", map[string]any{"password": "pass of d2"})
	expiring := g.credential(d2, "key", map[string]any{"expires": time.Now().Add(3 * time.Second).UTC().Format(time.RFC3339)})
	g.try2(
		attempt{name: "password", username: "d2@field", password: "pass of d2", want: accepted},
		attempt{name: "wrong password", username: "d2@field", password: "wrong", want: badCredentials},
		attempt{name: "password of an unknown device", username: "d3@field", password: "wrong", want: badCredentials},
		attempt{name: "password of an unknown application", username: "d2@nowhere", password: "wrong", want: badCredentials},
		attempt{name: "user name alone", username: "d2@field", want: badCredentials},
		attempt{name: "password alone", password: "pass of d2", want: badCredentials, only5: true},
		attempt{name: "user", username: "alice", password: "alice's", want: accepted},
		attempt{name: "user, wrong password", username: "alice", password: "wrong", want: badCredentials},
		attempt{name: "key", username: "d2@field", password: key.Secret, want: accepted},
		attempt{name: "key of somebody else", username: "alice", password: key.Secret, want: badCredentials},
		attempt{name: "key, one letter off", username: "d2@field", password: key.Secret[:len(key.Secret)-1] + "_", want: badCredentials},
		attempt{name: "anonymous", clientID: "free", want: accepted},
		attempt{name: "anonymous where that is not allowed", username: "@field", clientID: "free", want: notAuthorized},
	)
	// An expiry ends the connection that it opened, and the credential.
	brief := g.open5(attempt{username: "d2@field", password: expiring.Secret})
	brief.ended(notAuthorized)
	g.try2(attempt{name: "expired key", username: "d2@field", password: expiring.Secret, want: notAuthorized})
	// So does a revocation, and leaves what another credential opened.
	byKey, byPassword := g.open5(attempt{username: "d2@field", password: key.Secret, clientID: "k"}), g.open5(attempt{username: "d2@field",
		password: "pass of d2", clientID: "p"})
	g.api("DELETE", d2+"/credentials/"+key.ID, nil, nil)
	byKey.ended(notAuthorized)
	byPassword.quiet()
	g.try2(attempt{name: "revoked key", username: "d2@field", password: key.Secret, want: badCredentials},
		attempt{name: "the other credential", username: "d2@field", password: "pass of d2", want: accepted, clientID: "x"})
	g.api("PUT", d2, map[string]any{"application": "field", "name": "d2", "publish": []string{"#"}, "subscribe": []string{"#"},
		"disabled": true}, nil)
	byPassword.ended(notAuthorized)
	g.try2(attempt{name: "disabled", username: "d2@field", password: "pass of d2", want: notAuthorized},
		attempt{name: "disabled, wrong password", username: "d2@field", password: "wrong", want: badCredentials})
	g.api("DELETE", d2, nil, nil)
	g.try2(attempt{name: "deleted", username: "d2@field", password: "pass of d2", want: badCredentials})
	_ = password
}

// prove runs an exchange and returns what each side said, and the gateway's last
// packet: CONNACK, or what came in its place.
func (g *gateway) prove(user, password string) (said []string, last packet.Packet) {
	g.t.Helper()
	sc, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		g.t.Fatal(err)
	}
	talk := sc.NewConversation()
	first, err := talk.Step("")
	if err != nil {
		g.t.Fatal(err)
	}
	c := g.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "s1",
		Props: &packet.Properties{AuthMethod: ptr("SCRAM-SHA-256"), AuthData: []byte(first)}})
	auth, ok := c.recv().(*packet.Auth)
	if !ok {
		return []string{first}, nil
	}
	final, err := talk.Step(string(auth.Props.AuthData))
	if err != nil {
		g.t.Fatal(err)
	}
	c.send(&packet.Auth{Code: packet.CodeContinueAuthentication, Props: &packet.Properties{AuthMethod: ptr("SCRAM-SHA-256"),
		AuthData: []byte(final)}})
	last = c.recv()
	if ack, ok := last.(*packet.Connack); ok && ack.Code == 0 {
		if _, err := talk.Step(string(ack.Props.AuthData)); err != nil || !talk.Valid() {
			g.t.Errorf("the gateway did not prove itself: %v", err)
		}
	}
	return []string{first, string(auth.Props.AuthData), final}, last
}

func TestCredentialsScram(t *testing.T) {
	g := guarded(t, `"scram"`, "")
	g.api("PUT", "/applications/field", map[string]any{"name": "field"}, nil)
	const d2 = "/applications/field/devices/d2"
	g.api("PUT", d2, map[string]any{"application": "field", "name": "d2", "publish": []string{"#"}, "subscribe": []string{"#"}}, nil)
	proof := g.credential(d2, "scram-sha-256", map[string]any{"password": "pencil"})
	code := func(p packet.Packet) byte {
		t.Helper()
		ack, ok := p.(*packet.Connack)
		if !ok {
			t.Fatalf("got %T %+v", p, p)
		}
		return ack.Code
	}
	said, last := g.prove("d2@field", "pencil")
	if c := code(last); c != accepted {
		t.Fatalf("CONNACK %#x", c)
	}
	if _, last := g.prove("d2@field", "wrong"); code(last) != badCredentials {
		t.Errorf("wrong password: %+v", last)
	}
	unknown, last := g.prove("d3@field", "wrong")
	if code(last) != badCredentials || len(unknown[1]) != len(said[1]) {
		t.Errorf("unknown device: %+v after %q", last, unknown[1])
	}
	// What was heard before proves nothing.
	c := g.dial(packet.V5)
	props := func(data string) *packet.Properties {
		return &packet.Properties{AuthMethod: ptr("SCRAM-SHA-256"), AuthData: []byte(data)}
	}
	c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "replay", Props: props(said[0])})
	expect[*packet.Auth](c)
	c.send(&packet.Auth{Code: packet.CodeContinueAuthentication, Props: props(said[2])})
	if ack := expect[*packet.Connack](c); ack.Code != badCredentials {
		t.Errorf("replayed: CONNACK %#x", ack.Code)
	}
	c = g.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "x", Props: &packet.Properties{AuthMethod: ptr("GS2-KRB5")}})
	if ack := expect[*packet.Connack](c); ack.Code != badMethod {
		t.Errorf("another method: CONNACK %#x", ack.Code)
	}
	g.api("DELETE", d2+"/credentials/"+proof.ID, nil, nil)
	if _, last := g.prove("d2@field", "pencil"); code(last) != badCredentials {
		t.Errorf("revoked: %+v", last)
	}
	g.try2(attempt{name: "in clear", username: "d2@field", password: "pencil", want: badCredentials})
}

// provider is an OpenID Connect provider with one key.
type provider struct {
	*httptest.Server
	t   *testing.T
	key *ecdsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256"}}})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// token makes a token for d1 that holds for so long; changes are pairs of claims.
func (p *provider) token(lasts time.Duration, changes ...any) string {
	p.t.Helper()
	claims := map[string]any{"iss": p.URL, "sub": "s-1", "aud": "tributary", "exp": time.Now().Add(lasts).Unix(), "device": "d1"}
	for i := 0; i < len(changes); i += 2 {
		claims[changes[i].(string)] = changes[i+1]
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k1"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	jws, err := signer.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return token
}

func TestCredentialsTokens(t *testing.T) {
	p := newProvider(t)
	g := guarded(t, `"oidc.main", "password"`, `
[auth.oidc.main]
issuer = "`+p.URL+`"
audience = ["tributary"]
applications = ["plant"]
device_claim = "device"
leeway = "0s"
[auth.oidc.main.roles."{application}:read"]
read = ["{application}"]
`)
	good := p.token(time.Hour)
	forged := good[:len(good)-8] + "AAAAAAAA"
	g.try2(
		attempt{name: "token as user name", username: good, want: accepted},
		attempt{name: "token as password", password: good, want: accepted, only5: true},
		attempt{name: "token as password with a user name", username: "d1", password: good, want: accepted},
		attempt{name: "token twice", username: good, password: good, want: badCredentials},
		attempt{name: "forged", username: forged, want: badCredentials},
		attempt{name: "expired", username: p.token(-time.Second), want: badCredentials},
		attempt{name: "for another audience", username: p.token(time.Hour, "aud", "other"), want: badCredentials},
		attempt{name: "from another issuer", username: p.token(time.Hour, "iss", "https://other.example.com"), want: badCredentials},
		attempt{name: "not yet valid", username: p.token(time.Hour, "nbf", time.Now().Add(time.Hour).Unix()), want: badCredentials},
		attempt{name: "of an unknown device", username: p.token(time.Hour, "device", "d9"), want: badCredentials},
		attempt{name: "of a disabled device", username: p.token(time.Hour, "device", "off"), want: notAuthorized},
		attempt{name: "nothing", want: notAuthorized},
	)
	// Nobody proved the user name beside a token, so it gives no right.
	c := g.open5(attempt{username: "victim", password: good})
	c.accepted("d1", "y")
	if ack := c.publish("victim", "y"); ack.Code != notAuthorized {
		t.Errorf("PUBACK %#x for a topic of the user name that nobody proved", ack.Code)
	}
	// A consumer whose role comes with the token.
	reader := g.open5(attempt{username: p.token(time.Hour, "device", "", "scope", "plant:read x"), clientID: "reader"})
	if code := reader.subscribe("app/plant"); code != 1 {
		t.Errorf("SUBACK %#x", code)
	}
	if code := reader.subscribe("app/demo"); code != notAuthorized {
		t.Errorf("SUBACK %#x of another application", code)
	}
	// The connection ends with its token, unless the client hands in another.
	brief := g.open5(attempt{username: p.token(2 * time.Second), clientID: "brief"})
	bearer := func(token string) *packet.Properties {
		return &packet.Properties{AuthMethod: ptr("OAUTHBEARER"), AuthData: []byte("n,,\x01auth=Bearer " + token + "\x01\x01")}
	}
	renewing, _ := g.login(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "renewing", Props: bearer(p.token(2 * time.Second))})
	renewing.send(&packet.Auth{Code: packet.CodeReauthenticate, Props: bearer(good)})
	if a := expect[*packet.Auth](renewing); a.Code != 0 {
		t.Errorf("AUTH %#x", a.Code)
	}
	brief.ended(notAuthorized)
	renewing.quiet()
	renewing.send(&packet.Auth{Code: packet.CodeReauthenticate, Props: bearer(p.token(time.Hour, "device", "", "sub", "else"))})
	renewing.ended(notAuthorized) // somebody else's
}

func TestCredentialsProviderDown(t *testing.T) {
	p := newProvider(t)
	token := p.token(time.Hour)
	p.Close()
	g := guarded(t, `"oidc.main"`, `
[auth.oidc.main]
issuer = "`+p.URL+`"
audience = ["tributary"]
`)
	g.try2(attempt{name: "token while the provider is down", username: token, want: unavailable})
}

func TestCredentialsCallout(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in map[string]string
		json.NewDecoder(r.Body).Decode(&in)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/acl" && in["topic"] == "secret":
			io.WriteString(w, `{"result":"deny"}`)
		case r.URL.Path == "/acl" || in["password"] == "right":
			io.WriteString(w, `{"result":"allow"}`)
		case in["password"] == "banned":
			io.WriteString(w, `{"result":"deny"}`)
		case in["password"] == "trouble":
			w.WriteHeader(http.StatusInternalServerError)
		default:
			io.WriteString(w, `{"result":"ignore"}`)
		}
	}))
	t.Cleanup(service.Close)
	g := guarded(t, `"http.main"`, `
[auth.http.main]
url = "`+service.URL+`/auth"
acl_url = "`+service.URL+`/acl"
applications = ["plant"]
`)
	g.try2(
		attempt{name: "allow", clientID: "d1", username: "u", password: "right", want: accepted},
		attempt{name: "ignore", clientID: "d1", username: "u", password: "wrong", want: badCredentials},
		attempt{name: "deny", clientID: "d1", username: "u", password: "banned", want: notAuthorized},
		attempt{name: "error", clientID: "d1", username: "u", password: "trouble", want: unavailable},
		attempt{name: "unknown device", clientID: "d9", username: "u", password: "right", want: badCredentials},
		attempt{name: "disabled device", clientID: "off", username: "u", password: "right", want: notAuthorized},
	)
	c := g.open5(attempt{clientID: "d1", username: "u", password: "right"})
	c.accepted("open", "y")
	if ack := c.publish("secret", "y"); ack.Code != notAuthorized {
		t.Errorf("PUBACK %#x for a topic that the service denies", ack.Code)
	}
	if ack := c.publish("elsewhere", "y"); ack.Code != notAuthorized {
		t.Errorf("PUBACK %#x for a topic that the registry does not allow", ack.Code)
	}
}

func TestCredentialsVerdict(t *testing.T) {
	g := guarded(t, `"plugin.judge"`, `
[plugins.judge]
path = "`+wasm("judge")+`"
[plugins.judge.grant.judge]
applications = ["plant"]
publish = ["from-{device}"]
[auth.plugin.judge]
applications = ["plant"]
`)
	g.try2(
		attempt{name: "allow", username: "d1", password: "open sesame", want: accepted},
		attempt{name: "deny", username: "d1", password: "wrong", want: notAuthorized},
		attempt{name: "no verdict", username: "d1", password: "trouble", want: unavailable},
		attempt{name: "unknown device", username: "d9", password: "open sesame", want: badCredentials},
		attempt{name: "disabled device", username: "off", password: "open sesame", want: notAuthorized},
	)
	c := g.open5(attempt{username: "d1", password: "open sesame"})
	c.accepted("from-d1", "y")
	if ack := c.publish("d1", "y"); ack.Code != notAuthorized {
		t.Errorf("PUBACK %#x for a topic that the verdict does not allow", ack.Code)
	}
}

func TestCredentialsInMessages(t *testing.T) {
	g := guarded(t, `"apikey", "password", "properties"`, `
[auth.properties]
application = "field"
`)
	g.api("PUT", "/applications/field", map[string]any{"name": "field"}, nil)
	secrets := map[string]string{}
	for _, name := range []string{"parent", "child"} {
		path := "/applications/field/devices/" + name
		g.api("PUT", path, map[string]any{"application": "field", "name": name, "publish": []string{"{device}/#"}, "subscribe": []string{"#"}},
			nil)
		secrets[name] = g.credential(path, "key", nil).Secret
	}
	c := g.open5(attempt{username: "parent@field", password: secrets["parent"]})
	props := func(device, key string) *packet.Properties {
		return &packet.Properties{User: []packet.UserProperty{{Name: "device_id", Value: device}, {Name: "access_key", Value: key}}}
	}
	for _, m := range []struct {
		name, topic string
		props       *packet.Properties
		want        byte
	}{
		{"own", "parent/t", props("parent", secrets["parent"]), accepted},
		{"of a child", "child/t", props("child", secrets["child"]), accepted},
		{"a child with its parent's key", "child/t", props("child", secrets["parent"]), notAuthorized},
		{"a topic of the child with the parent's credentials", "child/t", props("parent", secrets["parent"]), notAuthorized},
		{"wrong", "parent/t", props("parent", "wrong"), notAuthorized},
		{"none", "parent/t", &packet.Properties{}, notAuthorized},
	} {
		// No route takes it, so an accepted message has nobody to get it.
		ack := c.publish(m.topic, "x", m.props)
		if refused := ack.Code >= 0x80; refused != (m.want >= 0x80) || refused && ack.Code != m.want {
			t.Errorf("%s: PUBACK %#x %s, want %#x", m.name, ack.Code, reason(ack.Props), m.want)
		}
	}
	// Without credentials of their own, two connections with one client id are two
	// clients: the one cannot end the other, or get what is meant for it.
	device := g.open5(attempt{clientID: "plain"})
	thief := g.open5(attempt{clientID: "plain"})
	for _, c := range []*client{device, thief} {
		if ack := c.publish("parent/t", "x", props("parent", secrets["parent"])); ack.Code >= 0x80 {
			t.Errorf("PUBACK %#x", ack.Code)
		}
	}
	g.api("DELETE", "/applications/field/devices/child", nil, nil)
	if ack := c.publish("child/t", "x", props("child", secrets["child"])); ack.Code != notAuthorized {
		t.Errorf("of a child that was deleted just now: PUBACK %#x", ack.Code)
	}
}
