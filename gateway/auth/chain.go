package auth

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// method judges credentials of one kind.
type method interface {
	// judge returns who it is. errOther says that the credentials are of another
	// kind, a *stage.Error with event.BadUserNameOrPassword that they prove nothing, any
	// other *stage.Error that somebody known is refused, and any other error that
	// this could not be decided.
	judge(ctx context.Context, c *access.Credentials) (*decision, error)
}

// errOther says that credentials are not of a method's kind.
var errOther = errors.New("credentials of another kind")

// decision is who somebody is, as a method found out.
type decision struct {
	grant      *access.Grant // shared
	username   string        // that was proven too; empty: none
	credential string        // in place of the grant's, where another authority vouched
	// certificate is what revocation lists call the client's; empty: none is kept.
	certificate string
	expires     time.Time // zero: when the grant does
	// fixed rights of a device are its own and not the registry's.
	fixed              bool
	publish, subscribe []string
	ask                bool
	once               bool // no session outlives the connection
}

// Chain is the authentication of one listener. It is safe for concurrent use.
type Chain struct {
	auth       *Auth
	links      []link
	properties *propertiesMethod // nil: messages carry no credentials
}

type link struct {
	name   string
	method method
	count  *counters
}

func badCredentials(reason string) *stage.Error {
	return &stage.Error{Code: event.BadUserNameOrPassword, Reason: reason}
}

func notAuthorized(reason string) *stage.Error {
	return &stage.Error{Code: event.NotAuthorized, Reason: reason}
}

// The refusals that say no more than they must.
func refusedCredentials() *stage.Error {
	return badCredentials("the user name, password or other credentials are wrong")
}

func undecidable() *stage.Error {
	return &stage.Error{Code: event.ServerUnavailable, Reason: "the gateway cannot check these credentials now; try again"}
}

// Connect judges the credentials of a connection or request. A bearer token of
// HTTP is a Password without a Username. The error wraps a *stage.Error, which says what
// the client may hear, and tells the operator why, or is ctx's when
// that ended first: event.BadUserNameOrPassword for whatever is unknown, wrong or expired,
// event.NotAuthorized for somebody who is known and refused, or where nothing was
// presented, and event.ServerUnavailable where a method that might have accepted
// could not decide.
func (ch *Chain) Connect(ctx context.Context, c *access.Credentials) (*access.Grant, error) {
	return ch.first(ctx, c, func(link) bool { return true })
}

// first has the methods that are chosen judge until one decides.
func (ch *Chain) first(ctx context.Context, c *access.Credentials, chosen func(link) bool) (*access.Grant, error) {
	wrong, undecided := false, false
	name := ""       // of the first refusal that has one
	var why []string // for the operator alone
	for _, l := range ch.links {
		if !chosen(l) {
			continue
		}
		d, err := l.method.judge(ctx, c)
		if errors.Is(err, errOther) {
			continue
		}
		err = ch.told(ctx, l, err)
		var refusal *stage.Error
		switch {
		case err == nil:
			return ch.finish(l, d, c), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.As(err, &refusal):
			undecided = true
		case refusal.Code != event.BadUserNameOrPassword:
			return nil, fmt.Errorf("%s: %w", l.name, err)
		default:
			wrong = true
			if name == "" {
				name = refusal.Name
			}
			why = append(why, l.name+": "+err.Error())
		}
	}
	switch {
	case undecided:
		return nil, undecidable()
	case len(why) > 0:
		refusal := refusedCredentials()
		refusal.Name = name
		return nil, fmt.Errorf("%s: %w", strings.Join(why, "; "), refusal)
	case wrong || c.HasPassword || c.Username != "":
		return nil, refusedCredentials()
	}
	return nil, notAuthorized("this listener needs credentials")
}

// told counts a verdict, and logs why there is none.
func (ch *Chain) told(ctx context.Context, l link, err error) error {
	var refusal *stage.Error
	switch {
	case err == nil:
		l.count.accepted.Add(1)
	case errors.As(err, &refusal):
		l.count.refused.Add(1)
	default:
		l.count.undecided.Add(1)
		if ctx.Err() == nil {
			ch.auth.log.Warn("credentials could not be judged", "method", l.name, "error", err)
		}
	}
	return err
}

// finish makes the connection's own grant of a decision.
func (ch *Chain) finish(l link, d *decision, c *access.Credentials) *access.Grant {
	g := *d.grant
	g.Method = l.name
	if d.credential != "" {
		g.Credential = d.credential
	}
	g.Certificate = d.certificate
	g.Expires = earlier(g.Expires, d.expires)
	g.Names = access.Placeholders{Application: g.Application, Device: g.Device, ClientID: c.ClientID, Username: d.username}
	if d.fixed {
		g.Fixed, g.Publish, g.Subscribe = true, d.publish, d.subscribe
	}
	g.Ask = g.Ask || d.ask
	g.Once = g.Once || d.once
	if ch.properties != nil && g.Device != "" {
		ch.properties.mark(&g)
	}
	fill(&g)
	return &g
}

func fill(g *access.Grant) {
	g.Publish, g.Subscribe = g.Names.Fill(g.Publish), g.Names.Fill(g.Subscribe)
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Begin starts an authentication in several steps, SCRAM-SHA-256 (RFC 7677) or
// OAUTHBEARER (RFC 7628), where the chain holds a method for it.
func (ch *Chain) Begin(ctx context.Context, name string, c *access.Credentials) (access.Exchange, error) {
	for _, l := range ch.links {
		switch m := l.method.(type) {
		case *scramMethod:
			if name == scramName {
				return m.begin(ctx, ch, l, c), nil
			}
		case *oidcMethod:
			if name == bearerName {
				return &bearerExchange{ctx: ctx, chain: ch, credentials: c}, nil
			}
		}
	}
	return nil, &stage.Error{Code: event.BadAuthenticationMethod, Reason: "this listener does not know the authentication method"}
}

// Message judges the credentials in a message's user properties, where g has
// PerMessage. The same credentials get the same grant for a while.
func (ch *Chain) Message(ctx context.Context, g *access.Grant, properties []event.Property) (*access.Grant, error) {
	if ch.properties == nil || !g.PerMessage {
		return g, nil
	}
	own, err := ch.properties.message(ctx, g, properties)
	if err = ch.told(ctx, ch.link("properties"), err); err != nil {
		return nil, err
	}
	return own, nil
}

// link returns the link of a name, which is empty where there is none.
func (ch *Chain) link(name string) link {
	for _, l := range ch.links {
		if l.name == name {
			return l
		}
	}
	return link{}
}

// Authorize asks the service that vouched for g about a topic that g allows.
func (ch *Chain) Authorize(ctx context.Context, g *access.Grant, act access.Action, topic string, qos byte, retain bool) error {
	if !g.Ask {
		return nil
	}
	l := ch.link(g.Method)
	m, ok := l.method.(*calloutMethod)
	if !ok {
		return notAuthorized("nobody is left who could allow this topic")
	}
	return m.authorize(ctx, g, act, topic, qos, retain)
}

// Renew returns what g is now that the registry changed: g itself, another grant,
// or a *stage.Error when it is over. That its time is over ends a connection, and
// not the session that waits for its device to return with newer credentials.
func (ch *Chain) Renew(g *access.Grant) (*access.Grant, error) {
	l := ch.link(g.Method)
	if l.method == nil {
		return nil, notAuthorized("this listener does not accept these credentials any more")
	}
	if m, ok := l.method.(*certificateMethod); ok && m.revoked != nil && m.revoked.has(g.Certificate) {
		return nil, errRevoked()
	}
	if strings.HasPrefix(g.Principal, l.name+"/") {
		return g, nil // it is not the registry's to change
	}
	now, err := ch.auth.dir.Renew(g)
	if err != nil {
		return nil, err
	}
	n := *now
	n.Method, n.Credential, n.Certificate, n.Names, n.Fixed = g.Method, g.Credential, g.Certificate, g.Names, g.Fixed
	n.PerMessage, n.Secrets, n.Ask, n.Once = g.PerMessage, g.Secrets, g.Ask, g.Once
	n.Expires = earlier(n.Expires, g.Expires)
	if g.Fixed {
		n.Publish, n.Subscribe, n.Read, n.Write = g.Publish, g.Subscribe, g.Read, g.Write
	} else {
		fill(&n)
	}
	if reflect.DeepEqual(&n, g) {
		return g, nil
	}
	return &n, nil
}

// isBad says that credentials prove nothing.
func isBad(err error) bool {
	refusal := (*stage.Error)(nil)
	return errors.As(err, &refusal) && refusal.Code == event.BadUserNameOrPassword
}
