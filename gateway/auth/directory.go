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
// Its grants are shared and must not be changed. They have the rights that the registry has
// now, with placeholders not filled in. Method is empty. Credential is set if the registry
// keeps several credentials for the principal.
//
// There are three kinds of errors:
//   - a *stage.Error with event.BadUserNameOrPassword: the credentials are unknown or wrong,
//     which look the same and take the same time
//   - a *stage.Error with another code: the credentials are right, or name something that
//     exists, and are refused (a disabled device, an expired key)
//   - any other error: the registry cannot decide now
type Directory interface {
	// Login checks a user name with a password. The user name is
	// "<device>@<application>", which may have an alias of the device, or that of a user.
	Login(ctx context.Context, username string, password []byte) (*access.Grant, error)
	// Key checks a user name, as for Login, with an API key.
	Key(ctx context.Context, username string, key []byte) (*access.Grant, error)
	// DeviceKey checks the key or password of a device that a message carries. It can be
	// called for every message; the caller caches successes.
	DeviceKey(ctx context.Context, application, device string, key []byte) (*access.Grant, error)
	// Certificate looks up the fingerprint of a verified TLS client certificate, which may
	// be registered for a device or user.
	Certificate(fingerprint [sha256.Size]byte) (*access.Grant, error)
	// Anonymous decides about a connection without credentials, or with only the user name
	// "@<application>".
	Anonymous(c *access.Credentials) (*access.Grant, error)
	// Vouch returns the grant of a device that another authority vouched for. device may be
	// an alias. An unknown device is a *stage.Error with event.BadUserNameOrPassword.
	Vouch(application, device string) (*access.Grant, error)
	// VouchUser does the same for a user.
	VouchUser(name string) (*access.Grant, error)
	// Enroll registers a device that another authority vouched for, with the rights of a
	// new device. by names that authority for the audit log. It is no error if the device
	// exists.
	Enroll(ctx context.Context, application, device, by string) error
	// Scram returns what RFC 5802 needs to verify the password of a user name, as for
	// Login. For an unknown user name it returns keys that no password matches, always the
	// same, without g and err. A *stage.Error with keys is the refusal of a client that
	// proves the password. An error without keys means that the registry cannot decide now.
	Scram(username string) (salt, storedKey, serverKey []byte, iterations int, g *access.Grant, err error)
	// Renew returns the grant that the holder of g has now, by g.Principal, g.Application,
	// g.Device and g.Credential, or a *stage.Error if the holder has no rights any more. It
	// does not refuse a credential that the registry does not keep, since another authority
	// vouched for its holder.
	Renew(g *access.Grant) (*access.Grant, error)
}

// Judge has a plugin check the credentials in a connect event. It returns the *event.Allow or
// *event.Deny of the plugin, or an error if there is none. holds reports, at any later time,
// whether the state that the verdict depends on is unchanged.
type Judge interface {
	Judge(ctx context.Context, plugin string, in *event.Inbound) (verdict event.Effect, holds func() bool, err error)
}
