package registry

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// Changes return a *resource.Fault if the request is wrong. Any other error means that nothing
// was decided, because the store failed. A change that changes nothing is no error and leaves
// the revision as it is.

// change makes one change at a time. do returns the grants that have to be renewed, or nil if
// nothing changed.
func (r *Registry) change(do func() (*access.Change, error)) error {
	r.mu.Lock()
	changed, err := do()
	r.mu.Unlock()
	if changed != nil {
		r.notify(*changed)
	}
	return err
}

// write makes a write durable, with others in the same commit, and returns its
// revision; a nil value deletes. had is the revision that the entry has. r.mu is
// held.
func (r *Registry) write(key, had string, value []byte, others ...store.Batch) (string, error) {
	k := store.Key{Kind: store.Meta, Name: key}
	expected, err := strconv.ParseUint(had, 36, 64)
	if had != "" && err != nil {
		return "", fmt.Errorf("revision %q of %s: %w", had, key, err)
	}
	b := store.Batch{Expect: []store.Expect{{Key: k, Revision: store.Revision(expected)}}}
	if value == nil {
		b.Deletes = append(b.Deletes, k)
	} else {
		b.Puts = append(b.Puts, store.Put{Key: k, Value: value})
	}
	for _, o := range others {
		b.Puts, b.Deletes = append(b.Puts, o.Puts...), append(b.Deletes, o.Deletes...)
	}
	if err := store.CommitWait(r.store, &b); err != nil {
		return "", fmt.Errorf("writing %s: %w", key, err)
	}
	_, rev, err := r.store.Get(k)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", key, err)
	}
	return revision(rev), nil
}

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f[0]
}

func fault(kind resource.FaultKind, format string, args ...any) *resource.Fault {
	return &resource.Fault{Kind: kind, Reason: fmt.Sprintf(format, args...)}
}

// permit says whether an entry may be changed; nil stands for one that is not
// there. what names it.
func permit(e *resource.Entry, pre resource.Precondition, what string) error {
	switch {
	case e == nil && pre.Revision != "":
		return fault(resource.Outdated, "%s does not exist any more", what)
	case e == nil && pre.Present:
		return fault(resource.Outdated, "there is no %s", what)
	case e == nil:
		return nil
	case pre.Absent:
		return fault(resource.Outdated, "%s exists already", what)
	case e.FromFile:
		return fault(resource.Conflict, "%s is declared in gateway.toml: change it there and restart the gateway", what)
	case pre.Revision != "" && pre.Revision != e.Revision:
		return fault(resource.Outdated, "%s was changed meanwhile; read it again", what)
	}
	return nil
}

// permitDelete is permit for a deletion, which needs something to delete.
func permitDelete(e *resource.Entry, pre resource.Precondition, what string) error {
	if e == nil {
		return fault(resource.NotFound, "there is no %s", what)
	}
	return permit(e, pre, what)
}

// stamp returns the entry of what is about to be written in place of old.
func (r *Registry) stamp(old *resource.Entry) resource.Entry {
	now := r.now().UTC().Truncate(time.Millisecond)
	if old == nil {
		return resource.Entry{Created: now, Changed: now}
	}
	return resource.Entry{Created: old.Created, Changed: now, Revision: old.Revision}
}

// same says whether two entries have the same settings.
func same[T any](a, b T) bool { return reflect.DeepEqual(a, b) }

func (a *application) meta() *resource.Entry {
	if a == nil {
		return nil
	}
	return &a.Entry
}

func (d *device) meta() *resource.Entry {
	if d == nil {
		return nil
	}
	return &d.Entry
}

func (u *user) meta() *resource.Entry {
	if u == nil {
		return nil
	}
	return &u.Entry
}

func (t *token) meta() *resource.Entry {
	if t == nil {
		return nil
	}
	return &t.Entry
}

// PutApplication makes an application, or changes its settings. A new one takes in
// the devices that the store holds of one of its name, which only a file declared.
func (r *Registry) PutApplication(a resource.Application, pre resource.Precondition) (now resource.Application, created bool, err error) {
	if err := checkApplication(&a).err(); err != nil {
		return a, false, err
	}
	var next *application
	err = r.change(func() (*access.Change, error) {
		old := r.view.Load().apps[a.Name]
		if err := permit(old.meta(), pre, "application "+a.Name); err != nil {
			return nil, err
		}
		if r.view.Load().purging[a.Name] { // what is being deleted could be the new one's
			return nil, fault(resource.Conflict,
				"application %s was deleted and is being purged: try again in a moment; where the log says that it failed, restart the gateway first",
				a.Name)
		}
		a.Devices = 0
		if old != nil {
			if a.Entry = old.Entry; same(a, old.Application) {
				next = old
				return nil, nil
			}
		}
		a.Entry, created = r.stamp(old.meta()), old == nil
		var orphans []*device
		var err error
		if created { // read before anything is written, so that an error leaves all as it is
			if orphans, err = r.orphans(a.Name); err != nil {
				return nil, err
			}
		}
		if a.Revision, err = r.write(applicationKey+a.Name, a.Revision, encode(applicationRecord{version{recordVersion}, a}),
			store.Batch{Deletes: []store.Key{{Kind: store.Meta, Name: retiredKey + a.Name}}}); err != nil {
			return nil, err
		}
		if old != nil {
			next = &application{a, old.members}
		} else {
			next = r.found(a, orphans)
		}
		r.revise(func(v *view) {
			v.apps[a.Name] = next
			delete(v.retired, a.Name)
		})
		return &access.Change{}, nil // users of other applications may read and write it, too
	})
	if err != nil {
		return a, false, err
	}
	return next.show(), created, nil
}

// found returns a new application with devices that waited for it. r.mu is held.
func (r *Registry) found(a resource.Application, devices []*device) *application {
	app := newApplication(a)
	for _, d := range devices {
		r.place(app, d, nil)
	}
	app.share()
	return app
}

// PutDevice makes a device, or changes its settings; its credentials stay.
func (r *Registry) PutDevice(d resource.Device, pre resource.Precondition) (now resource.Device, created bool, err error) {
	if err := checkDevice(&d).err(); err != nil {
		return d, false, err
	}
	var next *device
	err = r.change(func() (*access.Change, error) {
		app := r.view.Load().apps[d.Application]
		if app == nil {
			return nil, fault(resource.NotFound, "there is no application %s", d.Application)
		}
		old, _ := app.devices.get(d.Name)
		if err := permit(old.meta(), pre, "device "+d.Name); err != nil {
			return nil, err
		}
		if err := app.nameIsFree(&d); err != nil {
			return nil, err
		}
		next = newDevice(d, nil)
		if old != nil {
			next.credentials = old.credentials
			if next.Entry = old.Entry; same(next.Device, old.Device) {
				next = old
				return nil, nil
			}
		}
		next.Entry, created = r.stamp(old.meta()), old == nil
		return r.storeDevice(app, next, old)
	})
	if err != nil {
		return d, false, err
	}
	return next.show(), created, nil
}

// storeDevice writes a device and puts it in the place of old. r.mu is held.
func (r *Registry) storeDevice(app *application, next, old *device) (_ *access.Change, err error) {
	next.Application = app.Name
	if next.Revision, err = r.write(deviceKey+app.Name+"/"+next.Name, next.Revision,
		encode(deviceRecord{version{recordVersion}, next.Device, toRecords(next.credentials)})); err != nil {
		return nil, err
	}
	r.place(app, next, old)
	return &access.Change{Application: app.Name, Device: next.Name}, nil
}

// nameIsFree says whether no other device has the name or an alias of a device.
func (m *members) nameIsFree(d *resource.Device) error {
	if other, ok := m.aliases.get(d.Name); ok && other != d.Name {
		return fault(resource.Conflict, "%s is an alias of device %s", d.Name, other)
	}
	for _, alias := range d.Aliases {
		if other, ok := m.aliases.get(alias); ok && other != d.Name {
			return &resource.Fault{Kind: resource.Conflict, Field: "aliases", Reason: fmt.Sprintf("%s is an alias of device %s already", alias,
				other)}
		}
		if _, ok := m.devices.get(alias); ok {
			return &resource.Fault{Kind: resource.Conflict, Field: "aliases", Reason: fmt.Sprintf("%s is the name of a device", alias)}
		}
	}
	return nil
}

// DeleteDevice deletes a device with its credentials.
func (r *Registry) DeleteDevice(application, name string, pre resource.Precondition) error {
	return r.change(func() (*access.Change, error) {
		app := r.view.Load().apps[application]
		if app == nil {
			return nil, fault(resource.NotFound, "there is no application %s", application)
		}
		old, _ := app.devices.get(name)
		if err := permitDelete(old.meta(), pre, "device "+name); err != nil {
			return nil, err
		}
		if _, err := r.write(deviceKey+application+"/"+name, old.Revision, nil); err != nil {
			return nil, err
		}
		r.place(app, nil, old)
		return &access.Change{Application: application, Device: name}, nil
	})
}

// PutUser makes a user, or changes its settings; its credentials stay.
func (r *Registry) PutUser(u resource.User, pre resource.Precondition) (now resource.User, created bool, err error) {
	if err := checkUser(&u).err(); err != nil {
		return u, false, err
	}
	var next *user
	err = r.change(func() (*access.Change, error) {
		old, _ := r.users.get(u.Name)
		if err := permit(old.meta(), pre, "user "+u.Name); err != nil {
			return nil, err
		}
		next = newUser(u, nil)
		if old != nil {
			next.credentials = old.credentials
			if next.Entry = old.Entry; same(next.User, old.User) {
				next = old
				return nil, nil
			}
		}
		next.Entry, created = r.stamp(old.meta()), old == nil
		return r.storeUser(next, old)
	})
	if err != nil {
		return u, false, err
	}
	return next.show(), created, nil
}

// storeUser writes a user and puts it in the place of old. r.mu is held.
func (r *Registry) storeUser(next, old *user) (_ *access.Change, err error) {
	if next.Revision, err = r.write(userKey+next.Name, next.Revision,
		encode(userRecord{version{recordVersion}, next.User, toRecords(next.credentials)})); err != nil {
		return nil, err
	}
	r.placeUser(next, old)
	return &access.Change{Principal: resource.Owner{Name: next.Name}.Principal()}, nil
}

// DeleteUser deletes a user with its credentials.
func (r *Registry) DeleteUser(name string, pre resource.Precondition) error {
	return r.change(func() (*access.Change, error) {
		old, _ := r.users.get(name)
		if err := permitDelete(old.meta(), pre, "user "+name); err != nil {
			return nil, err
		}
		if _, err := r.write(userKey+name, old.Revision, nil); err != nil {
			return nil, err
		}
		r.placeUser(nil, old)
		return &access.Change{Principal: resource.Owner{Name: name}.Principal()}, nil
	})
}

// placeUser puts a user into the table: new in place of old, either of which may be nil. r.mu
// is held, or r is not shared yet.
func (r *Registry) placeUser(next, old *user) {
	var owner resource.Owner
	var had, has []credential
	if old != nil {
		owner.Name, had = old.Name, old.credentials
	}
	if next != nil {
		owner.Name, has = next.Name, next.credentials
		r.users.set(owner.Name, next)
	} else {
		r.users.remove(owner.Name)
	}
	r.prove(owner, had, has)
}
