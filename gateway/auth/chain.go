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

// method checks credentials of one kind.
type method interface {
	// judge checks credentials. The error is
	//   - errOther if they are of another kind,
	//   - a *stage.Error with event.BadUserNameOrPassword if they are unknown or wrong,
	//   - a *stage.Error with another code if the client is known and refused,
	//   - any other error if the method could not decide.
	judge(ctx context.Context, c *access.Credentials) (*decision, error)
}

// errOther says that credentials are of another kind than the method's.
var errOther = errors.New("credentials of another kind")

// decision is what a method found out about a client that it accepts.
type decision struct {
	grant      *access.Grant // shared
	username   string        // that the credentials proved; empty: none
	credential string        // replaces the grant's if another authority vouched; else empty
	// certificate becomes access.Grant.Certificate.
	certificate string
	expires     time.Time // in addition to the grant's; zero: none
	// fixed means that publish and subscribe replace the rights of the registry.
	fixed              bool
	publish, subscribe []string
	ask                bool
	once               bool // the session ends with the connection
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

// refusedCredentials is the one refusal of unknown and wrong credentials: it does not say which.
func refusedCredentials() *stage.Error {
	return badCredentials("the user name, password or other credentials are wrong")
}

func undecidable() *stage.Error {
	return &stage.Error{Code: event.ServerUnavailable, Reason: "the gateway cannot check these credentials now; try again"}
}

// Connect checks the credentials of a connection or an HTTP request, whose bearer token is
// the Password without a Username. The error is that of ctx if it ended first. Otherwise it
// wraps a *stage.Error, which is for the client; its own text tells the operator why. The
// code is
//   - event.BadUserNameOrPassword if the credentials are unknown, wrong or expired,
//   - event.ServerUnavailable if a method that might have accepted could not decide,
//   - event.NotAuthorized if there were no credentials,
//   - event.NotAuthorized or the code of a method if that refused a known client.
func (ch *Chain) Connect(ctx context.Context, c *access.Credentials) (*access.Grant, error) {
	return ch.first(ctx, c, func(link) bool { return true })
}

// first asks the chosen methods in order until one decides.
func (ch *Chain) first(ctx context.Context, c *access.Credentials, chosen func(link) bool) (*access.Grant, error) {
	wrong, undecided := false, false
	name := ""       // that of the first refusal with one
	var why []string // only for the operator
	for _, l := range ch.links {
		if !chosen(l) {
			continue
		}
		d, err := l.method.judge(ctx, c)
		if errors.Is(err, errOther) {
			continue
		}
		ch.count(ctx, l, err)
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

// count counts the verdict of a method, and logs an error that prevented one.
func (ch *Chain) count(ctx context.Context, l link, err error) {
	var refusal *stage.Error
	switch {
	case err == nil:
		l.count.accepted.Add(1)
	case errors.As(err, &refusal):
		l.count.refused.Add(1)
	default:
		l.count.undecided.Add(1)
		if ctx.Err() != nil {
			return
		}
		if n := ch.auth.unable.Count(l.name, ch.auth.now()); n > 0 {
			ch.auth.log.Warn("credentials could not be checked", "method", l.name, "logins", n, "error", err)
		}
	}
}

// finish turns a decision into the grant of the connection.
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

// earlier returns the earlier of two times. A zero time means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Begin starts an enhanced authentication: SCRAM-SHA-256 (RFC 7677) or OAUTHBEARER (RFC 7628),
// if a method of the chain can do it.
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

// Message checks the credentials in the user properties of a message if g has PerMessage, and
// otherwise returns g. It caches grants: equal credentials get the same one for a while.
func (ch *Chain) Message(ctx context.Context, g *access.Grant, properties []event.Property) (*access.Grant, error) {
	if ch.properties == nil || !g.PerMessage {
		return g, nil
	}
	own, err := ch.properties.message(ctx, g, properties)
	if ch.count(ctx, ch.link("properties"), err); err != nil {
		return nil, err
	}
	return own, nil
}

// link returns the link with a name, or an empty one.
func (ch *Chain) link(name string) link {
	for _, l := range ch.links {
		if l.name == name {
			return l
		}
	}
	return link{}
}

// Authorize asks the service that decides about g's topics about one that g allows.
func (ch *Chain) Authorize(ctx context.Context, g *access.Grant, act access.Action, topic string, qos byte, retain bool) error {
	if !g.Ask {
		return nil
	}
	l := ch.link(g.Method)
	m, ok := l.method.(*calloutMethod)
	if !ok {
		return notAuthorized("the service that decides about topics is not configured any more")
	}
	return m.authorize(ctx, g, act, topic, qos, retain)
}

// Renew returns the grant that replaces g after a change of rights: g itself if nothing
// changed for it, or another grant. A *stage.Error means that the rights are gone. Renew does
// not look at g.Expires: expiry ends a connection, but not the session, which waits for its
// device to return with newer credentials.
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

// isBad reports whether an error refuses unknown or wrong credentials.
func isBad(err error) bool {
	refusal := (*stage.Error)(nil)
	return errors.As(err, &refusal) && refusal.Code == event.BadUserNameOrPassword
}
