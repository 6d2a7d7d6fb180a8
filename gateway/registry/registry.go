// Package registry knows the applications with their devices, the users, their
// credentials and the admin tokens, and answers who somebody is and who may
// speak for whom. It keeps them in the store and in memory; what gateway.toml
// declares is laid over that at each start. It may import store; config composes
// its Config, server hands it to authentication, the router and the admin API.
//
// Questions take no lock. Changes are made one at a time: a change is checked,
// written, durable, visible, and only then answered and told to the watchers.
package registry

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// Store is what the registry needs of a store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Registry answers questions about applications, devices and users, and changes
// them. It is safe for concurrent use.
type Registry struct {
	store  Store
	log    *slog.Logger
	verify *verifier
	now    func() time.Time
	decoy  []byte // makes the SCRAM keys of those who have none

	view         atomic.Pointer[view]
	users        table[*user]
	certificates table[proof] // by their SHA-256

	local atomic.Pointer[[sha256.Size]byte] // see LocalToken

	mu       sync.Mutex // held by the one change that is being made
	watchers atomic.Pointer[[]func(access.Change)]

	accepted, refused, changes atomic.Uint64
}

// view is what is small enough to be copied whole for a change.
type view struct {
	apps   map[string]*application
	tokens map[string]*token
	sums   map[[sha256.Size]byte]*token
	// retired are applications that were deleted while their logs are still there.
	retired map[string]retention
	// purging are applications that were deleted while other stages still have to
	// delete what they keep of them.
	purging map[string]bool
	// open is the application that a connection without credentials belongs to:
	// the only one that allows it. openApps counts those that do.
	open     string
	openApps int
}

// application is an application's settings, which never change: another one
// takes its place; and its devices, which that one takes over.
type application struct {
	resource.Application
	*members
}

// members are the devices of an application.
type members struct {
	devices  table[*device]
	aliases  table[string]            // alias → name
	gateways atomic.Pointer[[]string] // enabled devices with gateway_for, sorted
}

// device, user and token never change once they are in a table.
type device struct {
	resource.Device // without Credentials
	credentials     []credential
}

type user struct {
	resource.User // without Credentials
	credentials   []credential
}

type token struct {
	resource.Token
	sum  [sha256.Size]byte
	used *atomic.Int64 // Unix minutes, 0: never
}

// credential is a credential with what proves it: a hash of a password or key,
// never what its owner presents.
type credential struct {
	resource.Credential
	secret string // see secret.go
}

// proof says whose credential a certificate is.
type proof struct {
	owner resource.Owner
	id    string
}

type retention struct {
	age   time.Duration
	bytes int64
}

// New makes a registry from what the store holds and the file declares, or
// returns everything that is wrong with the configuration.
func New(cfg Config, st Store, log *slog.Logger) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{store: st, log: log, now: time.Now}
	r.users.private, r.certificates.private = true, true
	var err error
	if r.verify, err = newVerifier(); err != nil {
		return nil, err
	}
	r.view.Store(&view{
		apps: map[string]*application{}, tokens: map[string]*token{}, sums: map[[sha256.Size]byte]*token{}, retired: map[string]retention{}, purging: map[string]bool{},
	})
	r.watchers.Store(&[]func(access.Change){})
	r.declare(cfg)
	if err := r.load(); err != nil {
		return nil, fmt.Errorf("reading the registry from the store: %w", err)
	}
	r.view.Load().finish()
	r.publish()
	return r, r.keepDecoy()
}

// publish ends the loading: from here on, what is in a table is shared.
func (r *Registry) publish() {
	r.users.private, r.certificates.private = false, false
	for _, app := range r.view.Load().apps {
		app.share()
	}
}

// share ends the loading of an application's devices.
func (m *members) share() { m.devices.private, m.aliases.private = false, false }

// newApplication returns an application that is being loaded, and not shared yet.
func newApplication(a resource.Application) *application {
	app := &application{a, &members{}}
	app.devices.private, app.aliases.private = true, true
	return app
}

// newDevice returns a device as tables keep it: the rights that most have are
// kept once.
func newDevice(d resource.Device, credentials []credential) *device {
	d.Credentials = nil
	d.Publish, d.Subscribe = shared(d.Publish), shared(d.Subscribe)
	d.Aliases, d.GatewayFor = absent(d.Aliases), absent(d.GatewayFor)
	return &device{d, credentials}
}

// newUser returns a user as tables keep it.
func newUser(u resource.User, credentials []credential) *user {
	u.Credentials = nil
	u.Read, u.Write = shared(u.Read), shared(u.Write)
	return &user{u, credentials}
}

// everything and nothing are the lists that most entries have, kept once.
var everything, nothing = []string{"#"}, []string{}

func shared(list []string) []string {
	switch {
	case len(list) == 0:
		return nothing
	case len(list) == 1 && list[0] == everything[0]:
		return everything
	}
	return list
}

// absent makes an empty list nil.
func absent(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// finish computes what depends on all applications and tokens. The view is not
// shared yet.
func (v *view) finish() {
	v.open, v.openApps = "", 0
	for name, app := range v.apps {
		if app.Anonymous {
			v.open = name
			v.openApps++
		}
	}
	clear(v.sums)
	for _, t := range v.tokens {
		v.sums[t.sum] = t
	}
}

// revise replaces the view by a changed copy of it. r.mu is held.
func (r *Registry) revise(change func(v *view)) {
	old := r.view.Load()
	v := &view{apps: maps.Clone(old.apps), tokens: maps.Clone(old.tokens), retired: maps.Clone(old.retired), purging: maps.Clone(old.purging), sums: map[[sha256.Size]byte]*token{}}
	change(v)
	v.finish()
	r.view.Store(v)
}

// declare takes in what the file declares, before anything else is there.
func (r *Registry) declare(cfg Config) {
	v := r.view.Load()
	for name, a := range cfg.Applications {
		app := newApplication(*a.entry(name))
		v.apps[name] = app
		for id, d := range a.Devices {
			credentials := slices.Concat(declared(resource.PasswordCredential, d.PasswordHashes), declared(resource.CertificateCredential, d.Certificates))
			r.place(app, newDevice(*d.entry(name, id), credentials), nil)
		}
	}
	for name, u := range cfg.Users {
		r.placeUser(newUser(*u.entry(name), declared(resource.PasswordCredential, u.PasswordHashes)), nil)
	}
	for name, t := range cfg.Tokens {
		sum, _ := parseSum(t.Hash)
		v.tokens[name] = &token{Token: *t.entry(name), sum: sum, used: &atomic.Int64{}}
	}
}

// declared makes credentials of hashes of the file.
func declared(kind resource.CredentialKind, hashes []string) []credential {
	var list []credential
	for i, h := range hashes {
		c := credential{Credential: resource.Credential{ID: fmt.Sprintf("%s-%d", kind, i+1), Kind: kind}, secret: h}
		if kind == resource.CertificateCredential {
			sum, _ := parseSum(h)
			c.Fingerprint = hexSum(sum)
			c.secret = c.Fingerprint
		}
		list = append(list, c)
	}
	return list
}

// Watch has fn called after every change that grants may depend on, when the
// change is visible. It runs in the goroutine of the change and must not make
// another one.
func (r *Registry) Watch(fn func(access.Change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := append(slices.Clone(*r.watchers.Load()), fn)
	r.watchers.Store(&list)
}

func (r *Registry) notify(c access.Change) {
	r.changes.Add(1)
	for _, fn := range *r.watchers.Load() {
		fn(c)
	}
}

// Applications returns the names of all applications, sorted.
func (r *Registry) Applications() []string { return slices.Sorted(maps.Keys(r.view.Load().apps)) }

// Exists says whether there is such an application.
func (r *Registry) Exists(application string) bool { return r.view.Load().apps[application] != nil }

// Messaging says whether there is such an application, and whether its devices get
// what others publish.
func (r *Registry) Messaging(application string) (on, known bool) {
	app := r.view.Load().apps[application]
	return app != nil && app.Messaging, app != nil
}

// Device says whether an application knows a device, and whether the device
// was disabled. A device is known when it is registered, when a gateway of the
// application may speak for it, or when the application is anonymous and the
// name is possible; such implicit devices are never disabled.
func (r *Registry) Device(application, name string) (known, disabled bool) {
	app := r.view.Load().apps[application]
	if app == nil {
		return false, false
	}
	if d, ok := app.devices.get(name); ok {
		return true, d.Disabled
	}
	if !ValidDevice(name) {
		return false, false
	}
	if app.Anonymous {
		return true, false
	}
	for _, g := range app.gatewayNames() {
		if d, ok := app.devices.get(g); ok && d.speaksFor(name) {
			return true, false
		}
	}
	return false, false
}

// Resolve returns the name of the device that a name or alias belongs to; what
// is neither is returned as it is.
func (r *Registry) Resolve(application, name string) string {
	if app := r.view.Load().apps[application]; app != nil {
		return app.resolve(name)
	}
	return name
}

func (m *members) resolve(name string) string {
	if _, ok := m.devices.get(name); ok {
		return name
	}
	if device, ok := m.aliases.get(name); ok {
		return device
	}
	return name
}

// Trusts says whether a gateway device may send as a device and receive its
// commands. A device may always speak for itself; for others nobody may unless
// gateway_for says so. A disabled gateway or device is not trusted.
func (r *Registry) Trusts(application, gateway, name string) bool {
	app := r.view.Load().apps[application]
	if app == nil {
		return false
	}
	g, ok := app.devices.get(gateway)
	if ok && g.Disabled {
		return false
	}
	if gateway == name {
		return true
	}
	if d, ok := app.devices.get(name); ok && d.Disabled {
		return false
	}
	return ok && g.speaksFor(name) && ValidDevice(name)
}

// Gateways returns the enabled gateway devices that may speak for a device,
// sorted, without the device itself.
func (r *Registry) Gateways(application, name string) []string {
	app := r.view.Load().apps[application]
	if app == nil {
		return nil
	}
	var list []string
	for _, g := range app.gatewayNames() {
		if g != name && r.Trusts(application, g, name) {
			list = append(list, g)
		}
	}
	return list
}

func (m *members) gatewayNames() []string {
	if names := m.gateways.Load(); names != nil {
		return *names
	}
	return nil
}

// Metrics returns the registry's counters.
func (r *Registry) Metrics() []metric.Sample {
	const logins, help = "tributary_registry_logins_total", "Connections whose credentials the registry judged, by verdict."
	sample := func(kind metric.Kind, name, help string, n float64, labels ...metric.Label) metric.Sample {
		return metric.Sample{Name: name, Help: help, Kind: kind, Labels: labels, Value: n}
	}
	devices := 0
	v := r.view.Load()
	for _, app := range v.apps {
		devices += app.devices.len()
	}
	return []metric.Sample{
		sample(metric.CounterKind, logins, help, float64(r.accepted.Load()), metric.Label{Name: "verdict", Value: "accepted"}),
		sample(metric.CounterKind, logins, help, float64(r.refused.Load()), metric.Label{Name: "verdict", Value: "refused"}),
		sample(metric.CounterKind, "tributary_registry_password_hashes_total", "Passwords hashed to check them; a cached success costs none.", float64(r.verify.hashed.Load())),
		sample(metric.CounterKind, "tributary_registry_changes_total", "Changes of applications, devices, users and their credentials.", float64(r.changes.Load())),
		sample(metric.GaugeKind, "tributary_registry_applications", "Applications.", float64(len(v.apps))),
		sample(metric.GaugeKind, "tributary_registry_devices", "Registered devices of all applications.", float64(devices)),
		sample(metric.GaugeKind, "tributary_registry_users", "Users.", float64(r.users.len())),
	}
}

func (d *device) speaksFor(name string) bool {
	return slices.ContainsFunc(d.GatewayFor, func(pattern string) bool { return glob(pattern, name) })
}

// glob matches a name against a pattern in which * stands for any run of
// characters, also none.
func glob(pattern, name string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	name = name[len(head):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name, rest = name[i+len(part):], more
	}
}
