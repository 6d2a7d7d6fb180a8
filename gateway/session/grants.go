package session

import (
	"slices"
	"strings"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/event"
)

// Permits says whether a grant has a filter for the topic. Here $ is a letter
// like any other: # grants every topic, those of a dialect that begin with $
// ($emqx/things/…) among them. Nothing of the gateway's own is published to.
func Permits(g *access.Grant, topic string) bool {
	for _, filter := range g.Publish {
		if event.Permits(filter, topic) {
			return true
		}
	}
	return false
}

// maySubscribe says whether a grant alone allows a client to subscribe to a filter. A
// shared subscription is allowed where the plain one is.
func maySubscribe(g *access.Grant, clientID, filter string) bool {
	if OwnReplies(g, clientID, filter) {
		return true
	}
	if !g.Messaging {
		return false
	}
	_, filter, _ = packet.SplitShare(filter)
	return slices.ContainsFunc(g.Subscribe, func(granted string) bool { return covers(granted, filter) })
}

// OwnReplies says whether a filter is below reply/<client id>/, where whoever
// commands devices may wait for the answers: clients as mosquitto_rr subscribe to
// their response topic before they ask. Answers go to the connection that asked
// and to nobody else, so that this opens nothing: what else may be published there
// is only in a messaging application, where Subscribe decides.
func OwnReplies(g *access.Grant, clientID, filter string) bool {
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
