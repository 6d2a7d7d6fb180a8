package session

import (
	"cmp"
	"slices"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/resource"
)

// Connections returns the connections, and the sessions of clients that are away, for which match
// returns true. They are sorted by namespace and client identifier; the list begins after the given
// ones, and has at most limit entries. match may call methods of Sessions.
func (s *Sessions) Connections(match func(*resource.Connection) bool, afterNamespace, afterClientID string,
	limit int) (list []resource.Connection) {
	after := sessionKey{afterNamespace, afterClientID}
	all := slices.DeleteFunc(s.allSessions(), func(ses *session) bool { return ses.key.compare(after) <= 0 })
	slices.SortFunc(all, func(a, b *session) int { return a.key.compare(b.key) })
	for _, ses := range all {
		if len(list) >= limit {
			break
		}
		if x, ok := ses.describe(); ok && match(&x) {
			list = append(list, x)
		}
	}
	return list
}

func (k sessionKey) compare(other sessionKey) int {
	return cmp.Or(cmp.Compare(k.namespace, other.namespace), cmp.Compare(k.clientID, other.clientID))
}

// Kick ends the connection of a client with 0x98 (administrative action). With forget it also ends
// the client's session, even if the client is away. The will is sent. Kick returns false if there is
// nothing to end.
func (s *Sessions) Kick(namespace, clientID string, forget bool) bool {
	s.mu.Lock()
	ses := s.sessions[sessionKey{namespace, clientID}]
	s.mu.Unlock()
	if ses == nil {
		return false
	}
	ses.mu.Lock()
	c := ses.link
	ses.mu.Unlock()
	if c == nil && !forget {
		return false
	}
	if forget {
		s.endSession(ses)
	}
	if c != nil {
		c.Close(packet.CodeAdministrativeAction, "an operator ended the connection")
	}
	s.count.kicked.Add(1)
	return true
}

// endSession ends a session, whether or not its client is connected. The caller holds no lock, and
// closes the connection.
func (s *Sessions) endSession(ses *session) {
	var after afterUnlock
	s.mu.Lock()
	ses.mu.Lock()
	if ses.state != sessionEnded {
		if ses.link != nil {
			after = append(after, ses.detachLinkLocked())
		}
		after = append(after, s.endLocked(ses)...)
	}
	ses.mu.Unlock()
	s.mu.Unlock()
	after.run()
	s.announce(ses.device)
}

// sessionOf returns the session that a client would resume, or nil.
func (s *Sessions) sessionOf(from *Client) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[sessionKey{from.Granted().Namespace, from.ClientID}]
}

// describe returns what operators see of a session. ok is false if the session has ended.
func (s *session) describe() (x resource.Connection, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == sessionEnded {
		return x, false
	}
	x = resource.Connection{Namespace: s.key.namespace, ClientID: s.key.clientID, Principal: s.principal,
		Since:  s.since.UTC().Truncate(time.Millisecond),
		Online: s.link != nil, Subscriptions: len(s.subs) + len(s.logSubs),
		Queued: s.outbox.waiting, QueuedBytes: s.outbox.bytes, InFlight: len(s.outbox.flights)}
	if s.device != nil {
		x.Application, x.Device = s.device.application, s.device.name
	}
	if from := s.client; from != nil {
		g := from.Granted()
		x.Listener, x.Method, x.Application, x.Device = from.listener, g.Method, g.Application, g.Device
		x.Protocol = "mqtt/3.1.1"
		if from.Version == packet.V5 {
			x.Protocol = "mqtt/5"
		}
	}
	switch {
	case s.link != nil:
		x.Peer = s.client.Peer
	case s.expiry != Forever:
		x.Expires = x.Since.Add(s.expiry)
	}
	return x, true
}
