package session

import (
	"slices"
	"strings"

	"tributary.io/gateway/access"
	"tributary.io/gateway/topic"
)

// Permits says whether one of the grant's filters permits a topic. A $ has no special meaning: #
// permits every topic, such as $emqx/things/… . The gateway has no topics of its own that a client
// could publish to.
func Permits(g *access.Grant, name string) bool {
	for _, filter := range g.Publish {
		if topic.Permits(filter, name) {
			return true
		}
	}
	return false
}

// maySubscribe says whether a grant alone allows a client to subscribe to a filter. A shared
// subscription is allowed if the same filter without $share is.
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

// OwnReplies says whether a filter is below reply/<client id>/. Every client that may command
// devices may wait there for the answers: clients such as mosquitto_rr subscribe to their response
// topic before they send a command. An answer goes only to the connection that asked, so this opens
// nothing. Other messages on these topics exist only in a messaging application, where the grant's
// Subscribe decides.
func OwnReplies(g *access.Grant, clientID, filter string) bool {
	if len(g.Write) == 0 || g.Messaging && g.Device != "" || clientID == "" || strings.ContainsAny(clientID, "+#/") {
		return false
	}
	rest, ok := strings.CutPrefix(filter, "reply/"+clientID)
	return ok && len(rest) > 1 && rest[0] == '/'
}
