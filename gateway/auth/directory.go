package auth

import (
	"context"
	"crypto/sha256"

	"tributary.io/gateway/access"
	"tributary.io/sdk-plugin/event"
)

// Directory is the registry of applications, devices, users and their
// credentials, as authentication sees it. It is safe for concurrent use.
//
// Its grants are shared, so nobody changes them: rights are those of the registry
// now, placeholders of topic filters are not filled in, Method is empty, and
// Credential is set where the registry keeps several credentials.
//
// Its errors say three things apart:
//   - a *stage.Error with event.BadUserNameOrPassword: these credentials prove nothing;
//     unknown and wrong look the same and cost the same
//   - a *stage.Error with another code: they are right, or name something that
//     exists, and are refused all the same (a disabled device, an expired key)
//   - any other error: this cannot be decided now
type Directory interface {
	// Login judges a user name ("<device>@<application>", with an alias for the
	// device too, or a user's name) with a password.
	Login(ctx context.Context, username string, password []byte) (*access.Grant, error)
	// Key judges a user name, as for Login, with an API key.
	Key(ctx context.Context, username string, key []byte) (*access.Grant, error)
	// DeviceKey judges a device's key or password, where a message carries it. It
	// may be called for every message; the caller keeps successes for a while.
	DeviceKey(ctx context.Context, application, device string, key []byte) (*access.Grant, error)
	// Certificate judges the fingerprint of a verified TLS client certificate that
	// is registered for a device or user.
	Certificate(fingerprint [sha256.Size]byte) (*access.Grant, error)
	// Anonymous judges a connection without credentials, or with the user name
	// "@<application>" alone.
	Anonymous(c *access.Credentials) (*access.Grant, error)
	// Vouch returns what a device may do that another authority vouched for. The
	// name may be an alias; unknown is event.BadUserNameOrPassword.
	Vouch(application, device string) (*access.Grant, error)
	// VouchUser is Vouch for a user.
	VouchUser(name string) (*access.Grant, error)
	// Enroll registers a device that another authority vouched for, with the rights
	// that a new device has. by names that authority, for the audit log. A device
	// that is there already is no error.
	Enroll(ctx context.Context, application, device, by string) error
	// Scram returns what RFC 5802 needs to have a user name, as for Login, prove its
	// password. An unknown user name has keys too, always the same, which no
	// password fits, and neither g nor err. A *stage.Error beside keys is what a
	// client is told that proves the password. Any error without keys: this cannot
	// be decided now.
	Scram(username string) (salt, storedKey, serverKey []byte, iterations int, g *access.Grant, err error)
	// Renew returns what a principal may do now to whom g was granted, by
	// g.Principal, g.Application, g.Device and g.Credential; a *stage.Error where
	// that is nothing. A credential that the registry does not keep, because
	// another authority vouched, is no reason to refuse.
	Renew(g *access.Grant) (*access.Grant, error)
}

// Judge has a plugin judge the credentials in a connect event. It returns the
// *event.Allow or *event.Deny that the plugin answered with, and an error when
// the plugin gave no verdict. holds says, at any time, whether what the plugin knew
// when it judged is still so.
type Judge interface {
	Judge(ctx context.Context, plugin string, in *event.Inbound) (verdict event.Effect, holds func() bool, err error)
}
