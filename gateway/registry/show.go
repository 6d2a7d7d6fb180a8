package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"slices"
	"strconv"
	"time"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

func (a *application) show() resource.Application {
	shown := a.Application
	shown.Devices = a.devices.len()
	return shown
}

func (d *device) show() resource.Device {
	shown := d.Device
	shown.Credentials = public(d.credentials)
	return shown
}

func (u *user) show() resource.User {
	shown := u.User
	shown.Credentials = public(u.credentials)
	return shown
}

func (t *token) show() resource.Token {
	shown := t.Token
	if minutes := t.used.Load(); minutes > 0 {
		shown.LastUsed = time.Unix(minutes*60, 0).UTC()
	}
	return shown
}

// public leaves out what is secret.
func public(list []credential) []resource.Credential {
	var shown []resource.Credential
	for _, c := range list {
		shown = append(shown, c.Credential)
	}
	return shown
}

// Application returns an application.
func (r *Registry) Application(name string) (resource.Application, bool) {
	if a := r.view.Load().apps[name]; a != nil {
		return a.show(), true
	}
	return resource.Application{}, false
}

// ListApplications calls fn for the applications behind a name, in order of
// names, until fn returns false.
func (r *Registry) ListApplications(after string, fn func(resource.Application) bool) {
	list(r.view.Load().apps, after, func(a *application) bool { return fn(a.show()) })
}

// list calls fn for the entries of a small map, in order of names.
func list[V any](m map[string]V, after string, fn func(V) bool) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if name > after && !fn(m[name]) {
			return
		}
	}
}

// LookUp returns a device by its name or alias.
func (r *Registry) LookUp(application, name string) (resource.Device, bool) {
	app := r.view.Load().apps[application]
	if app == nil {
		return resource.Device{}, false
	}
	d, ok := app.devices.get(app.resolve(name))
	if !ok {
		return resource.Device{}, false
	}
	return d.show(), true
}

// ListDevices calls fn for the devices of an application behind a name, in order
// of names, until fn returns false.
func (r *Registry) ListDevices(application, after string, fn func(resource.Device) bool) {
	if app := r.view.Load().apps[application]; app != nil {
		app.devices.page(after, func(d *device) bool { return fn(d.show()) })
	}
}

// User returns a user.
func (r *Registry) User(name string) (resource.User, bool) {
	if u, ok := r.users.get(name); ok {
		return u.show(), true
	}
	return resource.User{}, false
}

// ListUsers calls fn for the users behind a name, in order of names, until fn
// returns false.
func (r *Registry) ListUsers(after string, fn func(resource.User) bool) {
	r.users.page(after, func(u *user) bool { return fn(u.show()) })
}

// Token returns an admin token.
func (r *Registry) Token(name string) (resource.Token, bool) {
	if t := r.view.Load().tokens[name]; t != nil {
		return t.show(), true
	}
	return resource.Token{}, false
}

// ListTokens calls fn for the admin tokens behind a name, in order of names,
// until fn returns false.
func (r *Registry) ListTokens(after string, fn func(resource.Token) bool) {
	list(r.view.Load().tokens, after, func(t *token) bool { return fn(t.show()) })
}

// LocalToken makes an admin token with every right that is kept in memory only:
// it ends with the process.
func (r *Registry) LocalToken() (secret string) {
	secret, hash, _ := NewToken()
	sum, _ := parseSum(hash)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local.Store(&sum)
	return secret
}

// Authenticate returns the admin token that a secret belongs to; false if it is unknown or
// expired. It notes when the token was used.
func (r *Registry) Authenticate(secret string) (resource.Token, bool) {
	// The lookup is by a hash that no client can choose, so the time that it takes says nothing
	// about the tokens that exist.
	sum := sha256.Sum256([]byte(secret))
	if local := r.local.Load(); local != nil && subtle.ConstantTimeCompare(sum[:], local[:]) == 1 {
		return resource.Token{Name: "(local)", Role: resource.Admin}, true
	}
	t := r.view.Load().sums[sum]
	now := r.now()
	if t == nil || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return resource.Token{}, false
	}
	r.use(t, now)
	return t.show(), true
}

// use notes when a token was used, at most once a minute. That need not be
// durable at once, and is not waited for.
func (r *Registry) use(t *token, now time.Time) {
	minutes, last := now.Unix()/60, t.used.Load()
	if minutes <= last || !t.used.CompareAndSwap(last, minutes) {
		return
	}
	err := r.store.Commit(&store.Batch{Puts: []store.Put{{
		Key: store.Key{Kind: store.Meta, Name: usedKey + t.Name}, Value: strconv.AppendInt(nil, minutes, 10),
	}}}, func(error) {})
	if err != nil {
		r.log.Debug("the last use of a token was not stored", "token", t.Name, "error", err)
	}
}

// NewApplication returns an application at its defaults, which is not there yet.
func (r *Registry) NewApplication(name string) resource.Application {
	a := *DefaultApplication().entry(name)
	a.Entry = resource.Entry{}
	return a
}

// NewDevice returns a device at its defaults, which is not there yet.
func (r *Registry) NewDevice(application, name string) resource.Device {
	d := *DefaultDevice().entry(application, name)
	d.Entry = resource.Entry{}
	return d
}
