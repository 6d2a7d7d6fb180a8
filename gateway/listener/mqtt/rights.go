package mqtt

import (
	"context"
	"slices"
	"strings"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// newSender makes the sender of a connection, or of one of its messages.
func (s *Server) newSender(g *stage.Grant, clientID, username, peer string, version byte, via *Listener) *sender {
	return &sender{Client: s.newClient(g, clientID, username, peer, version, via.Name, entrance{s, via}), server: s, via: via}
}

// speaker returns in whose name a message goes that carries credentials of its
// own, and takes them out of the message.
func (from *sender) speaker(g *stage.Grant, p *packet.Publish) (who *sender, v verdict) {
	ctx, cancel := context.WithTimeout(from.server.ctx, from.via.Limits.ConnectTimeout)
	defer cancel()
	var credentials []event.Property
	if p.Props != nil {
		credentials = properties(p.Props.User)
		p.Props.User = slices.DeleteFunc(p.Props.User, func(u packet.UserProperty) bool {
			return slices.Contains(g.Secrets, u.Name)
		})
	}
	speaks, err := from.via.Auth.Message(ctx, g, credentials)
	if err != nil {
		return nil, verdict{code: stage.NotAuthorized, reason: from.denial(err)}
	}
	if who = from.previous; who == nil || who.granted() != speaks {
		who = from.server.newSender(speaks, from.clientID, from.username, from.peer, from.version, from.via)
		who.session, who.spoken = from.session, true
		from.previous = who
	}
	return who, v
}

// mayPublish says whether the sender may publish to the topic, be it a command's
// (to is not nil) or any other. It may block, and is called without locks.
func (from *sender) mayPublish(g *stage.Grant, p *packet.Publish, to *target) (v verdict) {
	switch {
	case to != nil:
		return to.rights(g, p.Retain)
	case !permits(g, p.Topic) || !from.authorized(g, stage.Publish, p.Topic, p.QoS, p.Retain):
		return verdict{code: stage.NotAuthorized, reason: "no right to publish to this topic"}
	case p.Retain && !retainAvailable(g):
		return verdict{code: stage.RetainNotSupported, reason: "messages are not retained here"}
	}
	return v
}

// permits says whether a grant has a filter for the topic. Here $ is a letter
// like any other: # grants every topic, those of a dialect that begin with $
// ($emqx/things/…) among them. Nothing of the gateway's own is published to.
func permits(g *stage.Grant, topic string) bool {
	for _, filter := range g.Publish {
		if event.Permits(filter, topic) {
			return true
		}
	}
	return false
}

// retainAvailable says what CONNACK announces: only devices and messaging
// clients have topics that could retain anything.
func retainAvailable(g *stage.Grant) bool { return g.Messaging || g.Device != "" }

// maySubscribe says whether a grant alone allows a client to subscribe to a filter. A
// shared subscription is allowed where the plain one is.
func maySubscribe(g *stage.Grant, clientID, filter string) bool {
	if ownReplies(g, clientID, filter) {
		return true
	}
	if !g.Messaging {
		return false
	}
	_, filter, _ = packet.SplitShare(filter)
	return slices.ContainsFunc(g.Subscribe, func(granted string) bool { return covers(granted, filter) })
}

// ownReplies says whether a filter is below reply/<client id>/, where whoever
// commands devices may wait for the answers: clients as mosquitto_rr subscribe to
// their response topic before they ask. Answers go to the connection that asked
// and to nobody else, so that this opens nothing: what else may be published there
// is only in a messaging application, where Subscribe decides.
func ownReplies(g *stage.Grant, clientID, filter string) bool {
	if len(g.Write) == 0 || g.Messaging && g.Device != "" || clientID == "" || strings.ContainsAny(clientID, "+#/") {
		return false
	}
	rest, ok := strings.CutPrefix(filter, "reply/"+clientID)
	return ok && len(rest) > 1 && rest[0] == '/'
}

// covers says whether every topic that the filter matches is matched by the
// granted filter too, so that a subscription to it stays within the grant.
func covers(granted, filter string) bool {
	if strings.HasPrefix(filter, "$") && (strings.HasPrefix(granted, "+") || strings.HasPrefix(granted, "#")) {
		return false
	}
	for {
		if granted == "#" {
			return true
		}
		g, grest, gmore := strings.Cut(granted, "/")
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" || g != "+" && g != f {
			return false
		}
		if !gmore || !fmore {
			return gmore == fmore || gmore && grest == "#"
		}
		granted, filter = grest, frest
	}
}
