package registry

import (
	"maps"
	"slices"
	"strings"

	"tributary.io/gateway/metric"
)

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

// Trusts says whether a gateway device may send as a device and receive its commands. A device
// may always speak for itself, and for others only if its gateway_for says so. A disabled
// gateway or device is not trusted.
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
	devices := 0
	v := r.view.Load()
	for _, app := range v.apps {
		devices += app.devices.len()
	}
	var set metric.Set
	logins := func(verdict string, n uint64) {
		set.Counter("tributary_registry_logins_total", "Connections whose credentials the registry judged, by verdict.", n,
			metric.Label{Name: "verdict", Value: verdict})
	}
	logins("accepted", r.accepted.Load())
	logins("refused", r.refused.Load())
	set.Counter("tributary_registry_password_hashes_total", "Passwords hashed to check them; a cached success costs none.",
		r.verify.hashed.Load())
	set.Counter("tributary_registry_changes_total", "Changes of applications, devices, users and their credentials.", r.changes.Load())
	set.Gauge("tributary_registry_applications", "Applications.", float64(len(v.apps)))
	set.Gauge("tributary_registry_devices", "Registered devices of all applications.", float64(devices))
	set.Gauge("tributary_registry_users", "Users.", float64(r.users.len()))
	return set
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
