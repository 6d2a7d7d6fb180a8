package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// Connections calls fn for every connection and every session that is kept for a
// client that is away, in no order, until fn says false. fn may call the server.
func (s *Server) Connections(fn func(stage.Connection) bool) {
	for _, ses := range s.allSessions() {
		if x, ok := ses.describe(); ok && !fn(x) {
			return
		}
	}
}

// Kick ends the connections that match, with 0x98 (administrative action), and,
// if they are to be forgotten, their sessions and kept ones that match. Wills are
// sent. It returns how many ended. match may call the server.
func (s *Server) Kick(match func(*stage.Connection) bool, forget bool) (ended int) {
	for _, ses := range s.allSessions() {
		x, ok := ses.describe()
		if !ok || !x.Online && !forget || !match(&x) {
			continue
		}
		ses.mu.Lock()
		c := ses.conn
		ses.mu.Unlock()
		if forget {
			s.forget(ses)
		}
		if c != nil {
			c.shut(packet.CodeAdministrativeAction, "an operator ended the connection")
		}
		s.count.kicked.Add(1)
		ended++
	}
	return ended
}

// forget ends a session, whether or not its client is connected. It is called
// without locks; the connection is the caller's to shut.
func (s *Server) forget(ses *session) {
	var after []func()
	s.mu.Lock()
	ses.mu.Lock()
	if !ses.ended {
		if ses.conn != nil {
			after = append(after, ses.unplug())
		}
		after = append(after, s.end(ses)...)
	}
	ses.mu.Unlock()
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
	s.announce(ses.device)
}

// sessionOf finds the session that a client would resume; nil: none.
func (s *Server) sessionOf(from *sender) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[sessionKey{from.granted().Namespace, from.clientID}]
}

// describe is false for a session that has ended.
func (s *session) describe() (x stage.Connection, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return x, false
	}
	x = stage.Connection{Namespace: s.key.namespace, ClientID: s.key.clientID, Principal: s.principal, Since: s.since.UTC().Truncate(time.Millisecond),
		Online: s.conn != nil, Subscriptions: len(s.subs) + len(s.readers),
		Queued: s.outbox.waiting, QueuedBytes: s.outbox.bytes, InFlight: len(s.outbox.flights)}
	if s.device != nil {
		x.Application, x.Device = s.device.application, s.device.name
	}
	if from := s.from; from != nil {
		g := from.granted()
		x.Listener, x.Method, x.Application, x.Device = from.via.Name, g.Method, g.Application, g.Device
		x.Protocol = "mqtt/3.1.1"
		if from.version == packet.V5 {
			x.Protocol = "mqtt/5"
		}
	}
	switch {
	case s.conn != nil:
		x.Peer = s.conn.peer
	case s.expiry != forever:
		x.Expires = x.Since.Add(s.expiry)
	}
	return x, true
}
