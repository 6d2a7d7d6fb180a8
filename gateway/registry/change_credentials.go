package registry

import (
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// AddCredential gives a device or user another credential. What is returned with
// it is shown once and not kept: the key or password that was made, if one was.
func (r *Registry) AddCredential(owner resource.Owner, nc resource.NewCredential) (resource.Credential, string, error) {
	c, shown, err := issue(nc, r.now().UTC().Truncate(time.Millisecond))
	if err != nil {
		return resource.Credential{}, "", err
	}
	return c.Credential, shown, r.editCredentials(owner, func(list []credential) ([]credential, string, error) {
		passwords, scrams := 0, 0
		for _, have := range list {
			if have.Kind == resource.PasswordCredential {
				passwords++
			}
			if have.Kind == resource.ScramCredential {
				scrams++
			}
		}
		switch p, bound := r.certificates.get(c.secret); {
		case c.Kind == resource.PasswordCredential && passwords >= maxHashes:
			return nil, "", fault(resource.Conflict, "there are %d passwords already; delete one first", passwords)
		case c.Kind == resource.ScramCredential && scrams > 0:
			return nil, "", fault(resource.Conflict, "there is a credential for SCRAM already; delete it first")
		case c.Kind == resource.CertificateCredential && bound:
			return nil, "", fault(resource.Conflict, "the certificate belongs to %s already", p.owner.Principal())
		case len(list) >= maxCredentials:
			return nil, "", fault(resource.Conflict, "there are %d credentials already; delete one first", len(list))
		}
		return append(list, c), "", nil
	})
}

// RemoveCredential takes a credential away. Connections that it opened are told
// of as a change of that credential alone.
func (r *Registry) RemoveCredential(owner resource.Owner, id string) error {
	return r.editCredentials(owner, func(list []credential) ([]credential, string, error) {
		for i, c := range list {
			if c.ID == id {
				return append(list[:i], list[i+1:]...), id, nil
			}
		}
		return nil, "", fault(resource.NotFound, "there is no credential %s", id)
	})
}

// editCredentials changes a copy of an owner's credentials. If only the grants of one
// credential are touched, edit also returns that credential.
func (r *Registry) editCredentials(owner resource.Owner, edit func([]credential) ([]credential, string, error)) error {
	return r.change(func() (*access.Change, error) {
		if owner.Application == "" {
			return r.editUser(owner, edit)
		}
		app := r.view.Load().apps[owner.Application]
		if app == nil {
			return nil, fault(resource.NotFound, "there is no application %s", owner.Application)
		}
		old, ok := app.devices.get(owner.Name)
		if err := permitCredentials(old.meta(), "device "+owner.Name); !ok || err != nil {
			return nil, err
		}
		next := newDevice(old.Device, nil)
		list, touched, err := edit(append([]credential(nil), old.credentials...))
		if err != nil {
			return nil, err
		}
		next.credentials, next.Entry = list, r.stamp(old.meta())
		changed, err := r.storeDevice(app, next, old)
		return narrow(changed, touched), err
	})
}

// permitCredentials says whether the credentials of a holder may be changed. What
// gateway.toml declares has its own there, and no others.
func permitCredentials(holder *resource.Entry, what string) error {
	if holder != nil && holder.FromFile {
		return fault(resource.Conflict,
			"%s is declared in gateway.toml: put the hash of a password into its password_hashes there and restart the gateway", what)
	}
	return permitDelete(holder, resource.Precondition{}, what)
}

func (r *Registry) editUser(owner resource.Owner, edit func([]credential) ([]credential, string, error)) (*access.Change, error) {
	old, ok := r.users.get(owner.Name)
	if err := permitCredentials(old.meta(), "user "+owner.Name); !ok || err != nil {
		return nil, err
	}
	list, touched, err := edit(append([]credential(nil), old.credentials...))
	if err != nil {
		return nil, err
	}
	next := newUser(old.User, list)
	next.Entry = r.stamp(old.meta())
	changed, err := r.storeUser(next, old)
	return narrow(changed, touched), err
}

func narrow(c *access.Change, credential string) *access.Change {
	if c != nil && credential != "" {
		c.Credential = credentialName(credential)
	}
	return c
}

// CreateToken makes an admin token and returns it; it is shown once and not kept.
func (r *Registry) CreateToken(t resource.Token) (now resource.Token, secret string, err error) {
	f := checkToken(&t)
	if !t.Expires.IsZero() && !t.Expires.After(r.now()) {
		f.add("expires", "%s is past", t.Expires.Format(time.RFC3339))
	}
	if err := f.err(); err != nil {
		return t, "", err
	}
	err = r.change(func() (*access.Change, error) {
		if old := r.view.Load().tokens[t.Name]; old != nil {
			return nil, fault(resource.Conflict, "there is a token %s already; delete it first", t.Name)
		}
		var hash string
		secret, hash, t.LastFour = NewToken()
		t.Entry, t.LastUsed = r.stamp(nil), time.Time{}
		sum, _ := parseSum(hash)
		var err error
		if t.Revision, err = r.write(tokenKey+t.Name, "", encode(tokenRecord{version{recordVersion}, t, hash})); err != nil {
			return nil, err
		}
		r.revise(func(v *view) { v.tokens[t.Name] = &token{t, sum, &atomic.Int64{}} })
		return nil, nil // no grant depends on it
	})
	return t, secret, err
}

// DeleteToken takes an admin token out of use.
func (r *Registry) DeleteToken(name string, pre resource.Precondition) error {
	return r.change(func() (*access.Change, error) {
		old := r.view.Load().tokens[name]
		if err := permitDelete(old.meta(), pre, "token "+name); err != nil {
			return nil, err
		}
		if _, err := r.write(tokenKey+name, old.Revision, nil,
			store.Batch{Deletes: []store.Key{{Kind: store.Meta, Name: usedKey + name}}}); err != nil {
			return nil, err
		}
		r.revise(func(v *view) { delete(v.tokens, name) })
		return nil, nil
	})
}
