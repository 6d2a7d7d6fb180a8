package mqtt

import (
	"context"
	"slices"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/sdk-plugin/event"
)

// newSender returns the sender of a connection, or of one of its messages.
func (s *Server) newSender(g *access.Grant, clientID, username, peer string, version byte, via *Listener) *sender {
	return &sender{Client: s.sessions.NewClient(g, clientID, username, peer, version, via.Name, entrance{s, via}), server: s, via: via}
}

// speaker returns the sender of a message that carries its own credentials, and takes the
// credentials out of the message.
func (s *sender) speaker(g *access.Grant, p *packet.Publish) (who *sender, v session.Verdict) {
	ctx, cancel := context.WithTimeout(s.server.ctx, s.via.Limits.ConnectTimeout)
	defer cancel()
	var credentials []event.Property
	if p.Props != nil {
		credentials = properties(p.Props.User)
		p.Props.User = slices.DeleteFunc(p.Props.User, func(u packet.UserProperty) bool {
			return slices.Contains(g.Secrets, u.Name)
		})
	}
	speaks, err := s.via.Auth.Message(ctx, g, credentials)
	if err != nil {
		return nil, session.Verdict{Code: event.NotAuthorized, Reason: s.Denial(err)}
	}
	if who = s.previous; who == nil || who.Granted() != speaks {
		who = s.server.newSender(speaks, s.ClientID, s.Username, s.Peer, s.Version, s.via)
		who.Session, who.perMessage = s.Session, true
		s.previous = who
	}
	return who, v
}

// mayPublish says whether the sender may publish to a topic. to is not nil if the topic is a
// command's. It may block; the caller holds no lock.
func (s *sender) mayPublish(g *access.Grant, p *packet.Publish, to *target) (v session.Verdict) {
	switch {
	case to != nil:
		return to.rights(g, p.Retain)
	case !session.Permits(g, p.Topic) || !s.Authorized(g, access.Publish, p.Topic, p.QoS, p.Retain):
		return session.Verdict{Code: event.NotAuthorized, Reason: "no right to publish to this topic"}
	case p.Retain && !retainAvailable(g):
		return session.Verdict{Code: event.RetainNotSupported, Reason: "messages are not retained here"}
	}
	return v
}

// retainAvailable is what CONNACK announces: only devices and messaging clients have topics on which
// messages can be retained.
func retainAvailable(g *access.Grant) bool { return g.Messaging || g.Device != "" }
