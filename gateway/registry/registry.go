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
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
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
	decoy  []byte // makes SCRAM keys for users that have none

	view         atomic.Pointer[view]
	users        table[*user]
	certificates table[proof] // by their SHA-256

	local atomic.Pointer[[sha256.Size]byte] // see LocalToken

	mu       sync.Mutex // held by the one change that is being made
	watchers atomic.Pointer[[]func(access.Change)]

	accepted, refused, changes atomic.Uint64
}

// view is the part that is small enough to be copied whole for a change.
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

// proof names the holder of a certificate.
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
		apps: map[string]*application{}, tokens: map[string]*token{}, sums: map[[sha256.Size]byte]*token{}, retired: map[string]retention{},
		purging: map[string]bool{},
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
	v := &view{apps: maps.Clone(old.apps), tokens: maps.Clone(old.tokens), retired: maps.Clone(old.retired), purging: maps.Clone(old.purging),
		sums: map[[sha256.Size]byte]*token{}}
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
			credentials := slices.Concat(declared(resource.PasswordCredential, d.PasswordHashes),
				declared(resource.CertificateCredential, d.Certificates))
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
