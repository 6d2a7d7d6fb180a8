package auth

import (
	"context"
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

var (
	errDown       = errors.New("the store is down")
	netipLoopback = netip.MustParseAddrPort("127.0.0.1:4711")
)

func TestChain(t *testing.T) {
	local := client("", "")
	local.Peer = netipLoopback
	for _, tt := range []struct {
		name    string
		methods string
		c       *access.Credentials
		down    error
		want    event.Code
		method  string
	}{
		{"password of a device", "password", client("d1@demo", "right"), nil, event.Success, "password"},
		{"password of a user", "password anonymous", client("alice", "right"), nil, event.Success, "password"},
		{"wrong password", "password", client("d1@demo", "wrong"), nil, event.BadUserNameOrPassword, ""},
		{"unknown device", "password", client("nobody@demo", "right"), nil, event.BadUserNameOrPassword, ""},
		{"disabled device", "password apikey", client("off@demo", "right"), nil, event.NotAuthorized, ""},
		{"disabled device, wrong password", "password", client("off@demo", "wrong"), nil, event.BadUserNameOrPassword, ""},
		{"key, in any order", "password apikey", client("d1@demo", "trk_right"), nil, event.Success, "apikey"},
		{"key where none is accepted", "password", client("d1@demo", "trk_right"), nil, event.BadUserNameOrPassword, ""},
		{"nothing, anonymous", "password anonymous", local, nil, event.Success, "anonymous"},
		{"nothing, from elsewhere", "anonymous", client("", ""), nil, event.NotAuthorized, ""},
		{"nothing where something is needed", "password apikey", client("", ""), nil, event.NotAuthorized, ""},
		{"anonymous is no way around a wrong password", "password anonymous", client("d1@demo", "wrong"), nil, event.BadUserNameOrPassword, ""},
		{"user name without password", "password anonymous", client("d1@demo", ""), nil, event.BadUserNameOrPassword, ""},
		{"password without user name", "password anonymous", client("", "right"), nil, event.BadUserNameOrPassword, ""},
		{"nobody can tell", "password", client("d1@demo", "right"), errDown, event.ServerUnavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, Default(), nil)
			w.dir.down = tt.down
			g, err := w.chain(strings.Fields(tt.methods)...).Connect(t.Context(), tt.c)
			if code(err) != tt.want {
				t.Fatalf("%v, code %#x, want %#x", err, code(err), tt.want)
			}
			if err == nil && g.Method != tt.method {
				t.Errorf("method %q, want %q", g.Method, tt.method)
			}
		})
	}
}

// What a refused client is told, and the work that it causes, are the same
// whether its user name or its password was wrong.
func TestUnknownAndWrongAreTheSame(t *testing.T) {
	w := newWorld(t, Default(), nil)
	chain := w.chain("apikey", "password", "anonymous")
	ask := func(username string) (string, int, int) {
		logins, keys := w.dir.calls("login"), w.dir.calls("key")
		_, err := chain.Connect(t.Context(), client(username, "wrong"))
		return err.Error(), w.dir.calls("login") - logins, w.dir.calls("key") - keys
	}
	text1, logins1, keys1 := ask("d1@demo")
	text2, logins2, keys2 := ask("nobody@nowhere")
	if text1 != text2 || logins1 != logins2 || keys1 != keys2 || logins1 != 1 || keys1 != 1 {
		t.Errorf("%q with %d logins and %d keys, %q with %d and %d", text1, logins1, keys1, text2, logins2, keys2)
	}
}

func TestChainNames(t *testing.T) {
	cfg := Default()
	cfg.Plugin = map[string]Plugin{"fleets": {Realm: Realm{Applications: []string{"demo"}}, Timeout: time.Second, CacheEntries: 1}}
	w := newWorld(t, cfg, nil)
	_, err := w.Chain([]string{"password", "oidc.main"})
	if err == nil || !strings.Contains(err.Error(), `"oidc.main"`) || !strings.Contains(err.Error(), "plugin.fleets") {
		t.Errorf("an unknown method: %v", err)
	}
	if _, err := w.Chain(nil); err == nil {
		t.Error("an empty list was accepted")
	}
	if _, err := w.Chain([]string{"password", "password"}); err == nil {
		t.Error("a method was accepted twice")
	}
	for _, name := range cfg.Methods() {
		if _, err := w.Chain([]string{name}); err != nil {
			t.Error(err)
		}
	}
	if len(cfg.Methods()) != len(w.methods) {
		t.Errorf("Methods tells %v", cfg.Methods())
	}
}

// Only a user name that was proven fills a filter.
func TestPlaceholders(t *testing.T) {
	w := newWorld(t, Default(), nil)
	g, err := w.chain("password").Connect(t.Context(), client("d1@demo", "right"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.Publish, []string{"d1/#", "u/d1@demo"}) || !slices.Equal(g.Subscribe, []string{"to/c1"}) {
		t.Errorf("publish %q, subscribe %q", g.Publish, g.Subscribe)
	}
	c := client("d1@demo", "right")
	c.ClientID = "#"
	if g, _ = w.chain("password").Connect(t.Context(), c); len(g.Subscribe) != 0 {
		t.Errorf("the client id # may subscribe to %q", g.Subscribe)
	}
}

func TestRenew(t *testing.T) {
	w := newWorld(t, Default(), nil)
	chain := w.chain("password")
	g, err := chain.Connect(t.Context(), client("d1@demo", "right"))
	if err != nil {
		t.Fatal(err)
	}
	if same, err := chain.Renew(g); same != g || err != nil {
		t.Errorf("an unchanged grant became %+v, %v", same, err)
	}
	w.dir.publish = []string{"only/{clientid}"}
	other, err := chain.Renew(g)
	if err != nil || !slices.Equal(other.Publish, []string{"only/c1"}) || other.Method != "password" {
		t.Errorf("after a change: %+v, %v", other, err)
	}
	if !slices.Equal(g.Publish, []string{"d1/#", "u/d1@demo"}) {
		t.Error("the old grant was changed")
	}
	w.dir.devices["demo/d1"] = true
	if _, err := chain.Renew(g); code(err) != event.NotAuthorized {
		t.Errorf("a disabled device: %v", err)
	}
	if _, err := w.chain("apikey").Renew(g); code(err) != event.NotAuthorized {
		t.Errorf("a chain without the method: %v", err)
	}
	w.dir.devices["demo/d1"] = false
	expired := *g
	expired.Expires, expired.Credential = w.clock.now(), ""
	if kept, err := chain.Renew(&expired); err != nil || !kept.Expires.Equal(expired.Expires) {
		t.Errorf("a session whose credentials expired: %+v, %v", kept, err)
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	w := newWorld(t, Default(), nil)
	w.dir.down = context.Canceled
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.chain("password").Connect(ctx, client("d1@demo", "right")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t, Default(), nil)
	chain := w.chain("password", "properties")
	g, err := chain.Connect(t.Context(), client("d1@demo", "right"))
	if err != nil || !g.PerMessage || !slices.Equal(g.Secrets, []string{"access_key"}) {
		t.Fatalf("%+v, %v", g, err)
	}
	props := func(list ...string) (out []event.Property) {
		for i := 0; i < len(list); i += 2 {
			out = append(out, event.Property{Name: list[i], Value: list[i+1]})
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		props  []event.Property
		want   event.Code
		device string
	}{
		{"own", props("device_id", "d1", "x", "y", "access_key", "key of d1"), event.Success, "d1"},
		{"child", props("access_key", "key of child", "device_id", "child"), event.Success, "child"},
		{"child with the parent's key", props("device_id", "child", "access_key", "key of d1"), event.NotAuthorized, ""},
		{"disabled", props("device_id", "off", "access_key", "key of off"), event.NotAuthorized, ""},
		{"none", nil, event.NotAuthorized, ""},
		{"no key", props("device_id", "d1"), event.NotAuthorized, ""},
		{"empty key", props("device_id", "d1", "access_key", ""), event.NotAuthorized, ""},
		{"two devices", props("device_id", "d1", "device_id", "child", "access_key", "key of d1"), event.NotAuthorized, ""},
		{"a device that widens", props("device_id", "d1/#", "access_key", "key of d1/#"), event.NotAuthorized, ""},
	} {
		own, err := chain.Message(t.Context(), g, tt.props)
		if code(err) != tt.want || err == nil && own.Device != tt.device {
			t.Errorf("%s: %+v, %v", tt.name, own, err)
		}
		if err == nil {
			if again, _ := chain.Message(t.Context(), g, tt.props); again != own {
				t.Errorf("%s: another grant for the same credentials", tt.name)
			}
		}
	}
	right := props("device_id", "d1", "access_key", "key of d1")
	asked := w.dir.calls("devicekey")
	chain.Message(t.Context(), g, right)
	if w.dir.calls("devicekey") != asked {
		t.Error("credentials that were right were looked up again")
	}
	w.Changed(access.Change{Application: "demo", Device: "d1"})
	w.dir.devices["demo/d1"] = true
	if _, err := chain.Message(t.Context(), g, right); code(err) != event.NotAuthorized {
		t.Errorf("after the device was disabled: %v", err)
	}
	w.dir.down = errDown
	if _, err := chain.Message(t.Context(), g, right); err == nil || code(err) != 0xFF {
		t.Errorf("when nobody can tell: %v", err)
	}
}

// A connection without credentials may do nothing by itself.
func TestMessagesOnOpenConnections(t *testing.T) {
	cfg := Default()
	w := newWorld(t, cfg, nil)
	if _, err := w.chain("properties").Connect(t.Context(), client("", "")); code(err) != event.NotAuthorized {
		t.Errorf("without an application: %v", err)
	}
	cfg.Properties.Application = "demo"
	w = newWorld(t, cfg, nil)
	chain := w.chain("properties")
	g, err := chain.Connect(t.Context(), client("", ""))
	if err != nil || !g.PerMessage || len(g.Publish)+len(g.Subscribe)+len(g.Read)+len(g.Write) > 0 || g.Device != "" {
		t.Fatalf("%+v, %v", g, err)
	}
	own, err := chain.Message(t.Context(), g, []event.Property{{Name: "device_id", Value: "d1"}, {Name: "access_key", Value: "key of d1"}})
	if err != nil || own.Device != "d1" {
		t.Errorf("%+v, %v", own, err)
	}
	if same, err := chain.Renew(g); same != g || err != nil {
		t.Errorf("renewed: %+v, %v", same, err)
	}
	// Another connection with the same client id is another principal.
	again, err := chain.Connect(t.Context(), client("", ""))
	if err != nil || !g.Once || again.Principal == g.Principal || again.Namespace == g.Namespace || own.Once {
		t.Errorf("%+v and then %+v, %v", g, again, err)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, Default(), nil)
	chain := w.chain("password")
	chain.Connect(t.Context(), client("d1@demo", "right"))
	chain.Connect(t.Context(), client("d1@demo", "wrong"))
	w.dir.down = errDown
	chain.Connect(t.Context(), client("d1@demo", "right"))
	got := map[string]float64{}
	for _, m := range w.Metrics() {
		if m.Name == "tributary_auth_decisions_total" && m.Labels[0].Value == "password" {
			got[m.Labels[1].Value] = m.Value
		}
	}
	if got["accepted"] != 1 || got["refused"] != 1 || got["undecided"] != 1 {
		t.Errorf("metrics: %v", got)
	}
}

func TestCache(t *testing.T) {
	clock := newClock()
	c := newCache[int](10, clock.now)
	d := newDigester()
	key := func(i int) digest { return d.sum("k", string(rune('a'+i))) }
	for i := range 20 {
		c.put(key(i), 0, i, clock.now().Add(time.Minute))
		if len(c.entries) > 10 {
			t.Fatalf("%d entries", len(c.entries))
		}
	}
	if v, ok, _ := c.get(key(19)); !ok || v != 19 {
		t.Errorf("the newest is %d, %v", v, ok)
	}
	_, _, mark := c.get(key(0))
	c.drop(func(int) bool { return true })
	c.put(key(0), mark, 1, clock.now().Add(time.Minute))
	if _, ok, _ := c.get(key(0)); ok {
		t.Error("a decision from before a change is remembered")
	}
	_, _, mark = c.get(key(0))
	c.put(key(0), mark, 1, clock.now().Add(time.Minute))
	clock.advance(time.Minute)
	if _, ok, _ := c.get(key(0)); ok {
		t.Error("an expired decision is remembered")
	}
	if d.sum("a", "bc") == d.sum("ab", "c") || d.sum("a") == newDigester().sum("a") {
		t.Error("digests are alike")
	}
}

// The operator hears which method refused credentials and why, the client only that they
// were refused.
func TestOperatorsHearWhy(t *testing.T) {
	w := newWorld(t, Default(), nil)
	_, err := w.chain("password", "apikey").Connect(t.Context(), client("d1@demo", "wrong"))
	var refusal *stage.Error
	if !errors.As(err, &refusal) || refusal.Reason != refusedCredentials().Reason {
		t.Fatalf("the client hears %v", refusal)
	}
	if !strings.Contains(err.Error(), "password: ") {
		t.Errorf("the operator hears %q", err)
	}
}

// While a method cannot check credentials, the log says so once a minute, with how many
// logins it was about.
func TestUncheckedLoginsAreLoggedOnceAMinute(t *testing.T) {
	w := newWorld(t, Default(), nil)
	w.dir.down = errDown
	ch := w.chain("password")
	for range 50 {
		if _, err := ch.Connect(t.Context(), client("d1@demo", "right")); err == nil {
			t.Fatal("accepted")
		}
	}
	w.clock.advance(2 * time.Minute)
	ch.Connect(t.Context(), client("d1@demo", "right"))
	if n := strings.Count(w.log.String(), "credentials could not be checked"); n != 2 || !strings.Contains(w.log.String(), "logins=50") {
		t.Errorf("%d lines:\n%s", n, w.log)
	}
}
