// Package access holds the values about identity and rights that pass between the stages:
// credentials, grants, and changes of rights. It checks nothing itself; package auth does.
package access

import (
	"crypto/x509"
	"net/netip"
	"time"

	"tributary.io/sdk-plugin/event"
)

// Credentials are what a client presents in a CONNECT or an HTTP request. Only Listener,
// Protocol, Peer, Secure and Certificates are facts; the rest is what the client claims.
type Credentials struct {
	Listener    string // name of the listener
	Protocol    string // "mqtt", "http", "coap"
	ClientID    string
	Username    string
	Password    []byte
	HasUsername bool
	HasPassword bool
	Peer        netip.AddrPort // of the client itself, also if a trusted proxy stands between
	Secure      bool           // TLS
	// Certificates is the verified chain of the client's TLS certificate, the client's
	// own first. It is empty if the client sent none.
	Certificates []*x509.Certificate
	// Properties are the user properties of a CONNECT, or the headers of a request.
	Properties []event.Property
}

// Grant is the identity and the rights of an authenticated connection. Connections share
// grants, so a Grant does not change once it is handed out.
type Grant struct {
	// Principal names the authenticated party, unique over all applications. Only the
	// same principal may take over a session. Sessions of different Namespaces are
	// different sessions, even under the same client id.
	Principal string
	Namespace string
	// Once means that nobody can authenticate as this principal again, so its session ends
	// with the connection.
	Once bool
	// Method is the authentication method that granted this, as it is spelled in the auth
	// list of a listener. Credential is the credential that was used, if the principal can
	// have several. A revocation selects grants by both.
	Method     string
	Credential string
	// Certificate identifies the client certificate in revocation lists. Only the method
	// that keeps such lists sets and reads it.
	Certificate string
	// Application and Device are set if the connection belongs to a device.
	Application string
	Device      string
	// Publish and Subscribe are MQTT topic filters within the application's topic space,
	// with placeholders filled in. Empty allows nothing.
	Publish   []string
	Subscribe []string
	// Names are the values of the placeholders; a renewal of the grant needs them again.
	// Fixed means that Publish and Subscribe come from another authority than the registry,
	// so a renewal keeps them.
	Names Placeholders
	Fixed bool
	// Read names the applications whose log the holder may read, Write those whose devices
	// it may command. The names are patterns, see MatchName.
	Read, Write []string
	// Messaging means that accepted publishes also go to the application's subscribers.
	Messaging bool
	// PerMessage means that every publish carries its own credentials in its user
	// properties. The listener has the authenticator check each, and takes the right to
	// publish from the grant that it gets for the message.
	PerMessage bool
	// Secrets names the user properties that are credentials if PerMessage is set. A
	// listener removes them from a message before anything stores or logs it.
	Secrets []string
	// Ask means that another service decides about topics: the authenticator has to be asked
	// about every topic that Publish or Subscribe allows.
	Ask     bool
	Expires time.Time // zero: never
	// Rates bound what the device or user publishes over all its connections.
	// ApplicationRates bound what all devices and users of the application publish together.
	Rates, ApplicationRates Rates
}

// Rates are limits of publishing, as averages over a few seconds.
type Rates struct {
	Messages float64 // per second; 0: no limit
	Bytes    float64 // of payload and topic, per second; 0: no limit
}

// Action is what a client wants to do with a topic.
type Action uint8

// The actions that need a right.
const (
	Publish Action = iota
	Subscribe
)

// String returns "publish" or "subscribe".
func (a Action) String() string {
	if a == Subscribe {
		return "subscribe"
	}
	return "publish"
}

// Exchange is an enhanced authentication (MQTT 5.0 section 4.12). It belongs to one
// connection and is not safe for concurrent use.
type Exchange interface {
	// Next takes the client's authentication data and returns the server's. A grant ends
	// the exchange with success, and answer is then sent with it. An error ends the
	// exchange without success; it is a *stage.Error if the client is at fault.
	Next(data []byte) (answer []byte, g *Grant, err error)
}

// Change says that rights changed or were revoked: every grant that it touches has to be
// renewed. An empty field selects all grants.
type Change struct {
	Application string
	Device      string
	Principal   string
	Method      string // only grants of this authentication method
	Credential  string // only grants that were given for this credential
}

// Touches reports whether a grant has to be renewed because of the change.
func (c *Change) Touches(g *Grant) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(c.Application, g.Application) && same(c.Device, g.Device) &&
		same(c.Principal, g.Principal) && same(c.Method, g.Method) && same(c.Credential, g.Credential)
}
