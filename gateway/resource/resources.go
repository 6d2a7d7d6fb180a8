// Package resource describes to operators what the gateway has: applications, devices, users,
// credentials, tokens, connections and groups, and why a change is not made. The types are
// those of the admin API.
package resource

import (
	"time"
)

// Entry holds the members that every entry of the registry has beside its own settings. The
// registry sets all of them and ignores what a change says.
type Entry struct {
	// FromFile says that gateway.toml declares the entry, and that it is changed
	// there and not at run time.
	FromFile bool      `json:"fromFile"`
	Created  time.Time `json:"created,omitzero"`
	Changed  time.Time `json:"changed,omitzero"`
	// Revision is another one after every change; see Precondition.
	Revision string `json:"-"`
}

// Application is an application of the registry. Rates of 0 are no bound.
type Application struct {
	Name string `json:"name"`
	Entry
	Anonymous        bool  `json:"anonymous"`
	Messaging        bool  `json:"messaging"`
	RetentionSeconds int64 `json:"retentionSeconds"` // 0: any age
	RetentionBytes   int64 `json:"retentionBytes"`   // 0: any size
	MessageRate      int   `json:"messageRate"`      // of all its devices, per second
	ByteRate         int   `json:"byteRate"`
	Devices          int   `json:"devices"` // how many there are; set by the registry
	Routed           bool  `json:"routed"`  // some route takes its events; set by the admin API
}

// Device is a device of the registry.
type Device struct {
	Application string `json:"application"`
	Name        string `json:"name"`
	Entry
	Disabled    bool         `json:"disabled"`
	Aliases     []string     `json:"aliases,omitempty"`
	GatewayFor  []string     `json:"gatewayFor,omitempty"`
	Publish     []string     `json:"publish"`
	Subscribe   []string     `json:"subscribe"`
	MessageRate int          `json:"messageRate"` // per second
	ByteRate    int          `json:"byteRate"`
	Credentials []Credential `json:"credentials,omitempty"`
}

// User is a person or program that reads logs and commands devices.
type User struct {
	Name string `json:"name"`
	Entry
	Disabled    bool         `json:"disabled"`
	Read        []string     `json:"read"`
	Write       []string     `json:"write"`
	Credentials []Credential `json:"credentials,omitempty"`
}

// Owner names the device or user that a credential belongs to: a device when
// Application is set, else a user.
type Owner struct{ Application, Name string }

// Principal is how a Grant names an owner.
func (o Owner) Principal() string {
	if o.Application == "" {
		return "user:" + o.Name
	}
	return "device:" + o.Application + "/" + o.Name
}

// Credential is one way for a device or user to prove its identity, without the secret.
type Credential struct {
	ID      string         `json:"id"` // unique within its owner
	Kind    CredentialKind `json:"kind"`
	Label   string         `json:"label,omitempty"`
	Created time.Time      `json:"created,omitzero"`
	Expires time.Time      `json:"expires,omitzero"`
	// LastFour are the last characters of an API key.
	LastFour string `json:"lastFour,omitempty"`
	// Fingerprint is the SHA-256 of a certificate in hexadecimal, and Subject its subject, if it
	// is known.
	Fingerprint string `json:"fingerprint,omitempty"`
	Subject     string `json:"subject,omitempty"`
}

// Expired says whether the credential is of no more use.
func (c *Credential) Expired(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

// CredentialKind is the way in which a credential proves something.
type CredentialKind string

// The kinds of credentials.
const (
	PasswordCredential    CredentialKind = "password"      // kept as an argon2id hash
	ScramCredential       CredentialKind = "scram-sha-256" // kept as RFC 5802's stored and server key
	KeyCredential         CredentialKind = "key"           // made by the registry, kept as its SHA-256
	CertificateCredential CredentialKind = "certificate"   // a TLS client certificate, by its SHA-256
)

// NewCredential asks for a credential.
type NewCredential struct {
	Kind    CredentialKind `json:"kind"`
	Label   string         `json:"label,omitempty"`
	Expires time.Time      `json:"expires,omitzero"` // zero: never; certificates: their own end at the latest
	// Password is for the kinds password and scram-sha-256; empty: one is made.
	Password string `json:"password,omitempty"`
	// Certificate is for the kind certificate: PEM, or the SHA-256 in hexadecimal.
	Certificate string `json:"certificate,omitempty"`
}

// Role says what the holder of an admin token may do. Each may what those before
// it may.
type Role string

// The roles, in ascending order.
const (
	Reader   Role = "reader"   // see everything but payloads, secrets and tokens
	Operator Role = "operator" // devices and their credentials, connections, groups
	Admin    Role = "admin"    // applications, users, tokens
)

// Includes says whether a role may what another one may; an unknown role may
// nothing.
func (r Role) Includes(other Role) bool {
	rank := func(r Role) int {
		switch r {
		case Reader:
			return 1
		case Operator:
			return 2
		case Admin:
			return 3
		}
		return 0
	}
	return rank(r) > 0 && rank(r) >= rank(other)
}

// Token is an admin token, without what is secret about it.
type Token struct {
	Name string `json:"name"`
	Entry
	Role Role `json:"role"`
	// Applications are those that the token is for; empty: all, and what belongs
	// to none, such as users and tokens.
	Applications []string  `json:"applications,omitempty"`
	Expires      time.Time `json:"expires,omitzero"`
	LastUsed     time.Time `json:"lastUsed,omitzero"` // to the minute
	LastFour     string    `json:"lastFour,omitempty"`
}

// Precondition makes a change depend on what it would change.
type Precondition struct {
	Revision string // the entry must have this one; empty: any
	Absent   bool   // there must be no such entry
	Present  bool   // there must be one, of any revision
}

// FaultKind is the kind of a Fault.
type FaultKind uint8

// The kinds of faults of a change.
const (
	Invalid  FaultKind = iota // the request makes no sense
	NotFound                  // there is no such entry
	Conflict                  // it contradicts another entry, or gateway.toml declares it
	Outdated                  // the precondition does not hold
)

// Fault says why the registry, or another stage, does not do what an operator asks.
type Fault struct {
	Kind   FaultKind
	Field  string // the member that is wrong, where it is one
	Reason string // what is wrong and what to do; safe to show
}

func (f *Fault) Error() string {
	if f.Field == "" {
		return f.Reason
	}
	return f.Field + ": " + f.Reason
}

// Group describes a durable consumer group to operators.
type Group struct {
	Application string `json:"application"`
	Quarantine  bool   `json:"quarantine"` // it reads the quarantine and not the events
	Name        string `json:"name"`       // "s.<group>" is a shared one, "c.<…>" a client's own
	Position    uint64 `json:"position"`   // the first offset that is not acknowledged
	Lag         uint64 `json:"lag"`        // records that are not acknowledged
	Members     int    `json:"members"`
	InFlight    int    `json:"inFlight"` // handed out and not acknowledged
}

// Connection describes one connection or kept session to operators.
type Connection struct {
	Listener    string    `json:"listener"`
	Protocol    string    `json:"protocol"`  // "mqtt/3.1.1", "mqtt/5"
	Namespace   string    `json:"namespace"` // of its grant; with the client id it names the session
	ClientID    string    `json:"clientId"`
	Principal   string    `json:"principal"`
	Application string    `json:"application,omitempty"`
	Device      string    `json:"device,omitempty"`
	Method      string    `json:"method"`
	Peer        string    `json:"peer,omitempty"` // empty: nobody is connected
	Since       time.Time `json:"since"`          // of the connection, or of its end
	Online      bool      `json:"online"`
	Expires     time.Time `json:"expires,omitzero"` // of the session, when nobody is connected

	Subscriptions int `json:"subscriptions"`
	Queued        int `json:"queuedMessages"`
	QueuedBytes   int `json:"queuedBytes"`
	InFlight      int `json:"inFlight"`
}
