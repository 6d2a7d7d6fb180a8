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

// Entrance is the listener that a client came through, as sessions know it. They use it as long as
// they know the client, which may be longer than its connection. Its methods are safe for concurrent
// use.
type Entrance interface {
	// Authorize does what an Authenticator's Authorize does. It may block.
	Authorize(ctx context.Context, g *access.Grant, a access.Action, topic string, qos byte, retain bool) error
	// Renew does what an Authenticator's Renew does. It does not block.
	Renew(g *access.Grant) (*access.Grant, error)
	// Patience is how long a client may be kept waiting for an authenticator.
	Patience() time.Duration
	// PublishWill publishes a will as its client would publish it. The caller holds no lock; the
	// router may block it.
	PublishWill(w *Will)
}

// Client is an authenticated client. Only its grant changes. Wills, retained messages and the
// session keep it after the connection has ended.
type Client struct {
	sessions *Sessions
	current  atomic.Pointer[access.Grant] // see Granted
	Session  *session
	space    *space // the topic space that it publishes to
	Source   string // CloudEvents source of its events
	ClientID string
	Username string
	Peer     string
	Version  byte     // protocol version
	listener string   // name of the listener that it came through
	entrance Entrance // nil: the listener is gone, and nobody renews the grant
}

// NewClient returns the client of a connection, or of one of its messages. A user name that is a
// token is replaced by a digest, because plugins, the quarantine and the store see it.
func (s *Sessions) NewClient(g *access.Grant, clientID, username, peer string, version byte, listener string, in Entrance) *Client {
	who := &Client{sessions: s, space: s.space(g), Source: stage.Source(g.Application, g.Device), ClientID: clientID,
		Username: access.PublicName(username), Peer: peer, Version: version, listener: listener, entrance: in}
	who.current.Store(g)
	return who
}

// Granted returns what the client may do now. A grant never changes, so code that needs several
// answers of one grant calls Granted once.
func (c *Client) Granted() *access.Grant { return c.current.Load() }

// Denial returns what a client is told when its authenticator denies something. An authenticator
// that failed to decide counts as one that denies.
func (c *Client) Denial(err error) string {
	_, reason, known := Refusal(err)
	if !known {
		c.sessions.log.Warn("a right could not be decided and is refused", "client", c.ClientID, "error", err)
	}
	return reason
}

// Authorized asks the authenticator about a topic or filter that the grant allows, if the grant has
// Ask. It may block; the caller holds no lock.
func (c *Client) Authorized(g *access.Grant, a access.Action, filter string, qos byte, retain bool) bool {
	if !g.Ask {
		return true
	}
	ctx, cancel := context.WithTimeout(c.sessions.ctx, c.entrance.Patience())
	defer cancel()
	if a == access.Subscribe {
		_, filter, _ = topic.SplitShare(filter)
	}
	err := c.entrance.Authorize(ctx, g, a, filter, qos, retain)
	if err != nil {
		c.Denial(err)
	}
	return err == nil
}

// MaySubscribe says whether the client may subscribe to a filter without a plugin's permission. A
// shared subscription is allowed if the same filter without $share is.
func (c *Client) MaySubscribe(filter string) bool {
	return maySubscribe(c.Granted(), c.ClientID, filter)
}

// Refusal returns the code and the reason of another stage's error. known is false if the stage did
// not refuse but failed.
func Refusal(err error) (code event.Code, reason string, known bool) {
	if e := (*stage.Error)(nil); errors.As(err, &e) {
		return e.Code, e.Reason, true
	}
	return event.ServerUnavailable, "the gateway cannot do this now; try again", false
}
