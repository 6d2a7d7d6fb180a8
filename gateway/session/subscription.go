package session

import "tributary.io/gateway/topic"

// subscription is a session's wish for the messages of one filter. It does not change once
// its space's tree holds it; subscribing again replaces it.
type subscription struct {
	session  *session
	filter   string // without $share/<group>/
	group    string // of a shared subscription; else empty
	qos      byte
	noLocal  bool
	asIs     bool // retain as published
	byPlugin bool // a plugin granted it, so the grant's filters do not judge it
	ids      []uint32
}

// SameSubscriber reports whether another subscription is of the same session.
func (s *subscription) SameSubscriber(other *subscription) bool { return s.session == other.session }

// The tree of a space, what it finds for a topic, and the members of one ordinary shared
// subscription. The space's lock guards all of it, but for the turn of a group.
type (
	subscriptionTree = topic.FilterTree[*subscription]
	matches          = topic.Matches[*subscription]
	group            = topic.Share[*subscription]
)
