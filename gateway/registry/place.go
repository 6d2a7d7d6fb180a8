package registry

import (
	"slices"

	"tributary.io/gateway/resource"
)

// place puts a device into its application: new in place of old, either of which may be nil.
// r.mu is held, or r is not shared yet.
func (r *Registry) place(app *application, device, old *device) {
	owner := resource.Owner{Application: app.Name}
	var had, has []credential
	if old != nil {
		owner.Name, had = old.Name, old.credentials
		for _, alias := range old.Aliases {
			if device == nil || !slices.Contains(device.Aliases, alias) {
				app.aliases.remove(alias)
			}
		}
	}
	if device != nil {
		owner.Name, has = device.Name, device.credentials
		for _, alias := range device.Aliases {
			// Of two that claim a name, which only a change of the file can bring about,
			// the first one keeps it.
			if first, ok := app.aliases.get(alias); !ok || first == device.Name {
				app.aliases.set(alias, device.Name)
			}
		}
	}
	// A credential proves nothing before its device is there, and nothing once the
	// device has lost it.
	if device != nil {
		app.devices.set(owner.Name, device)
	} else {
		app.devices.remove(owner.Name)
	}
	r.prove(owner, had, has)
	was, is := old != nil && old.isGateway(), device != nil && device.isGateway()
	if was != is {
		names := slices.Clone(app.gatewayNames())
		at, _ := slices.BinarySearch(names, owner.Name)
		if is {
			names = slices.Insert(names, at, owner.Name)
		} else {
			names = slices.Delete(names, at, at+1)
		}
		app.gateways.Store(&names)
	}
}

// isGateway says whether the device may speak for others now.
func (d *device) isGateway() bool { return len(d.GatewayFor) > 0 && !d.Disabled }

// prove keeps the certificates of an owner findable, and has the verifier know
// the price of its passwords.
func (r *Registry) prove(owner resource.Owner, had, has []credential) {
	passwords := 0
	for _, c := range has {
		switch c.Kind {
		case resource.PasswordCredential:
			passwords++
			r.verify.learn(c.secret, passwords)
		case resource.CertificateCredential:
			if p, ok := r.certificates.get(c.secret); !ok || p.owner == owner {
				r.certificates.set(c.secret, proof{owner, c.ID})
			}
		}
	}
	for _, c := range had {
		kept := slices.ContainsFunc(has, func(now credential) bool { return now.secret == c.secret })
		if p, ok := r.certificates.get(c.secret); ok && c.Kind == resource.CertificateCredential && !kept && p.owner == owner {
			r.certificates.remove(c.secret)
		}
	}
}
