// Package auth authenticates clients and finds out what they may do. A listener has a Chain
// of methods, which are tried in order: passwords, API keys and certificates of the registry,
// tokens of OpenID Connect, certificates by a name in them, web services, plugins, SCRAM,
// credentials in each message, and anonymous access.
//
// The first method that accepts ends the chain, and so does one that refuses a known client.
// After unknown or wrong credentials, which look the same, the next method is tried; if all
// fail, the client gets one refusal that does not say which. If a method could not decide and
// no other accepted, the client is refused.
//
// The registry and the plugins are interfaces here: Directory and Judge.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/loglimit"
	"tributary.io/gateway/metric"
)

// Auth holds the authentication methods that the settings declare, with their caches.
// Listeners share it. It is safe for concurrent use.
type Auth struct {
	dir       Directory
	log       *slog.Logger
	now       func() time.Time
	digests   *digester
	methods   map[string]method
	perMethod map[string]*counters   // with the keys of methods
	look      chan struct{}          // tells Run to check the revocation lists at once
	unable    loglimit.Limit[string] // logins that a method could not check, by its name
}

// counters counts the decisions of one method.
type counters struct {
	accepted, refused, undecided atomic.Uint64
}

// New makes the methods that a configuration declares. It reads the TLS files and connects
// to nothing: identity providers and services may start later than the gateway. judge may be
// nil if no plugin checks credentials.
func New(cfg Config, dir Directory, judge Judge, log *slog.Logger) (*Auth, error) {
	return newAuth(cfg, dir, judge, log, time.Now)
}

func newAuth(cfg Config, dir Directory, judge Judge, log *slog.Logger, now func() time.Time) (*Auth, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Auth{dir: dir, log: log, now: now, digests: newDigester(), perMethod: map[string]*counters{}, look: make(chan struct{}, 1)}
	a.methods = map[string]method{
		"password":    passwordMethod{dir},
		"apikey":      keyMethod{dir},
		"certificate": fingerprintMethod{dir, now},
		"anonymous":   anonymousMethod{dir},
		"scram":       &scramMethod{auth: a},
		"properties":  newProperties(a, cfg.Properties),
	}
	var errs []error
	add := func(kind, name string, m method, err error) {
		if err != nil {
			err = fmt.Errorf("auth.%s.%s: %w", kind, name, err)
		}
		errs = append(errs, err)
		a.methods[kind+"."+name] = m
	}
	for name, c := range cfg.OIDC {
		m, err := newOIDC(a, name, c)
		add("oidc", name, m, err)
	}
	for name, c := range cfg.Certificate {
		m, err := newCertificates(a, name, c)
		add("certificate", name, m, err)
	}
	for name, c := range cfg.HTTP {
		m, err := newCallout(a, name, c)
		add("http", name, m, err)
	}
	for name, c := range cfg.Plugin {
		add("plugin", name, newVerdicts(a, name, c, judge), nil)
	}
	for name := range a.methods {
		a.perMethod[name] = new(counters)
	}
	return a, errors.Join(errs...)
}

// Methods returns the names that the auth list of a listener may hold with these settings,
// sorted.
func (c Config) Methods() []string {
	names := []string{"password", "apikey", "certificate", "anonymous", "scram", "properties"}
	for _, list := range []struct {
		kind  string
		names []string
	}{
		{"oidc", slices.Collect(maps.Keys(c.OIDC))}, {"certificate", slices.Collect(maps.Keys(c.Certificate))},
		{"http", slices.Collect(maps.Keys(c.HTTP))}, {"plugin", slices.Collect(maps.Keys(c.Plugin))},
	} {
		for _, name := range list.names {
			names = append(names, list.kind+"."+name)
		}
	}
	slices.Sort(names)
	return names
}

// Chain returns the methods of a listener's auth list, in its order.
func (a *Auth) Chain(methods []string) (*Chain, error) {
	if len(methods) == 0 {
		return nil, errors.New("the auth list is empty, so nobody could connect; it may hold " + a.methodNames())
	}
	c := &Chain{auth: a}
	for i, name := range methods {
		m, ok := a.methods[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("auth has no method %q; there are %s", name, a.methodNames())
		case slices.Contains(methods[:i], name):
			return nil, fmt.Errorf("auth names %q twice", name)
		}
		c.links = append(c.links, link{name, m, a.perMethod[name]})
		if p, ok := m.(*propertiesMethod); ok {
			c.properties = p
		}
	}
	return c, nil
}

func (a *Auth) methodNames() string {
	return strings.Join(slices.Sorted(maps.Keys(a.methods)), ", ")
}

// Changed deletes the cached decisions that a change of rights touches. It has to be called
// before grants are renewed.
func (a *Auth) Changed(change access.Change) {
	for _, m := range a.methods {
		if f, ok := m.(interface{ changed(access.Change) }); ok {
			f.changed(change)
		}
	}
}

// lookInterval is how often the files of revocation lists are checked.
const lookInterval = time.Second

// Run calls changed each time a file of revocation lists was read again, for the grants that
// it may have revoked. It runs until ctx ends, and must be called exactly once.
func (a *Auth) Run(ctx context.Context, changed func(access.Change)) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.look:
		}
		a.lookAround(changed)
	}
}

func (a *Auth) lookAround(changed func(access.Change)) {
	for name, m := range a.methods {
		m, ok := m.(*certificateMethod)
		if !ok || m.revoked == nil {
			continue
		}
		if newer, err := m.revoked.look(); newer && err != nil {
			a.log.Warn("nobody can log in with a certificate until the revocation lists are mended", "method", name, "error", err)
		} else if newer {
			changed(access.Change{Method: name})
		}
	}
}

// Metrics returns the counters of all methods.
func (a *Auth) Metrics() []metric.Sample {
	var set metric.Set
	for _, name := range slices.Sorted(maps.Keys(a.methods)) {
		label := metric.Label{Name: "method", Value: name}
		n := a.perMethod[name]
		decisions := func(verdict string, n uint64) {
			set.Counter("tributary_auth_decisions_total", "Credentials that an authentication method checked, by verdict.", n, label,
				metric.Label{Name: "verdict", Value: verdict})
		}
		decisions("accepted", n.accepted.Load())
		decisions("refused", n.refused.Load())
		decisions("undecided", n.undecided.Load())
		if m, ok := a.methods[name].(interface{ cacheHits() uint64 }); ok {
			set.Counter("tributary_auth_cache_hits_total", "Decisions that an authentication method took from its cache.", m.cacheHits(), label)
		}
		if m, ok := a.methods[name].(interface{ latency() *metric.Histogram }); ok {
			set.Histogram("tributary_auth_request_seconds", "Time until a service that checks credentials answered.", m.latency(), label)
		}
	}
	return set
}
