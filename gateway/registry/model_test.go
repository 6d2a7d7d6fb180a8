package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tributary.io/gateway/resource"
)

// model is the registry as plain maps.
type model struct {
	apps    map[string]resource.Application
	devices map[string]resource.Device // "<application>/<name>", without credentials
	users   map[string]resource.User
	keys    map[resource.Owner]map[string]string // credential id → key
	tokens  map[string]string                    // name → secret
	purging map[string]bool                      // applications
}

// machine runs the registry beside its model.
type machine struct {
	st *memory
	r  *Registry
	m  model
}

var entryDetails = cmpopts.IgnoreFields(resource.Entry{}, "Created", "Changed", "Revision")

func (s *machine) open(t *rapid.T) {
	r, err := New(Config{}, s.st, discard())
	if err != nil {
		t.Fatal(err)
	}
	s.r = r
}

// is fails unless err is a fault of this kind.
func is(t *rapid.T, err error, kind resource.FaultKind, doing string) {
	t.Helper()
	var f *resource.Fault
	if !errors.As(err, &f) || f.Kind != kind || f.Reason == "" {
		t.Fatalf("%s: %v, want a fault of kind %d", doing, err, kind)
	}
}

func drawName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
}

func (s *machine) PutApplication(t *rapid.T) {
	a := s.r.NewApplication(drawName(t))
	a.Messaging = rapid.Bool().Draw(t, "messaging")
	now, created, err := s.r.PutApplication(a, resource.Precondition{})
	if s.m.purging[a.Name] {
		is(t, err, resource.Conflict, "an application whose purge has not ended")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	_, had := s.m.apps[a.Name]
	if created == had || now.Revision == "" {
		t.Fatalf("created %v, it was there: %v, revision %q", created, had, now.Revision)
	}
	s.m.apps[a.Name] = a
}

func (s *machine) DeleteApplication(t *rapid.T) {
	name, purge := drawName(t), rapid.Bool().Draw(t, "purge")
	err := s.r.DeleteApplication(name, purge, resource.Precondition{})
	if _, ok := s.m.apps[name]; !ok {
		is(t, err, resource.NotFound, "deleting an absent application")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	delete(s.m.apps, name)
	if purge {
		s.m.purging[name] = true
	}
	maps.DeleteFunc(s.m.devices, func(key string, _ resource.Device) bool { return strings.HasPrefix(key, name+"/") })
	maps.DeleteFunc(s.m.keys, func(o resource.Owner, _ map[string]string) bool { return o.Application == name })
}

func (s *machine) Purged(t *rapid.T) {
	name := drawName(t)
	if err := s.r.Purged(name); err != nil {
		t.Fatal(err)
	}
	delete(s.m.purging, name)
}

func (s *machine) PutDevice(t *rapid.T) {
	d := s.r.NewDevice(drawName(t), drawName(t))
	d.Disabled = rapid.Bool().Draw(t, "disabled")
	if rapid.Bool().Draw(t, "gateway") {
		d.GatewayFor = []string{"*"}
	}
	if rapid.Bool().Draw(t, "alias") {
		d.Aliases = []string{rapid.SampledFrom([]string{"s1", "s2", "a", "b"}).Draw(t, "alias")}
	}
	pre := resource.Precondition{Absent: rapid.Bool().Draw(t, "absent")}
	_, created, err := s.r.PutDevice(d, pre)
	key := d.Application + "/" + d.Name
	_, had := s.m.devices[key]
	switch {
	case slices.Contains(d.Aliases, d.Name):
		is(t, err, resource.Invalid, "its own name as an alias")
	case !has(s.m.apps, d.Application):
		is(t, err, resource.NotFound, "a device in no application")
	case had && pre.Absent:
		is(t, err, resource.Outdated, "a device that is there")
	case s.nameTaken(&d):
		is(t, err, resource.Conflict, "a taken name")
	case err != nil || created == had:
		t.Fatalf("%+v: created %v, %v", d, created, err)
	default:
		s.m.devices[key] = d
	}
}

func has[V any](m map[string]V, name string) bool { _, ok := m[name]; return ok }

func (s *machine) nameTaken(d *resource.Device) bool {
	for _, other := range s.m.devices {
		if other.Application != d.Application || other.Name == d.Name {
			continue
		}
		if slices.Contains(other.Aliases, d.Name) || slices.ContainsFunc(d.Aliases,
			func(a string) bool { return a == other.Name || slices.Contains(other.Aliases, a) }) {
			return true
		}
	}
	return false
}

func (s *machine) DeleteDevice(t *rapid.T) {
	app, name := drawName(t), drawName(t)
	err := s.r.DeleteDevice(app, name, resource.Precondition{})
	if !has(s.m.devices, app+"/"+name) {
		is(t, err, resource.NotFound, "deleting an absent device")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	delete(s.m.devices, app+"/"+name)
	delete(s.m.keys, resource.Owner{Application: app, Name: name})
}

func (s *machine) PutUser(t *rapid.T) {
	u := resource.User{Name: drawName(t), Read: []string{drawName(t)}, Write: []string{}}
	if _, _, err := s.r.PutUser(u, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	s.m.users[u.Name] = u
}

func (s *machine) DeleteUser(t *rapid.T) {
	name := drawName(t)
	err := s.r.DeleteUser(name, resource.Precondition{})
	if !has(s.m.users, name) {
		is(t, err, resource.NotFound, "deleting an absent user")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	delete(s.m.users, name)
	delete(s.m.keys, resource.Owner{Name: name})
}

func (s *machine) owner(t *rapid.T) (o resource.Owner, there bool) {
	o.Name = drawName(t)
	if rapid.Bool().Draw(t, "device") {
		o.Application = drawName(t)
		return o, has(s.m.devices, o.Application+"/"+o.Name)
	}
	return o, has(s.m.users, o.Name)
}

func (s *machine) AddKey(t *rapid.T) {
	o, there := s.owner(t)
	c, key, err := s.r.AddCredential(o, resource.NewCredential{Kind: resource.KeyCredential})
	switch {
	case !there:
		is(t, err, resource.NotFound, "a key for nobody")
	case len(s.m.keys[o]) >= maxCredentials:
		is(t, err, resource.Conflict, "a key too many")
	case err != nil:
		t.Fatal(err)
	default:
		if s.m.keys[o] == nil {
			s.m.keys[o] = map[string]string{}
		}
		s.m.keys[o][c.ID] = key
	}
}

func (s *machine) RemoveKey(t *rapid.T) {
	o, _ := s.owner(t)
	ids := slices.Sorted(maps.Keys(s.m.keys[o]))
	if len(ids) == 0 {
		is(t, s.r.RemoveCredential(o, "nope"), resource.NotFound, "removing no key")
		return
	}
	id := rapid.SampledFrom(ids).Draw(t, "id")
	if err := s.r.RemoveCredential(o, id); err != nil {
		t.Fatal(err)
	}
	delete(s.m.keys[o], id)
}

func (s *machine) Token(t *rapid.T) {
	name := drawName(t)
	if secret, ok := s.m.tokens[name]; ok {
		if err := s.r.DeleteToken(name, resource.Precondition{}); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.r.Authenticate(secret); ok {
			t.Fatal("a deleted token is right")
		}
		delete(s.m.tokens, name)
		return
	}
	_, secret, err := s.r.CreateToken(resource.Token{Name: name, Role: resource.Operator})
	if err != nil {
		t.Fatal(err)
	}
	s.m.tokens[name] = secret
}

func (s *machine) Restart(t *rapid.T) { s.open(t) }

// Check compares everything that can be seen.
func (s *machine) Check(t *rapid.T) {
	diff := func(what string, want, got any) {
		if d := cmp.Diff(want, got, entryDetails, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("%s (-model +registry):\n%s", what, d)
		}
	}
	diff("purging", slices.Sorted(maps.Keys(s.m.purging)), s.r.Purging())
	apps, devices, users := map[string]resource.Application{}, map[string]resource.Device{}, map[string]resource.User{}
	keys := map[string]bool{}
	last := ""
	s.r.ListApplications("", func(a resource.Application) bool {
		if a.Name <= last {
			t.Fatal("applications are out of order")
		}
		last = a.Name
		count := 0
		lastDevice := ""
		s.r.ListDevices(a.Name, "", func(d resource.Device) bool {
			if d.Name <= lastDevice {
				t.Fatal("devices are out of order")
			}
			lastDevice = d.Name
			for _, c := range d.Credentials {
				keys[fmt.Sprint(resource.Owner{Application: a.Name, Name: d.Name}, c.ID)] = true
			}
			d.Credentials = nil
			devices[a.Name+"/"+d.Name], count = d, count+1
			return true
		})
		if a.Devices != count {
			t.Fatalf("application %s says that it has %d devices, not %d", a.Name, a.Devices, count)
		}
		a.Devices = 0
		apps[a.Name] = a
		return true
	})
	s.r.ListUsers("", func(u resource.User) bool {
		for _, c := range u.Credentials {
			keys[fmt.Sprint(resource.Owner{Name: u.Name}, c.ID)] = true
		}
		u.Credentials = nil
		users[u.Name] = u
		return true
	})
	diff("applications", s.m.apps, apps)
	diff("devices", s.m.devices, devices)
	diff("users", s.m.users, users)
	want := map[string]bool{}
	for o, list := range s.m.keys {
		for id, key := range list {
			want[fmt.Sprint(o, id)] = true
			login := o.Name
			if o.Application != "" {
				login += "@" + o.Application
			}
			g, err := s.r.Key(t.Context(), login, []byte(key))
			disabled := s.m.devices[o.Application+"/"+o.Name].Disabled
			if (err == nil) == disabled || err == nil && g.Principal != o.Principal() {
				t.Fatalf("key of %v: %+v, %v", o, g, err)
			}
		}
	}
	diff("keys", want, keys)
	for _, secret := range s.m.tokens {
		if _, ok := s.r.Authenticate(secret); !ok {
			t.Fatal("a token is lost")
		}
	}
	for key, d := range s.m.devices {
		for _, alias := range append(d.Aliases, d.Name) {
			if got := s.r.Resolve(d.Application, alias); got != d.Name {
				t.Fatalf("%s of %s resolves to %s", alias, key, got)
			}
		}
		var gateways []string
		for _, other := range s.m.devices {
			if other.Application == d.Application && other.Name != d.Name && len(other.GatewayFor) > 0 && !other.Disabled && !d.Disabled {
				gateways = append(gateways, other.Name)
			}
		}
		slices.Sort(gateways)
		diff("gateways of "+key, gateways, s.r.Gateways(d.Application, d.Name))
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &machine{st: &memory{}, m: model{
			apps: map[string]resource.Application{}, devices: map[string]resource.Device{}, users: map[string]resource.User{},
			keys: map[resource.Owner]map[string]string{}, tokens: map[string]string{}, purging: map[string]bool{},
		}}
		s.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"": s.Check, "put application": s.PutApplication, "delete application": s.DeleteApplication, "purged": s.Purged,
			"put device": s.PutDevice, "put device again": s.PutDevice, "delete device": s.DeleteDevice,
			"put user": s.PutUser, "delete user": s.DeleteUser, "add key": s.AddKey, "remove key": s.RemoveKey,
			"token": s.Token, "restart": s.Restart,
		})
	})
}
