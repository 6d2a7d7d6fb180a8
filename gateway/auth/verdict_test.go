package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// verdicts is a world in which plugin "fleets" judges.
func verdicts(t *testing.T, judge func(in *event.Inbound) (event.Effect, error)) *world {
	t.Helper()
	p := DefaultPlugin()
	p.Applications = []string{"demo"}
	cfg := Default()
	cfg.Plugin = map[string]Plugin{"fleets": p}
	return newWorld(t, cfg, judgeFunc(judge))
}

func TestVerdicts(t *testing.T) {
	now := newClock().now()
	for _, tt := range []struct {
		name    string
		verdict event.Effect
		err     error
		want    event.Code
		check   func(*access.Grant) bool
	}{
		{"device with the registry's rights", &event.Allow{Identity: "i", Device: "d1"}, nil, event.Success, func(g *access.Grant) bool {
			return g.Principal == "device:demo/d1" && g.Credential == "plugin.fleets/i" && slices.Equal(g.Publish, []string{"d1/#", "u/somebody"})
		}},
		{"device with rights of its own", &event.Allow{Application: "demo", Device: "d1", Publish: []string{"x/{clientid}"},
			Expires: now.Add(time.Hour)}, nil, event.Success, func(g *access.Grant) bool {
			return slices.Equal(g.Publish, []string{"x/c1"}) && len(g.Subscribe) == 0 && g.Expires.Equal(now.Add(time.Hour))
		}},
		{"somebody who is no device", &event.Allow{Identity: "bridge"}, nil, event.Success, func(g *access.Grant) bool {
			return g.Principal == "plugin.fleets/bridge" && len(g.Publish)+len(g.Read) == 0
		}},
		{"nobody", &event.Allow{}, nil, event.ServerUnavailable, nil},
		{"another application", &event.Allow{Application: "secret", Device: "d1"}, nil, event.BadUserNameOrPassword, nil},
		{"unknown device", &event.Allow{Device: "nobody"}, nil, event.BadUserNameOrPassword, nil},
		{"disabled device", &event.Allow{Device: "off"}, nil, event.NotAuthorized, nil},
		{"expired", &event.Allow{Device: "d1", Expires: now}, nil, event.BadUserNameOrPassword, nil},
		{"deny", &event.Deny{Reason: "right"}, nil, event.NotAuthorized, nil},
		{"no verdict", nil, errors.New("out of fuel"), event.ServerUnavailable, nil},
		{"another effect", &event.Put{}, nil, event.ServerUnavailable, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := verdicts(t, func(*event.Inbound) (event.Effect, error) { return tt.verdict, tt.err })
			g, err := w.chain("plugin.fleets").Connect(t.Context(), client("somebody", "right"))
			if code(err) != tt.want {
				t.Fatalf("%v, code %#x, want %#x", err, code(err), tt.want)
			}
			if err == nil && !tt.check(g) {
				t.Errorf("%+v", g)
			}
		})
	}
}

func TestConnectEvent(t *testing.T) {
	var seen []*event.Inbound
	w := verdicts(t, func(in *event.Inbound) (event.Effect, error) {
		seen = append(seen, in)
		return &event.Allow{Device: "d1"}, nil
	})
	chain := w.chain("plugin.fleets")
	c := client("somebody", "right")
	ca := newAuthority(t, "CA", w.clock.now())
	c.Certificates = ca.issue(commonName("cn"))
	for range 2 {
		if _, err := chain.Connect(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 1 {
		t.Fatalf("the plugin was asked %d times", len(seen))
	}
	var d map[string]any
	if err := json.Unmarshal(seen[0].Event.Data, &d); err != nil {
		t.Fatal(err)
	}
	if d["username"] != "somebody" || d["password"] != "right" || d["clientId"] != "c1" || d["peerHost"] != "192.0.2.7" ||
		d["certificate"].(map[string]any)["commonName"] != "cn" || seen[0].Event.Type != event.TypeConnect {
		t.Errorf("%s", seen[0].Event.Data)
	}
	binary := client("somebody", "\xff\xfe")
	if _, err := chain.Connect(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	d = nil
	if err := json.Unmarshal(seen[1].Event.Data, &d); err != nil || d["passwordBase64"] != "//4=" || d["password"] != nil {
		t.Errorf("%s, %v", seen[1].Event.Data, err)
	}
	w.Changed(access.Change{Application: "demo"})
	if _, err := chain.Connect(t.Context(), c); err != nil || len(seen) != 3 {
		t.Errorf("after a change the plugin was asked %d times, %v", len(seen), err)
	}
	w.clock.advance(time.Minute)
	if _, err := chain.Connect(t.Context(), c); err != nil || len(seen) != 4 {
		t.Errorf("after the time the plugin was asked %d times, %v", len(seen), err)
	}
}

// A verdict on a connection without properties says nothing of one with them, nor
// the other way round.
func TestVerdictsOnPropertiesAreTheirOwn(t *testing.T) {
	w := verdicts(t, func(in *event.Inbound) (event.Effect, error) {
		if len(in.Transport.Properties) == 1 && in.Transport.Properties[0].Value == "compromised" {
			return &event.Deny{}, nil
		}
		return &event.Allow{Device: "d1"}, nil
	})
	chain := w.chain("plugin.fleets")
	plain, good, bad := client("somebody", "right"), client("somebody", "right"), client("somebody", "right")
	good.Properties = []event.Property{{Name: "state", Value: "well"}}
	bad.Properties = []event.Property{{Name: "state", Value: "compromised"}}
	for i, c := range []*access.Credentials{plain, bad, good, bad, plain} {
		want := event.Success
		if c == bad {
			want = event.NotAuthorized
		}
		if _, err := chain.Connect(t.Context(), c); code(err) != want {
			t.Errorf("connection %d, properties %v: %v, want code %#x", i, c.Properties, err, want)
		}
	}
	if hits := w.methods["plugin.fleets"].(*verdictMethod).cacheHits(); hits != 1 {
		t.Errorf("%d verdicts were remembered ones, want that on the last connection", hits)
	}
}

func TestNoPlugin(t *testing.T) {
	p := DefaultPlugin()
	p.Applications = []string{"demo"}
	cfg := Default()
	cfg.Plugin = map[string]Plugin{"fleets": p}
	w := newWorld(t, cfg, nil)
	if _, err := w.chain("plugin.fleets").Connect(t.Context(), client("x", "y")); code(err) != event.ServerUnavailable {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	good := DefaultHTTP()
	good.URL, good.Applications = "http://127.0.0.1:1/", []string{"demo"}
	oidc := DefaultOIDC()
	oidc.Issuer, oidc.Audience = "https://id.example.com", []string{"a"}
	for _, tt := range []struct {
		name, key string
		change    func(*Config)
	}{
		{"", "", func(*Config) {}},
		{"no URL", "http.x.url", func(c *Config) { h := good; h.URL = "ftp://x"; c.HTTP["x"] = h }},
		{"password in the URL", "http.x.url", func(c *Config) { h := good; h.URL = "http://u:s3cret@x/"; c.HTTP["x"] = h }},
		{"no realm", "http.x.applications", func(c *Config) { h := good; h.Applications = nil; c.HTTP["x"] = h }},
		{"encoding", "http.x.encoding", func(c *Config) { h := good; h.Encoding = "xml"; c.HTTP["x"] = h }},
		{"placeholder", "http.x.body", func(c *Config) { h := good; h.Body = map[string]string{"a": "{secret}"}; c.HTTP["x"] = h }},
		{"device", "http.x.device", func(c *Config) { h := good; h.Device = "{password}"; c.HTTP["x"] = h }},
		{"timeout", "http.x.timeout", func(c *Config) { h := good; h.Timeout = 0; c.HTTP["x"] = h }},
		{"concurrency", "http.x.max_concurrent", func(c *Config) { h := good; h.MaxConcurrent = 0; c.HTTP["x"] = h }},
		{"half a certificate", "http.x", func(c *Config) { h := good; h.Key = "k"; c.HTTP["x"] = h }},
		{"name", `http: "a b"`, func(c *Config) { c.HTTP["a b"] = good }},
		{"no audience", "oidc.x.audience", func(c *Config) { o := oidc; o.Audience = nil; c.OIDC["x"] = o }},
		{"no algorithm", "oidc.x.algorithms", func(c *Config) { o := oidc; o.Algorithms = nil; c.OIDC["x"] = o }},
		{"secret algorithm", "oidc.x.algorithms", func(c *Config) { o := oidc; o.Algorithms = []string{"HS256"}; c.OIDC["x"] = o }},
		{"no signature", "oidc.x.algorithms", func(c *Config) { o := oidc; o.Algorithms = []string{"none"}; c.OIDC["x"] = o }},
		{"leeway", "oidc.x.leeway", func(c *Config) { o := oidc; o.Leeway = time.Hour; c.OIDC["x"] = o }},
		{"devices without realm", "oidc.x.applications", func(c *Config) { o := oidc; o.DeviceClaim = "d"; c.OIDC["x"] = o }},
		{"role", "oidc.x.roles", func(c *Config) { o := oidc; o.Roles = map[string]Role{"{x}": {}}; c.OIDC["x"] = o }},
		{"role with a placeholder", "", func(c *Config) {
			o := oidc
			o.Roles = map[string]Role{"{application}:read": {Read: []string{"{application}", "x-{application}*"}}, "all": {Write: []string{"*"}}}
			c.OIDC["x"] = o
		}},
		{"unknown placeholder of a role", `oidc.x.roles: "r:{application}": read names "{aplication}*"`, func(c *Config) {
			o := oidc
			o.Roles = map[string]Role{"r:{application}": {Read: []string{"{aplication}*"}}}
			c.OIDC["x"] = o
		}},
		{"half a placeholder of a role", `oidc.x.roles: "r:{application}": write names "{application"`, func(c *Config) {
			o := oidc
			o.Roles = map[string]Role{"r:{application}": {Write: []string{"{application"}}}
			c.OIDC["x"] = o
		}},
		{"placeholder that the role's name lacks", `oidc.x.roles: "viewer": write names "{application}*", but`, func(c *Config) {
			o := oidc
			o.Roles = map[string]Role{"viewer": {Write: []string{"{application}*"}}}
			c.OIDC["x"] = o
		}},
		{"properties", "properties", func(c *Config) { c.Properties.Key = c.Properties.Device }},
		{"cache", "properties.cache_entries", func(c *Config) { c.Properties.CacheEntries = 0 }},
		{"cache time", "plugin.x.cache_ttl", func(c *Config) {
			c.Plugin["x"] = Plugin{Realm: Realm{Applications: []string{"a"}}, Timeout: time.Second, CacheEntries: 1, CacheTTL: -1}
		}},
		{"field", "certificate.x.field", func(c *Config) {
			c.Certificate["x"] = Certificate{Realm: Realm{Applications: []string{"a"}}, Field: "o", Pattern: "{device}"}
		}},
		{"pattern", "certificate.x.pattern", func(c *Config) {
			c.Certificate["x"] = Certificate{Realm: Realm{Applications: []string{"a"}}, Field: "cn", Pattern: "{application}"}
		}},
		{"denied", "certificate.x.denied", func(c *Config) {
			c.Certificate["x"] = Certificate{Realm: Realm{Applications: []string{"a"}}, Field: "cn", Pattern: "{device}", Denied: []string{"zz"}}
		}},
	} {
		cfg := Default()
		cfg.OIDC, cfg.HTTP, cfg.Plugin, cfg.Certificate = map[string]OIDC{}, map[string]HTTP{}, map[string]Plugin{}, map[string]Certificate{}
		tt.change(&cfg)
		err := cfg.Validate()
		if tt.key == "" && err == nil {
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.key) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// What a plugin says of a refusal is what the client hears: its code, and the name for
// programs, but not the reason.
func TestDenials(t *testing.T) {
	for _, tt := range []struct {
		name string
		deny event.Deny
		want event.Code
	}{
		{"no code", event.Deny{Reason: "secret"}, event.NotAuthorized},
		{"wrong credentials", event.Deny{Code: event.BadUserNameOrPassword, Reason: "secret", Name: "E_BAD"}, event.BadUserNameOrPassword},
		{"somebody known", event.Deny{Code: event.NotAuthorized, Reason: "secret", Name: "E_OFF"}, event.NotAuthorized},
		{"not now", event.Deny{Code: event.ServerUnavailable, Reason: "secret"}, event.ServerUnavailable},
		{"too often", event.Deny{Code: event.QuotaExceeded, Reason: "secret", Name: "E_RATE"}, event.QuotaExceeded},
		{"never", event.Deny{Code: event.Banned, Reason: "secret"}, event.Banned},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := verdicts(t, func(*event.Inbound) (event.Effect, error) { return &tt.deny, nil })
			_, err := w.chain("plugin.fleets").Connect(t.Context(), client("somebody", "right"))
			var told *stage.Error
			if !errors.As(err, &told) || told.Code != tt.want || told.Name != tt.deny.Name || strings.Contains(told.Reason, "secret") {
				t.Errorf("%v is told as %+v", err, told)
			}
		})
	}
}

// Credentials that prove nothing to the plugin may prove something to the next method;
// somebody whom it knows and refuses gets no further.
func TestDenyThenNext(t *testing.T) {
	for denied, want := range map[event.Code]event.Code{event.BadUserNameOrPassword: event.Success, event.NotAuthorized: event.NotAuthorized} {
		w := verdicts(t, func(*event.Inbound) (event.Effect, error) { return &event.Deny{Code: denied}, nil })
		anonymous := client("@demo", "")
		anonymous.Peer = netip.MustParseAddrPort("127.0.0.1:4711")
		if _, err := w.chain("plugin.fleets", "anonymous").Connect(t.Context(), anonymous); code(err) != want {
			t.Errorf("after a denial with %#x: %v, want %#x", denied, err, want)
		}
	}
}

type judgeWith func() (event.Effect, func() bool)

func (f judgeWith) Judge(context.Context, string, *event.Inbound) (event.Effect, func() bool, error) {
	verdict, holds := f()
	return verdict, holds, nil
}

// A remembered verdict counts no longer than the state that it rests on.
func TestVerdictsRestOnState(t *testing.T) {
	holds, asked := true, 0
	p := DefaultPlugin()
	p.Applications = []string{"demo"}
	cfg := Default()
	cfg.Plugin = map[string]Plugin{"fleets": p}
	w := newWorld(t, cfg, judgeWith(func() (event.Effect, func() bool) {
		asked++
		return &event.Allow{Device: "d1", Once: true}, func() bool { return holds }
	}))
	chain := w.chain("plugin.fleets")
	for i, step := range []struct {
		holds bool
		asked int
	}{{true, 1}, {true, 1}, {false, 2}, {true, 2}, {false, 3}} {
		holds = step.holds
		g, err := chain.Connect(t.Context(), client("somebody", "right"))
		if err != nil || !g.Once || asked != step.asked {
			t.Errorf("connection %d: asked %d times, want %d; %+v, %v", i, asked, step.asked, g, err)
		}
	}
}
