package registry

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// The registry judges credentials for authentication, which declares what it
// needs as a Directory; each method is described there.

// holder is a device or user as authentication sees it. The zero value stands for no one.
type holder struct {
	owner       resource.Owner
	credentials []credential
	disabled    bool
	app         *application // with device: a device
	device      *device
	user        *user
}

// holder finds the device or user that a user name means.
func (r *Registry) holder(username string) holder {
	if at := strings.LastIndexByte(username, '@'); at >= 0 {
		return r.deviceHolder(username[at+1:], username[:at])
	}
	return r.userHolder(username)
}

func (r *Registry) userHolder(name string) holder {
	u, ok := r.users.get(name)
	if !ok {
		return holder{}
	}
	return holder{owner: resource.Owner{Name: name}, credentials: u.credentials, disabled: u.Disabled, user: u}
}

// deviceHolder finds a device, also by an alias.
func (r *Registry) deviceHolder(application, name string) holder {
	app := r.view.Load().apps[application]
	if app == nil {
		return holder{}
	}
	d, ok := app.devices.get(app.resolve(name))
	if !ok {
		return holder{}
	}
	return holder{owner: resource.Owner{Application: application, Name: d.Name}, credentials: d.credentials, disabled: d.Disabled, app: app,
		device: d}
}

// secrets returns what the registry keeps of the holder's credentials of a kind,
// and those credentials. They stand in the order in which they are tried: of two
// with the same password the one that holds longer counts.
func (h *holder) secrets(kind resource.CredentialKind) (secrets []string, of []credential) {
	for _, c := range h.credentials {
		if c.Kind == kind {
			of = append(of, c)
		}
	}
	slices.SortStableFunc(of, func(a, b credential) int {
		if a.Expires.IsZero() || b.Expires.IsZero() { // which is never
			return a.Expires.Compare(b.Expires)
		}
		return b.Expires.Compare(a.Expires)
	})
	for _, c := range of {
		secrets = append(secrets, c.secret)
	}
	return secrets, of
}

// unproved says why a client did not prove to be the holder with a credential of a kind, of
// which the holder has some. It is for operators: clients hear less.
func (h *holder) unproved(have int, kind string) string {
	switch {
	case h.owner == resource.Owner{}:
		return "there is no such device or user"
	case have == 0:
		return "the device or user has no " + kind
	}
	return "the " + kind + " is wrong"
}

// grant returns what the holder may do with a credential that it has proved. A nil credential
// means that another authority vouched for the holder.
func (h *holder) grant(c *credential, now time.Time) (*access.Grant, error) {
	switch {
	case h.owner == resource.Owner{}:
		return nil, refuse(event.BadUserNameOrPassword, "there is no such device or user")
	case h.disabled && h.device != nil:
		return nil, refuse(event.NotAuthorized, "the device is disabled")
	case h.disabled:
		return nil, refuse(event.NotAuthorized, "the user is disabled")
	case c != nil && c.Expired(now):
		return nil, refuse(event.NotAuthorized, "the credential has expired")
	}
	g := &access.Grant{Principal: h.owner.Principal()}
	if c != nil {
		g.Credential, g.Expires = credentialName(c.ID), c.Expires
	}
	if h.user != nil {
		g.Namespace, g.Read, g.Write = g.Principal, h.user.Read, h.user.Write
		return g, nil
	}
	g.Namespace, g.Application, g.Device = h.app.Name, h.app.Name, h.device.Name
	g.Publish, g.Subscribe, g.Messaging = h.device.Publish, h.device.Subscribe, h.app.Messaging
	g.Rates = rates(h.device.MessageRate, h.device.ByteRate)
	g.ApplicationRates = rates(h.app.MessageRate, h.app.ByteRate)
	return g, nil
}

func rates(messages, bytes int) access.Rates {
	return access.Rates{Messages: float64(messages), Bytes: float64(bytes)}
}

// credentialName is how grants name a credential of the registry, which keeps it
// apart from what other authorities call theirs.
func credentialName(id string) string { return credentialPrefix + id }

const credentialPrefix = "registry/"

// judged counts a verdict.
func (r *Registry) judged(g *access.Grant, err error) (*access.Grant, error) {
	if err != nil {
		r.refused.Add(1)
		return nil, err
	}
	r.accepted.Add(1)
	return g, nil
}

// Login judges a user name with a password.
func (r *Registry) Login(ctx context.Context, username string, password []byte) (*access.Grant, error) {
	h := r.holder(username)
	return r.judged(r.password(ctx, &h, username, password))
}

func (r *Registry) password(ctx context.Context, h *holder, username string, password []byte) (*access.Grant, error) {
	secrets, of := h.secrets(resource.PasswordCredential)
	now := r.now()
	valid := slices.IndexFunc(of, func(c credential) bool { return c.Expired(now) })
	if valid < 0 {
		valid = len(of)
	}
	i, err := r.verify.check(ctx, username, secrets, valid, password)
	switch {
	case err != nil:
		return nil, fmt.Errorf("waiting to check a password: %w", err)
	case i < 0:
		return nil, fmt.Errorf("%s: %w", h.unproved(len(of), "password"), refuse(event.BadUserNameOrPassword,
			"the user name or the password is wrong"))
	}
	return h.grant(&of[i], now)
}

// Key judges a user name with an API key.
func (r *Registry) Key(_ context.Context, username string, key []byte) (*access.Grant, error) {
	h := r.holder(username)
	return r.judged(r.key(&h, key))
}

func (r *Registry) key(h *holder, key []byte) (*access.Grant, error) {
	sum := hexSum(sha256.Sum256(key))
	secrets, of := h.secrets(resource.KeyCredential)
	match := -1
	for i, secret := range secrets {
		if subtle.ConstantTimeCompare([]byte(secret), []byte(sum)) == 1 {
			match = i
		}
	}
	if match < 0 {
		return nil, fmt.Errorf("%s: %w", h.unproved(len(of), "key"), refuse(event.BadUserNameOrPassword, "the user name or the key is wrong"))
	}
	return h.grant(&of[match], r.now())
}

// DeviceKey judges a device's key or password.
func (r *Registry) DeviceKey(ctx context.Context, application, device string, key []byte) (*access.Grant, error) {
	h := r.deviceHolder(application, device)
	if strings.HasPrefix(string(key), keyPrefix) {
		return r.judged(r.key(&h, key))
	}
	return r.judged(r.password(ctx, &h, device+"@"+application, key))
}

// Certificate judges the fingerprint of a verified client certificate.
func (r *Registry) Certificate(fingerprint [sha256.Size]byte) (*access.Grant, error) {
	p, ok := r.certificates.get(hexSum(fingerprint))
	if ok {
		h := r.userHolder(p.owner.Name)
		if p.owner.Application != "" {
			h = r.deviceHolder(p.owner.Application, p.owner.Name)
		}
		for _, c := range h.credentials {
			if c.ID == p.id {
				return r.judged(h.grant(&c, r.now()))
			}
		}
	}
	return r.judged(nil, refuse(event.BadUserNameOrPassword, "the certificate belongs to no device or user"))
}

// Anonymous judges a connection without credentials. Its peer must be on loopback. Its client
// id is its device, if it can be a device's name.
func (r *Registry) Anonymous(c *access.Credentials) (*access.Grant, error) {
	v := r.view.Load()
	name, candidates := v.open, v.openApps
	if given, ok := strings.CutPrefix(c.Username, "@"); ok {
		name, candidates = given, 1
	}
	switch {
	case !c.Peer.Addr().Unmap().IsLoopback():
		return r.judged(nil, refuse(event.NotAuthorized, "a user name and a password are needed"))
	case candidates > 1:
		return r.judged(nil, refuse(event.NotAuthorized,
			"several applications allow anonymous connections; name one with the user name @<application>"))
	}
	return r.judged(r.anonymous(name, c.ClientID))
}

func (r *Registry) anonymous(name, client string) (*access.Grant, error) {
	app := r.view.Load().apps[name]
	if app == nil || !app.Anonymous {
		return nil, refuse(event.NotAuthorized, "no such application allows anonymous connections")
	}
	g := &access.Grant{
		Principal:        "anonymous:" + name + "/" + client,
		Namespace:        name,
		Read:             []string{name},
		Write:            []string{name},
		Messaging:        app.Messaging,
		ApplicationRates: rates(app.MessageRate, app.ByteRate),
	}
	d, known := app.devices.get(client)
	switch {
	case client == "":
		return g, nil // no device: it reads and commands only
	case !known && !ValidDevice(client): // let in, it could never publish, and MQTT 3.1.1 could not say so
		return nil, refuse(event.ClientIdentifierNotValid,
			"without credentials the client identifier is the device's name: 1 to 128 bytes without /, +, # and control characters, not . or ..; "+
				"an empty one only reads and commands")
	case !known:
		g.Publish, g.Subscribe = everything, everything
	case d.Disabled:
		return nil, refuse(event.NotAuthorized, "the device is disabled")
	case len(d.credentials) > 0:
		return nil, refuse(event.NotAuthorized, "this client id belongs to a device that needs its password, key or certificate")
	default:
		g.Publish, g.Subscribe = d.Publish, d.Subscribe
		g.Rates = rates(d.MessageRate, d.ByteRate)
	}
	g.Application, g.Device = name, client
	return g, nil
}

// Vouch returns what a device may do that another authority vouched for.
func (r *Registry) Vouch(application, device string) (*access.Grant, error) {
	h := r.deviceHolder(application, device)
	return r.judged(h.grant(nil, r.now()))
}

// VouchUser returns what a user may do that another authority vouched for.
func (r *Registry) VouchUser(name string) (*access.Grant, error) {
	h := r.userHolder(name)
	return r.judged(h.grant(nil, r.now()))
}

// Enroll registers a device that another authority vouched for.
func (r *Registry) Enroll(_ context.Context, application, device, by string) error {
	d := DefaultDevice()
	_, created, err := r.PutDevice(resource.Device{Application: application, Name: device, Publish: d.Publish, Subscribe: d.Subscribe},
		resource.Precondition{Absent: true})
	var f *resource.Fault
	switch {
	case errors.As(err, &f) && f.Kind == resource.Outdated:
		return nil
	case errors.As(err, &f):
		return refuse(event.NotAuthorized, "the device cannot be registered: "+f.Error())
	case err != nil:
		return fmt.Errorf("registering device %s of application %s: %w", device, application, err)
	}
	if created {
		r.log.Info("a device was registered", "application", application, "device", device, "by", by)
	}
	return nil
}

// Scram returns what proves the password of a user name.
func (r *Registry) Scram(username string) (salt, storedKey, serverKey []byte, iterations int, g *access.Grant, err error) {
	h := r.holder(username)
	if secrets, of := h.secrets(resource.ScramCredential); len(secrets) > 0 {
		s, ok := parseScram(secrets[0])
		if !ok {
			return nil, nil, nil, 0, nil, errors.New("the SCRAM keys of the registry cannot be read")
		}
		g, err = h.grant(&of[0], r.now())
		return s.salt, s.storedKey, s.serverKey, s.iterations, g, err
	}
	derive := func(what string) []byte {
		mac := hmac.New(sha256.New, r.decoy)
		mac.Write([]byte(what + "\x00" + username))
		return mac.Sum(nil)
	}
	salt = derive("salt")[:saltBytes]
	for i := range salt { // as the salts of others look
		salt[i] = alphabet[int(salt[i])%len(alphabet)]
	}
	return salt, derive("stored"), derive("server"), scramIterations, nil, nil
}

// Renew returns what the principal of a grant may do now.
func (r *Registry) Renew(g *access.Grant) (*access.Grant, error) {
	if rest, ok := strings.CutPrefix(g.Principal, "anonymous:"); ok {
		application, client, _ := strings.Cut(rest, "/")
		return r.anonymous(application, client)
	}
	h := r.deviceHolder(g.Application, g.Device)
	if name, ok := strings.CutPrefix(g.Principal, "user:"); ok {
		h = r.userHolder(name)
	}
	if h.owner.Principal() != g.Principal {
		return nil, &stage.Error{Code: event.NotAuthorized, Reason: "the device or user does not exist any more", Gone: true}
	}
	if id, ok := strings.CutPrefix(g.Credential, credentialPrefix); ok {
		for _, c := range h.credentials {
			if c.ID == id {
				return h.grant(&c, r.now())
			}
		}
		return nil, refuse(event.NotAuthorized, "the credential was revoked")
	}
	return h.grant(nil, r.now())
}

func refuse(code event.Code, reason string) *stage.Error {
	return &stage.Error{Code: code, Reason: reason}
}
