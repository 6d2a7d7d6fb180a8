package registry

import (
	"context"
	"fmt"
	"strings"

	"tributary.io/gateway/stage"
)

// Connect judges the credentials of a connection:
//
//   - user name "<device>@<application>" and password: a declared device
//   - user name and password or API key: a user
//   - neither: anonymous, in the one application that allows it
//   - user name "@<application>" and no password: anonymous in that application
//
// Anonymous peers must be on loopback; their client id is their device where
// it can be one. The error is a *stage.Error, or ctx's when that ended first.
// A wrong user name and a wrong password look and cost the same. The grant is
// shared between connections, so nobody changes it.
func (r *Registry) Connect(ctx context.Context, c *stage.Credentials) (*stage.Grant, error) {
	grant, err := r.judge(ctx, c)
	if err != nil {
		r.refused.Add(1)
		return nil, err
	}
	r.accepted.Add(1)
	return grant, nil
}

func (r *Registry) judge(ctx context.Context, c *stage.Credentials) (*stage.Grant, error) {
	application, named := strings.CutPrefix(c.Username, "@")
	switch {
	case c.HasPassword && c.HasUsername:
		return r.login(ctx, c)
	case c.HasPassword:
		return nil, refuse(stage.BadCredentials, "a password needs a user name: <device>@<application> or a user's name")
	case !c.HasUsername || c.Username == "":
		return r.anonymous(c, r.open, r.openApps)
	case named:
		return r.anonymous(c, application, 1)
	}
	return nil, refuse(stage.BadCredentials, "this user name needs a password")
}

func (r *Registry) login(ctx context.Context, c *stage.Credentials) (*stage.Grant, error) {
	l := r.logins[c.Username]
	if l == nil {
		l = &login{}
	}
	ok, err := r.verify.check(ctx, c.Username, l.hashes, c.Password)
	switch {
	case err != nil:
		return nil, fmt.Errorf("waiting to check a password: %w", err)
	case !ok:
		return nil, refuse(stage.BadCredentials, "the user name or the password is wrong")
	case l.disabled:
		return nil, refuse(stage.NotAuthorized, "the device is disabled")
	}
	return l.grant, nil
}

// anonymous lets a peer on loopback in. candidates is the number of
// applications that it could have meant.
func (r *Registry) anonymous(c *stage.Credentials, name string, candidates int) (*stage.Grant, error) {
	if !c.Peer.Addr().Unmap().IsLoopback() {
		return nil, refuse(stage.NotAuthorized, "a user name and a password are needed")
	}
	if candidates > 1 {
		return nil, refuse(stage.NotAuthorized, "several applications allow anonymous connections; name one with the user name @<application>")
	}
	app := r.apps[name]
	if app == nil || !app.anonymous {
		return nil, refuse(stage.NotAuthorized, "no such application allows anonymous connections")
	}
	g := &stage.Grant{
		Principal: "anonymous:" + name + "/" + c.ClientID,
		Namespace: name,
		Read:      []string{name},
		Write:     []string{name},
		Messaging: app.messaging,
	}
	d := app.devices[c.ClientID]
	switch {
	case d == nil && !ValidDevice(c.ClientID):
		return g, nil // reads and commands only
	case d == nil:
		everything := DefaultDevice()
		g.Publish, g.Subscribe = everything.Publish, everything.Subscribe
	case d.disabled:
		return nil, refuse(stage.NotAuthorized, "the device is disabled")
	case d.protected:
		return nil, refuse(stage.NotAuthorized, "this client id belongs to a device that needs its password")
	default:
		g.Publish, g.Subscribe = d.publish, d.subscribe
	}
	g.Application, g.Device = name, c.ClientID
	return g, nil
}

func refuse(code stage.Code, reason string) *stage.Error {
	return &stage.Error{Code: code, Reason: reason}
}
