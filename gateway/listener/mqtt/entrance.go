package mqtt

import (
	"context"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/session"
)

// entrance is a listener as its clients' sessions know it.
type entrance struct {
	server *Server
	via    *Listener
}

// Restore reads what an earlier run left in the store, see Sessions.Restore. Clients get the rights
// that their listener, one of these, grants them now. Call it once, after the router runs and before
// Serve.
func (s *Server) Restore(listeners ...*Listener) error {
	return s.sessions.Restore(func(name string) session.Entrance {
		for _, l := range listeners {
			if l.Name == name && l.Auth != nil {
				return entrance{s, l}
			}
		}
		return nil
	})
}

// Authorize implements Entrance.
func (e entrance) Authorize(ctx context.Context, g *access.Grant, a access.Action, topic string, qos byte, retain bool) error {
	return e.via.Auth.Authorize(ctx, g, a, topic, qos, retain)
}

// Renew implements Entrance.
func (e entrance) Renew(g *access.Grant) (*access.Grant, error) { return e.via.Auth.Renew(g) }

// Patience implements Entrance.
func (e entrance) Patience() time.Duration { return e.via.Limits.ConnectTimeout }

// PublishWill implements Entrance.
func (e entrance) PublishWill(w *session.Will) {
	from := &sender{Client: w.Client, server: e.server, via: e.via, perMessage: w.PerMessage}
	x, v, route := from.decidePublish(&w.Publish, time.Now())
	if v.Code.Refused() {
		e.server.refused(w.Client.ClientID, w.Publish.Topic, &v)
	}
	if x == nil {
		w.Drop()
		return
	}
	x.Will = w
	if route {
		e.server.router.Submit(&x.in, x.companion(), x.outcome)
	} else {
		x.decideUnrouted(v)
	}
}
