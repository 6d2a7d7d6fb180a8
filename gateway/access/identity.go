// Package access says who somebody is and what they may do: credentials, grants and
// changes of rights, as they pass between the stages. It does nothing by itself.
package access

import (
	"crypto/x509"
	"net/netip"
	"time"

	"tributary.io/sdk-plugin/event"
)

// Credentials are what a client presents when it connects, or with an HTTP
// request. Nothing in them is trusted, except Peer and Certificates.
type Credentials struct {
	Listener    string // name of the listener
	Protocol    string // "mqtt", "http", "coap"
	ClientID    string
	Username    string
	Password    []byte
	HasUsername bool
	HasPassword bool
	Peer        netip.AddrPort // of the client itself, also behind a proxy that says so
	Secure      bool           // TLS
	// Certificates is the verified chain of the client's TLS certificate, its own
	// first; empty when it showed none.
	Certificates []*x509.Certificate
	// Properties are the user properties of a CONNECT, or the headers of a request.
	Properties []event.Property
}

// Grant says who an authenticated connection is and what it may do. It is
// shared between connections, so nobody changes one that was handed out.
type Grant struct {
	// Principal names who authenticated, unique over all applications. A session
	// is taken over only by the same principal. Sessions of different Namespaces
	// never meet, even under the same client id.
	Principal string
	Namespace string
	// Once says that nobody can prove to be this principal again, so that a session
	// of its own ends with the connection.
	Once bool
	// Method names the way of authentication that granted this, as listeners name
	// it in their auth list, and Credential which of the principal's credentials
	// was used, where there can be several; both decide what a revocation ends.
	Method     string
	Credential string
	// Certificate is what revocation lists call the client certificate that opened
	// this, for the method alone that keeps such lists.
	Certificate string
	// Application and Device are set where the connection is a device's.
	Application string
	Device      string
	// Publish and Subscribe are MQTT topic filters within the application's topic
	// space, placeholders filled in. Empty means none.
	Publish   []string
	Subscribe []string
	// Names filled the placeholders, and fill them again when the grant is renewed.
	// Fixed says that Publish and Subscribe are what another authority answered, and
	// not the registry's, so that a renewal leaves them.
	Names Placeholders
	Fixed bool
	// Read and Write name the applications whose log it may read and whose
	// devices it may command; a * at the end stands for any rest.
	Read, Write []string
	// Messaging fans accepted publishes out to the application's subscribers.
	Messaging bool
	// PerMessage says that every publish carries credentials of its own in its
	// user properties: the listener asks its authenticator about each, and Publish
	// counts only in the grant that it gets.
	PerMessage bool
	// Secrets names the user properties that are credentials where PerMessage is
	// set. A listener takes them out of a message before anything keeps or logs it.
	Secrets []string
	// Ask says that the authenticator has to be asked about every topic that
	// Publish or Subscribe allows, because another service decides.
	Ask     bool
	Expires time.Time // zero: never
	// Rates bound what the connection's device or user publishes, over all its
	// connections, and ApplicationRates what all of the application's do together.
	Rates, ApplicationRates Rates
}

// Rates bound how fast somebody may publish, on average over a few seconds.
type Rates struct {
	Messages float64 // per second; 0: no bound
	Bytes    float64 // payload and topic, per second; 0: no bound
}

// Action is what somebody wants to do with a topic.
type Action uint8

// The actions that rights are about.
const (
	Publish Action = iota
	Subscribe
)

// String returns the word for an action.
func (a Action) String() string {
	if a == Subscribe {
		return "subscribe"
	}
	return "publish"
}

// Exchange is an authentication in several steps (MQTT 5 section 4.12). It
// belongs to one connection and is not safe for concurrent use.
type Exchange interface {
	// Next takes what the client said and returns what to answer. A grant ends the
	// exchange with success; the answer then travels with it. An error, which is
	// a *Error where the client is at fault, ends it without.
	Next(data []byte) (answer []byte, g *Grant, err error)
}

// Change says that rights changed or went: whoever holds a grant that matches
// has to have it renewed. Empty members match everything.
type Change struct {
	Application string
	Device      string
	Principal   string
	Method      string // only grants of this way of authentication
	Credential  string // only grants that this credential opened
}

// Touches says whether a grant has to be renewed because of the change.
func (c *Change) Touches(g *Grant) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(c.Application, g.Application) && same(c.Device, g.Device) &&
		same(c.Principal, g.Principal) && same(c.Method, g.Method) && same(c.Credential, g.Credential)
}
