package mqtt

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// authority is an authenticator whose mind a test changes. Principals are client
// ids, or what an exchange names.
type authority struct {
	mu     sync.Mutex
	grants map[string]*access.Grant
	keys   map[string]*access.Grant // of messages, by their user property key
	denied map[string]bool          // of questions: "publish <topic>", "subscribe <filter>"
	asked  []string
	hold   chan struct{} // Connect and Authorize wait for it, if there is one, when they have decided
	held   atomic.Int32  // how many did
}

func (a *authority) set(principal string, change func(*access.Grant)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if change == nil {
		delete(a.grants, principal)
		return
	}
	g := *a.grants[principal]
	change(&g)
	a.grants[principal] = &g
}

func (a *authority) find(principal string) (*access.Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.grants[principal]
	switch {
	case g == nil:
		return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the user name or the password is wrong", Gone: true}
	case g.Method == "disabled":
		return nil, &stage.Error{Code: event.NotAuthorized, Reason: "the device is disabled"}
	}
	return g, nil
}

func (a *authority) wait(ctx context.Context) error {
	a.mu.Lock()
	hold := a.hold
	a.mu.Unlock()
	if hold == nil {
		return nil
	}
	a.held.Add(1)
	select {
	case <-hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *authority) Connect(ctx context.Context, c *access.Credentials) (*access.Grant, error) {
	g, err := a.find(c.ClientID)
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	return g, err
}

func (a *authority) Renew(g *access.Grant) (*access.Grant, error) { return a.find(g.Principal) }

func (a *authority) Message(_ context.Context, _ *access.Grant, list []event.Property) (*access.Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range list {
		if g := a.keys[p.Value]; p.Name == "key" && g != nil {
			return g, nil
		}
	}
	return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the message needs the user property key"}
}

func (a *authority) Authorize(ctx context.Context, _ *access.Grant, action access.Action, topic string, _ byte, _ bool) error {
	question := action.String() + " " + topic
	a.mu.Lock()
	a.asked = append(a.asked, question)
	denied := a.denied[question]
	a.mu.Unlock()
	if denied {
		return &stage.Error{Code: event.NotAuthorized, Reason: "no"}
	}
	return a.wait(ctx)
}

// questions are those that were asked since the last call.
func (a *authority) questions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.asked
	a.asked = nil
	return list
}

// Begin knows the method "steps": the client names itself, is asked to prove it,
// and says "proof"; "endless": it is never enough; and "held": which waits.
func (a *authority) Begin(ctx context.Context, method string, c *access.Credentials) (access.Exchange, error) {
	switch method {
	case "steps", "endless", "held":
		return &exchange{a: a, ctx: ctx, method: method}, nil
	}
	return nil, &stage.Error{Code: event.Code(packet.CodeBadAuthenticationMethod), Reason: "the methods are steps, endless and held"}
}

type exchange struct {
	a         *authority
	ctx       context.Context
	method    string
	principal string
}

func (x *exchange) Next(data []byte) ([]byte, *access.Grant, error) {
	name, proof, _ := strings.Cut(string(data), " ")
	switch {
	case x.method == "endless":
		return []byte("more"), nil, nil
	case x.method == "held":
		return nil, nil, x.a.wait(x.ctx)
	case x.principal == "" && proof == "":
		x.principal = name
		return []byte("prove it"), nil, nil
	case x.principal == "":
		x.principal, name = name, proof
	}
	g, err := x.a.find(x.principal)
	if err != nil || name != "proof" {
		return nil, nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the user name or the password is wrong"}
	}
	return []byte("welcome"), g, nil
}

// govern starts a server whose authenticator knows some devices of application
// demo that may do everything, and a user bob who reads and commands it.
func govern(t testing.TB, change func(*settings, *fixture), devices ...string) (*fixture, *authority) {
	t.Helper()
	a := &authority{grants: map[string]*access.Grant{}, keys: map[string]*access.Grant{}, denied: map[string]bool{}}
	for _, name := range devices {
		g := messaging(name)
		g.Principal = name
		a.grants[name] = g
	}
	a.grants["bob"] = &access.Grant{Principal: "bob", Namespace: "bob", Read: []string{"demo"}, Write: []string{"demo"}}
	return start(t, nil, func(cfg *settings, f *fixture) {
		f.auth = a
		if change != nil {
			change(cfg, f)
		}
	}), a
}

// only leaves a device rights to some topics.
func only(filters ...string) func(*access.Grant) {
	return func(g *access.Grant) { g.Publish, g.Subscribe = filters, filters }
}

func disabled(g *access.Grant) { g.Method = "disabled" }

// counted is the sum of a metric over its labels that match.
func (f *fixture) counted(name string, labels ...string) (sum int) {
	for _, m := range append(f.server.Metrics(), f.server.sessions.Metrics()...) {
		have := map[string]bool{}
		for _, l := range m.Labels {
			have[l.Value] = true
		}
		if m.Name == "tributary_mqtt_"+name && !slices.ContainsFunc(labels, func(l string) bool { return !have[l] }) {
			sum += int(m.Value)
		}
	}
	return sum
}

// until waits for something that no packet tells.
func (f *fixture) until(what string, cond func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatal("it never came to: " + what)
		}
	}
}

func (f *fixture) connection(clientID string) (found resource.Connection, ok bool) {
	for _, c := range f.server.sessions.Connections(func(c *resource.Connection) bool { return c.ClientID == clientID }, "", "", 10) {
		return c, true
	}
	return found, false
}
