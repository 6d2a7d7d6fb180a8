package session

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// Entrance is what sessions need of the listener that a client came through, for as
// long as they know the client, which may be longer than its connection. Its methods
// are safe for concurrent use.
type Entrance interface {
	// Authorize is that of Authenticator. It may block.
	Authorize(ctx context.Context, g *access.Grant, a access.Action, topic string, qos byte, retain bool) error
	// Renew is that of Authenticator. It does not block.
	Renew(g *access.Grant) (*access.Grant, error)
	// Patience bounds how long the client may be kept waiting for an authenticator.
	Patience() time.Duration
	// PublishWill publishes a will as its client would have published it. It is called
	// without locks and may block on the router.
	PublishWill(w *Will)
}

// Client is an authenticated client. Only its grant changes. It outlives the
// connection in a will, in a retained message, and in the session that it left behind.
type Client struct {
	sessions *Sessions
	current  atomic.Pointer[access.Grant] // see granted
	Session  *session
	space    *space // that it publishes to
	Source   string // CloudEvents source of its events
	ClientID string
	Username string
	Peer     string
	Version  byte     // of the protocol
	listener string   // name of the listener that it came through
	entrance Entrance // nil: that listener is no more, and nobody renews the grant
}

// NewClient makes the client of a connection, or of one of its messages. A digest takes the
// place of a user name that is a token, since plugins, the quarantine and the store see it.
func (s *Sessions) NewClient(g *access.Grant, clientID, username, peer string, version byte, listener string, in Entrance) *Client {
	who := &Client{sessions: s, space: s.space(g), Source: stage.Source(g.Application, g.Device), ClientID: clientID,
		Username: access.PublicName(username), Peer: peer, Version: version, listener: listener, entrance: in}
	who.current.Store(g)
	return who
}

// Granted is what the client may do now. A grant itself never changes, so who
// asks several things of it calls this once.
func (who *Client) Granted() *access.Grant { return who.current.Load() }

// Denial is what a client is told that the authenticator did not say yes to. One
// that could not decide counts as one that said no.
func (who *Client) Denial(err error) string {
	_, reason, known := Refusal(err)
	if !known {
		who.sessions.log.Warn("a right could not be decided and is refused", "client", who.ClientID, "error", err)
	}
	return reason
}

// Authorized asks the authenticator about a topic, or a filter, that the grant
// allows, if another service has to be asked. It may block, and is called
// without locks.
func (who *Client) Authorized(g *access.Grant, a access.Action, filter string, qos byte, retain bool) bool {
	if !g.Ask {
		return true
	}
	ctx, cancel := context.WithTimeout(who.sessions.ctx, who.entrance.Patience())
	defer cancel()
	if a == access.Subscribe {
		_, filter, _ = topic.SplitShare(filter)
	}
	err := who.entrance.Authorize(ctx, g, a, filter, qos, retain)
	if err != nil {
		who.Denial(err)
	}
	return err == nil
}

// MaySubscribe says whether the client, without a plugin's help, may subscribe to
// a filter. A shared subscription is allowed where the plain one is.
func (who *Client) MaySubscribe(filter string) bool {
	return maySubscribe(who.Granted(), who.ClientID, filter)
}

// Refusal is the code and the reason of an error from another stage. known says
// that the stage meant it so, and did not merely fail.
func Refusal(err error) (code event.Code, reason string, known bool) {
	if e := (*stage.Error)(nil); errors.As(err, &e) {
		return e.Code, e.Reason, true
	}
	return event.ServerUnavailable, "the gateway cannot do this now; try again", false
}
