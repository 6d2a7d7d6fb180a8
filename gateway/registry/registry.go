// Package registry knows the applications with their devices and users, judges
// the credentials of a connection and answers who may speak for whom. It keeps
// what gateway.toml declares; nothing changes after New. It imports stage only;
// config composes its Config, server hands it to the listeners and the router.
package registry

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tributary.io/gateway/stage"
)

// Registry answers questions about applications, devices and users. It is safe
// for concurrent use.
type Registry struct {
	apps   map[string]*application
	logins map[string]*login // by MQTT user name: "<device>@<application>" or a user's name
	verify *verifier
	// open is the application that a connection without credentials belongs to:
	// the only one that allows it. openApps counts those that do.
	open     string
	openApps int

	accepted, refused atomic.Uint64
}

// application is an Application made ready for questions.
type application struct {
	anonymous      bool
	messaging      bool
	retentionAge   time.Duration
	retentionBytes int64
	devices        map[string]*device
	gateways       []string // enabled devices with gateway_for, sorted
}

type device struct {
	disabled   bool
	protected  bool // has a password, so nobody gets in without
	gatewayFor []string
	publish    []string
	subscribe  []string
}

// login is what a user name with the right password leads to.
type login struct {
	hashes   []hash
	grant    *stage.Grant
	disabled bool
}

// New makes a registry from a configuration, or returns everything that is
// wrong with it. It does no I/O.
func New(cfg Config) (*Registry, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{apps: make(map[string]*application, len(cfg.Applications)), logins: map[string]*login{}}
	for name, a := range cfg.Applications {
		r.addApplication(name, a)
	}
	for name, u := range cfg.Users {
		r.logins[name] = &login{hashes: parseHashes(u.PasswordHashes), grant: &stage.Grant{
			Principal: "user:" + name,
			Namespace: "user:" + name,
			Read:      u.Read,
			Write:     u.Write,
		}}
	}
	var all [][]hash
	for _, l := range r.logins {
		all = append(all, l.hashes)
	}
	var err error
	r.verify, err = newVerifier(all)
	return r, err
}

func (r *Registry) addApplication(name string, a Application) {
	app := &application{
		anonymous:      a.Anonymous,
		messaging:      a.Messaging,
		retentionAge:   a.RetentionAge,
		retentionBytes: a.RetentionBytes,
		devices:        make(map[string]*device, len(a.Devices)),
	}
	r.apps[name] = app
	if a.Anonymous {
		r.open = name
		r.openApps++
	}
	for id, d := range a.Devices {
		app.devices[id] = &device{
			disabled:   d.Disabled,
			protected:  len(d.PasswordHashes) > 0,
			gatewayFor: d.GatewayFor,
			publish:    d.Publish,
			subscribe:  d.Subscribe,
		}
		if len(d.GatewayFor) > 0 && !d.Disabled {
			app.gateways = append(app.gateways, id)
		}
		if len(d.PasswordHashes) == 0 {
			continue
		}
		r.logins[id+"@"+name] = &login{hashes: parseHashes(d.PasswordHashes), disabled: d.Disabled, grant: &stage.Grant{
			Principal:   "device:" + name + "/" + id,
			Namespace:   name,
			Application: name,
			Device:      id,
			Publish:     d.Publish,
			Subscribe:   d.Subscribe,
			Messaging:   a.Messaging,
		}}
	}
	slices.Sort(app.gateways)
}

// Applications returns the names of all applications, sorted.
func (r *Registry) Applications() []string {
	names := make([]string, 0, len(r.apps))
	for name := range r.apps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Exists says whether there is such an application.
func (r *Registry) Exists(application string) bool { return r.apps[application] != nil }

// Retention returns how long and how many bytes of an application's log are
// kept; 0 means no bound, and so does an application that does not exist.
func (r *Registry) Retention(application string) (age time.Duration, bytes int64) {
	if app := r.apps[application]; app != nil {
		return app.retentionAge, app.retentionBytes
	}
	return 0, 0
}

// Device says whether an application knows a device, and whether the device
// was disabled. A device is known when it is declared, when a gateway of the
// application may speak for it, or when the application is anonymous and the
// name is possible; such implicit devices are never disabled.
func (r *Registry) Device(application, name string) (known, disabled bool) {
	app := r.apps[application]
	if app == nil {
		return false, false
	}
	if d := app.devices[name]; d != nil {
		return true, d.disabled
	}
	if !ValidDevice(name) {
		return false, false
	}
	if app.anonymous {
		return true, false
	}
	for _, g := range app.gateways {
		if app.devices[g].speaksFor(name) {
			return true, false
		}
	}
	return false, false
}

// Trusts says whether a gateway device may send as a device and receive its
// commands. A device may always speak for itself; for others nobody may unless
// gateway_for says so. A disabled gateway or device is not trusted.
func (r *Registry) Trusts(application, gateway, name string) bool {
	app := r.apps[application]
	if app == nil {
		return false
	}
	g := app.devices[gateway]
	if g != nil && g.disabled {
		return false
	}
	if gateway == name {
		return true
	}
	if d := app.devices[name]; d != nil && d.disabled {
		return false
	}
	return g != nil && g.speaksFor(name) && ValidDevice(name)
}

// Gateways returns the enabled gateway devices that may speak for a device,
// sorted, without the device itself.
func (r *Registry) Gateways(application, name string) []string {
	app := r.apps[application]
	if app == nil {
		return nil
	}
	var list []string
	for _, g := range app.gateways {
		if g != name && r.Trusts(application, g, name) {
			list = append(list, g)
		}
	}
	return list
}

// Metrics returns the registry's counters.
func (r *Registry) Metrics() []stage.Metric {
	const logins, help = "tributary_registry_logins_total", "Connections whose credentials were judged, by verdict."
	counter := func(name, help string, n *atomic.Uint64, labels ...stage.Label) stage.Metric {
		return stage.Metric{Name: name, Help: help, Kind: stage.CounterMetric, Labels: labels, Value: float64(n.Load())}
	}
	return []stage.Metric{
		counter(logins, help, &r.accepted, stage.Label{Name: "verdict", Value: "accepted"}),
		counter(logins, help, &r.refused, stage.Label{Name: "verdict", Value: "refused"}),
		counter("tributary_registry_password_hashes_total", "Passwords hashed to check them; a cached success costs none.", &r.verify.hashed),
	}
}

func (d *device) speaksFor(name string) bool {
	return slices.ContainsFunc(d.gatewayFor, func(pattern string) bool { return glob(pattern, name) })
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
