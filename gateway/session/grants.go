package session

import (
	"slices"
	"strings"

	"tributary.io/gateway/access"
	"tributary.io/gateway/topic"
)

// Permits says whether a grant has a filter for the topic. Here $ is a letter
// like any other: # grants every topic, those of a dialect that begin with $
// ($emqx/things/…) among them. Nothing of the gateway's own is published to.
func Permits(g *access.Grant, name string) bool {
	for _, filter := range g.Publish {
		if topic.Permits(filter, name) {
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
	_, filter, _ = topic.SplitShare(filter)
	return slices.ContainsFunc(g.Subscribe, func(granted string) bool { return topic.Covers(granted, filter) })
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
