package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tributary.io/gateway/access"
	"tributary.io/sdk-plugin/event"
)

// idp is an OpenID Connect provider.
type idp struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	keys    []jose.JSONWebKey // published, public
	down    bool
	moved   bool   // keys are redirected
	garbage string // in place of keys
	issuer  string // that it claims; empty: its URL
	asked   int
}

func newIDP(t *testing.T) *idp {
	p := &idp{t: t}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		issuer := p.issuer
		if issuer == "" {
			issuer = p.server.URL
		}
		keys := "/keys"
		if p.moved {
			keys = "/elsewhere"
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": p.server.URL + keys})
	case "/keys":
		p.asked++
		if p.garbage != "" {
			w.Write([]byte(p.garbage))
			return
		}
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
	case "/elsewhere":
		http.Redirect(w, r, "/keys", http.StatusFound)
	default:
		http.NotFound(w, r)
	}
}

func (p *idp) set(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
}

// signer is a key of a provider.
type signer struct {
	id  string
	alg jose.SignatureAlgorithm
	key crypto.Signer
}

func newSigner(t *testing.T, id string, alg jose.SignatureAlgorithm) *signer {
	t.Helper()
	s := &signer{id: id, alg: alg}
	var err error
	if strings.HasPrefix(string(alg), "ES") {
		s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		s.key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: string(s.alg), Use: "sig"}
}

func (s *signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	return sign(t, s.alg, jose.JSONWebKey{Key: s.key, KeyID: s.id}, claims)
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	sg, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := sg.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tokens is a world with a provider "main" whose tokens name devices of demo.
func tokens(t *testing.T, change func(*OIDC)) (*world, *idp, *signer) {
	t.Helper()
	p, s := newIDP(t), newSigner(t, "k1", jose.ES256)
	p.keys = []jose.JSONWebKey{s.public()}
	o := DefaultOIDC()
	o.Issuer, o.Audience, o.Applications, o.DeviceClaim = p.server.URL, []string{"tributary"}, []string{"demo"}, "device"
	if change != nil {
		change(&o)
	}
	cfg := Default()
	cfg.OIDC = map[string]OIDC{"main": o}
	return newWorld(t, cfg, nil), p, s
}

// claims are those of a good token for device d1, changed by pairs.
func (w *world) claims(p *idp, changes ...any) map[string]any {
	now := w.clock.now().Unix()
	c := map[string]any{"iss": p.server.URL, "sub": "subject-1", "aud": "tributary", "exp": now + 600, "iat": now, "device": "d1"}
	for i := 0; i < len(changes); i += 2 {
		if c[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
			delete(c, changes[i].(string))
		}
	}
	return c
}

func TestTokens(t *testing.T) {
	w, p, s := tokens(t, nil)
	chain := w.chain("oidc.main", "password")
	now := w.clock.now().Unix()
	foreign := newSigner(t, "k1", jose.ES256)
	rs := newSigner(t, "k1", jose.RS256)
	header := base64.RawURLEncoding.EncodeToString
	plain, _ := json.Marshal(w.claims(p))
	none := header([]byte(`{"alg":"none"}`)) + "." + header(plain) + "."
	for _, tt := range []struct {
		name  string
		token string
		want  event.Code
	}{
		{"good", s.sign(t, w.claims(p)), event.Success},
		{"good among audiences", s.sign(t, w.claims(p, "aud", []string{"x", "tributary"})), event.Success},
		{"expired within the leeway", s.sign(t, w.claims(p, "exp", now-20)), event.Success},
		{"expired", s.sign(t, w.claims(p, "exp", now-31)), event.BadUserNameOrPassword},
		{"without expiry", s.sign(t, w.claims(p, "exp", nil)), event.BadUserNameOrPassword},
		{"not yet valid", s.sign(t, w.claims(p, "nbf", now+60)), event.BadUserNameOrPassword},
		{"not yet valid, within the leeway", s.sign(t, w.claims(p, "nbf", now+20)), event.Success},
		{"issued in the future", s.sign(t, w.claims(p, "iat", now+3600)), event.BadUserNameOrPassword},
		{"times that are none", s.sign(t, w.claims(p, "nbf", "soon")), event.BadUserNameOrPassword},
		{"wrong issuer", s.sign(t, w.claims(p, "iss", "https://evil.example.com")), event.BadUserNameOrPassword},
		{"wrong audience", s.sign(t, w.claims(p, "aud", "another")), event.BadUserNameOrPassword},
		{"no audience", s.sign(t, w.claims(p, "aud", nil)), event.BadUserNameOrPassword},
		{"no subject", s.sign(t, w.claims(p, "sub", nil)), event.BadUserNameOrPassword},
		{"foreign key under a known id", foreign.sign(t, w.claims(p)), event.BadUserNameOrPassword},
		{"foreign key under an unknown id", newSigner(t, "k9", jose.ES256).sign(t, w.claims(p)), event.BadUserNameOrPassword},
		{"other algorithm than the key's", rs.sign(t, w.claims(p)), event.BadUserNameOrPassword},
		{"algorithm none", none + "c2ln", event.BadUserNameOrPassword},
		{"algorithm none without signature", none, event.BadUserNameOrPassword},
		{"signed with the public key as a secret", sign(t, jose.HS256, jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "k1"},
			w.claims(p)), event.BadUserNameOrPassword},
		{"algorithm that is not allowed", newSigner(t, "k1", jose.RS512).sign(t, w.claims(p)), event.BadUserNameOrPassword},
		{"unknown device", s.sign(t, w.claims(p, "device", "nobody")), event.BadUserNameOrPassword},
		{"disabled device", s.sign(t, w.claims(p, "device", "off")), event.NotAuthorized},
		{"device that widens", s.sign(t, w.claims(p, "device", "d1/#")), event.BadUserNameOrPassword},
		{"tampered", tamper(s.sign(t, w.claims(p))), event.BadUserNameOrPassword},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for where, c := range map[string]*access.Credentials{
				"user name": client(tt.token, ""), "password": client("", tt.token), "password with a user name": client("whoever", tt.token),
			} {
				g, err := chain.Connect(t.Context(), c)
				if code(err) != tt.want {
					t.Errorf("as %s: %v, code %#x, want %#x", where, err, code(err), tt.want)
				}
				if err == nil && (g.Device != "d1" || g.Method != "oidc.main" || g.Credential != "oidc.main/subject-1" ||
					g.Principal != "device:demo/d1") {
					t.Errorf("as %s: %+v", where, g)
				}
				if err == nil && slices.Contains(g.Publish, "u/whoever") {
					t.Error("a user name that nobody proved filled a filter")
				}
			}
		})
	}
	good := s.sign(t, w.claims(p))
	if _, err := chain.Connect(t.Context(), client(good, good)); code(err) != event.BadUserNameOrPassword {
		t.Errorf("as user name and password: %v", err)
	}
	g, err := chain.Connect(t.Context(), client(good, ""))
	if err != nil || !g.Expires.Equal(time.Unix(now+630, 0)) {
		t.Errorf("expires %v, %v", g.Expires, err)
	}
	if g, _ = chain.Connect(t.Context(), client(s.sign(t, w.claims(p, "exp", 1<<52)), "")); g == nil ||
		g.Expires.Sub(w.clock.now()) > longest {
		t.Errorf("a token for ever: %+v", g)
	}
}

// All times of a token have the leeway of the settings, however long.
func TestLeeway(t *testing.T) {
	w, p, s := tokens(t, func(o *OIDC) { o.Leeway = 10 * time.Minute })
	chain := w.chain("oidc.main")
	now := w.clock.now().Unix()
	for _, tt := range []struct {
		claim string
		at    any
		want  event.Code
	}{
		{"nbf", now, event.Success}, {"nbf", now + 590, event.Success}, {"nbf", now + 610, event.BadUserNameOrPassword},
		{"iat", now + 590, event.Success}, {"iat", now + 610, event.BadUserNameOrPassword},
		{"exp", now - 590, event.Success}, {"exp", now - 610, event.BadUserNameOrPassword}, {"exp", 0, event.BadUserNameOrPassword},
		{"exp", nil, event.BadUserNameOrPassword},
	} {
		if _, err := chain.Connect(t.Context(), client("", s.sign(t, w.claims(p, tt.claim, tt.at)))); code(err) != tt.want {
			t.Errorf("%s is %v, now %d: %v, code %#x, want %#x", tt.claim, tt.at, now, err, code(err), tt.want)
		}
	}
	null := w.claims(p)
	null["exp"] = nil // the member is there, and says nothing
	if _, err := chain.Connect(t.Context(), client("", s.sign(t, null))); code(err) != event.BadUserNameOrPassword {
		t.Errorf("without a time to expire: %v", err)
	}
}

// tamper changes one letter of the payload.
func tamper(token string) string {
	b := []byte(token)
	i := strings.IndexByte(token, '.') + 20
	if b[i]++; b[i] == '.' || b[i] > 'y' {
		b[i] = 'A'
	}
	return string(b)
}

func TestKeyRotation(t *testing.T) {
	w, p, s := tokens(t, nil)
	chain := w.chain("oidc.main")
	connect := func(token string) event.Code {
		_, err := chain.Connect(t.Context(), client(token, ""))
		return code(err)
	}
	if c := connect(s.sign(t, w.claims(p))); c != event.Success {
		t.Fatalf("code %#x", c)
	}
	second := newSigner(t, "k2", jose.RS256)
	p.set(func() { p.keys = []jose.JSONWebKey{second.public()} })
	if c := connect(second.sign(t, w.claims(p))); c != event.Success {
		t.Errorf("a key that is new: %#x", c)
	}
	if c := connect(s.sign(t, w.claims(p))); c != event.BadUserNameOrPassword {
		t.Errorf("a key that was withdrawn: %#x", c)
	}
	// Made-up ids do not make a flood of requests.
	for range 50 {
		connect(newSignerLike(s, "made-up").sign(t, w.claims(p)))
	}
	p.mu.Lock()
	if p.asked > fetchBurst {
		t.Errorf("%d requests for keys", p.asked)
	}
	p.mu.Unlock()
	// A key that is withdrawn without another token to tell is gone after keysAge.
	p.set(func() { p.keys = []jose.JSONWebKey{} })
	w.clock.advance(keysAge)
	if c := connect(second.sign(t, w.claims(p))); c != event.BadUserNameOrPassword {
		t.Errorf("a key that was withdrawn an hour ago: %#x", c)
	}
}

func newSignerLike(s *signer, id string) *signer { return &signer{id: id, alg: s.alg, key: s.key} }

func TestProviderIsDown(t *testing.T) {
	w, p, s := tokens(t, nil)
	p.set(func() { p.down = true })
	chain := w.chain("oidc.main", "password")
	connect := func() event.Code {
		_, err := chain.Connect(t.Context(), client("x", s.sign(t, w.claims(p))))
		return code(err)
	}
	for range 3 * fetchBurst {
		if c := connect(); c != event.ServerUnavailable {
			t.Fatalf("while it is down: %#x", c)
		}
	}
	if _, err := chain.Connect(t.Context(), client("d1@demo", "right")); err != nil {
		t.Errorf("another method while it is down: %v", err)
	}
	p.set(func() { p.down = false })
	w.clock.advance(fetchInterval)
	if c := connect(); c != event.Success {
		t.Errorf("when it is back: %#x", c)
	}
	// Once its keys are known it may be down again, even when they are old.
	p.set(func() { p.down = true })
	w.clock.advance(2 * keysAge)
	if c := connect(); c != event.Success {
		t.Errorf("with keys that are known: %#x", c)
	}
	if !strings.Contains(w.log.String(), "answered with status 503") || !strings.Contains(w.log.String(), "answers again") {
		t.Errorf("the log does not tell:\n%s", w.log)
	}
}

func TestProviderAnswersNonsense(t *testing.T) {
	for name, break_ := range map[string]func(*idp){
		"no JSON":             func(p *idp) { p.garbage = "<html>" },
		"no keys":             func(p *idp) { p.garbage = "{}" },
		"another issuer":      func(p *idp) { p.issuer = "https://another.example.com" },
		"an endless issuer":   func(p *idp) { p.issuer = strings.Repeat("x", 2*maxAnswer) },
		"a long issuer":       func(p *idp) { p.issuer = strings.Repeat("x", maxAnswer/2) },
		"more than is taken":  func(p *idp) { p.garbage = `{"keys":[` + strings.Repeat(" ", maxAnswer) + `]}` },
		"keys are not a list": func(p *idp) { p.garbage = `{"keys":7}` },
	} {
		t.Run(name, func(t *testing.T) {
			w, p, s := tokens(t, nil)
			p.set(func() { break_(p) })
			_, err := w.chain("oidc.main").Connect(t.Context(), client("x", s.sign(t, w.claims(p))))
			if code(err) != event.ServerUnavailable {
				t.Errorf("%v", err)
			}
			if w.log.Len() > 1000 {
				t.Errorf("%d bytes in the log", w.log.Len())
			}
		})
	}
}

// What is asked for is asked of the configured provider only.
func TestProviderRedirects(t *testing.T) {
	w, p, s := tokens(t, nil)
	p.set(func() { p.moved = true })
	_, err := w.chain("oidc.main").Connect(t.Context(), client("x", s.sign(t, w.claims(p))))
	if code(err) != event.ServerUnavailable || p.asked != 0 || !strings.Contains(w.log.String(), "redirection") {
		t.Errorf("%v, %d requests, the log says\n%s", err, p.asked, w.log)
	}
}

// Keys that cannot be used leave the others usable.
func TestParseKeys(t *testing.T) {
	good, err := json.Marshal(newSigner(t, "k", jose.ES256).public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := parseKeys([]byte(`{"keys":[{"kty":"OKP","crv":"X448","x":"AA"},{"kty":"oct","k":"c2VjcmV0","kid":"s"},7,` + string(good) +
		`]}`))
	if err != nil || len(keys) != 1 || keys[0].KeyID != "k" {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestTokensOfUsers(t *testing.T) {
	w, p, s := tokens(t, func(o *OIDC) {
		o.UserClaim, o.RolesClaim = "preferred_username", "realm_access.roles"
		o.Roles = map[string]Role{
			"{application}:read": {Read: []string{"{application}"}},
			"admin":              {Read: []string{"*"}, Write: []string{"fleet-*"}},
		}
	})
	chain := w.chain("oidc.main")
	roles := func(list ...string) map[string]any { return map[string]any{"roles": list} }
	for _, tt := range []struct {
		name        string
		claims      map[string]any
		want        event.Code
		principal   string
		read, write []string
	}{
		{"user of the registry", w.claims(p, "device", nil, "preferred_username", "alice"), event.Success, "user:alice", []string{"demo"}, nil},
		{"unknown user", w.claims(p, "device", nil, "preferred_username", "mallory"), event.BadUserNameOrPassword, "", nil, nil},
		{"roles", w.claims(p, "device", nil, "realm_access", roles("demo:read", "other:read", "x")), event.Success, "oidc.main/subject-1",
			[]string{"demo", "other"}, nil},
		{"role for all", w.claims(p, "device", nil, "realm_access", roles("admin")), event.Success, "oidc.main/subject-1", []string{"*"},
			[]string{"fleet-*"}},
		{"role that would widen", w.claims(p, "device", nil, "realm_access", roles("*:read", "a/b:read", "{application}:read", ":read")),
			event.Success, "oidc.main/subject-1", nil, nil},
		{"no role", w.claims(p, "device", nil), event.Success, "oidc.main/subject-1", nil, nil},
	} {
		g, err := chain.Connect(t.Context(), client("", s.sign(t, tt.claims)))
		if code(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		} else if err == nil && (g.Principal != tt.principal || !slices.Equal(g.Read, tt.read) || !slices.Equal(g.Write, tt.write)) {
			t.Errorf("%s: %+v", tt.name, g)
		}
		if err == nil && strings.HasPrefix(tt.principal, "oidc") {
			if same, err := chain.Renew(g); same != g || err != nil {
				t.Errorf("%s: renewed: %v", tt.name, err)
			}
		}
	}
}

func TestTokensOfApplications(t *testing.T) {
	w, p, s := tokens(t, func(o *OIDC) {
		o.Applications, o.ApplicationClaim, o.Enroll = []string{"demo", "fleet-*"}, "https://example.com/app", true
	})
	chain := w.chain("oidc.main")
	for _, tt := range []struct {
		application any
		want        event.Code
	}{
		{"demo", event.Success}, {"fleet-7", event.Success}, {"other", event.BadUserNameOrPassword}, {nil, event.BadUserNameOrPassword},
		{"fleet-*", event.BadUserNameOrPassword},
	} {
		g, err := chain.Connect(t.Context(), client("", s.sign(t, w.claims(p, "https://example.com/app", tt.application))))
		if code(err) != tt.want || err == nil && g.Application != tt.application {
			t.Errorf("application %v: %+v, %v", tt.application, g, err)
		}
	}
	if !slices.Equal(w.dir.enrolled, []string{"fleet-7/d1 by oidc.main/subject-1"}) {
		t.Errorf("registered: %q", w.dir.enrolled)
	}
}

// A token for a live connection, RFC 7628.
func TestBearer(t *testing.T) {
	w, p, s := tokens(t, nil)
	chain := w.chain("password", "oidc.main")
	good := s.sign(t, w.claims(p))
	for _, tt := range []struct {
		name, message string
		want          event.Code
	}{
		{"good", "n,,\x01auth=Bearer " + good + "\x01\x01", event.Success},
		{"with more", "n,a=x@example.com,\x01host=h\x01port=1\x01auth=bearer " + good + "\x01\x01", event.Success},
		{"expired", "n,,\x01auth=Bearer " + s.sign(t, w.claims(p, "exp", 1)) + "\x01\x01", event.BadUserNameOrPassword},
		{"no token", "n,,\x01auth=Bearer right\x01\x01", event.BadUserNameOrPassword},
		{"two tokens", "n,,\x01auth=Bearer " + good + "\x01auth=Bearer " + good + "\x01\x01", event.BadUserNameOrPassword},
		{"basic", "n,,\x01auth=Basic " + good + "\x01\x01", event.BadUserNameOrPassword},
		{"channel binding", "p=tls-unique,,\x01auth=Bearer " + good + "\x01\x01", event.BadUserNameOrPassword},
		{"cut short", "n,,\x01auth=Bearer " + good + "\x01", event.BadUserNameOrPassword},
		{"empty", "", event.BadUserNameOrPassword},
	} {
		e, err := chain.Begin(t.Context(), "OAUTHBEARER", client("", ""))
		if err != nil {
			t.Fatal(err)
		}
		_, g, err := e.Next([]byte(tt.message))
		if code(err) != tt.want || err == nil && g.Device != "d1" {
			t.Errorf("%s: %+v, %v", tt.name, g, err)
		}
		if _, _, err := e.Next([]byte(tt.message)); code(err) != event.BadUserNameOrPassword {
			t.Errorf("%s: an exchange that is over goes on: %v", tt.name, err)
		}
	}
	if _, err := w.chain("password").Begin(t.Context(), "OAUTHBEARER", client("", "")); code(err) != event.BadAuthenticationMethod {
		t.Errorf("where no token is accepted: %v", err)
	}
}

func FuzzBearer(f *testing.F) {
	f.Add("n,,\x01auth=Bearer eyJ.x.y\x01\x01")
	f.Add("n,a=u,\x01host=h\x01auth=Bearer t\x01\x01")
	f.Fuzz(func(t *testing.T, s string) {
		token, ok := parseBearer(s)
		if ok != (token != "") || !strings.Contains(s, token) {
			t.Errorf("%q gives %q, %v", s, token, ok)
		}
	})
}

func TestClaim(t *testing.T) {
	claims := map[string]any{"a": map[string]any{"b": "c", "d.e": "f"}, "https://x.y/z": "g"}
	for path, want := range map[string]any{"a.b": "c", "a.d.e": "f", "https://x.y/z": "g", "a.x": nil, "a.b.c": nil, "": nil} {
		if got := claim(claims, path); got != want {
			t.Errorf("%q is %v", path, got)
		}
	}
	if got := slices.Sorted(maps.Keys(claims)); len(got) != 2 {
		t.Error("claims were changed")
	}
}
