package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// attach gives a connection its session, new or kept, and queues the CONNACK as
// its first packet, sections 3.1.2.4 and 4.1. A connection that had the session
// before is told 0x8E. All of it happens under the session's lock, so that no
// message falls between the two connections.
func (s *Server) attach(c *conn, p *packet.Connect, from *sender, w *will, ack *packet.Connack) *packet.Error {
	after, fault := s.claim(c, p, from, w, ack)
	for _, f := range after {
		f()
	}
	return fault
}

// claim does what attach does under locks, and returns what is to be done without.
func (s *Server) claim(c *conn, p *packet.Connect, from *sender, w *will, ack *packet.Connack) (after []func(), fault *packet.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sessionKey{from.grant.Namespace, from.clientID}
	ses := s.sessions[key]
	switch {
	case s.stopping:
		return nil, &packet.Error{Code: packet.CodeServerUnavailable, Reason: "the gateway is stopping"}
	case ses != nil && ses.principal != from.grant.Principal: // section 5.4.2
		return nil, &packet.Error{Code: packet.CodeClientIDNotValid, Reason: "the client identifier is in use by somebody else"}
	case ses == nil && len(s.sessions) >= s.cfg.MaxSessions:
		return nil, &packet.Error{Code: packet.CodeQuotaExceeded, Reason: "the gateway has too many sessions"}
	}
	if ses != nil && (p.CleanStart || !ses.belongs(from)) { // [MQTT-3.1.2-4]
		ses.mu.Lock()
		after = append(after, ses.takeOver(false)...)
		after = append(after, s.end(ses)...)
		ses.mu.Unlock()
		ses = nil
	}
	if ses == nil {
		ses = s.newSession(key, from)
	} else {
		ack.SessionPresent = true // [MQTT-3.2.2-3]
	}
	ses.mu.Lock()
	defer ses.mu.Unlock()
	after = append(after, ses.takeOver(true)...)
	ses.prune(from)
	from.session = ses
	ses.conn, ses.will = c, w
	ses.visits++
	ses.expiry = s.expiry(c.wantedExpiry(p))
	ses.outbox.grounded()
	ses.online.Store(true)
	ses.device.connected(+1)
	c.mu.Lock()
	c.sender = from
	c.attached = true
	c.appendPacket(ack)
	c.kick()
	c.mu.Unlock()
	ses.pump(time.Now())
	return after, nil
}

// newSession makes a session. The caller holds Server.mu.
func (s *Server) newSession(key sessionKey, from *sender) *session {
	s.numbers++
	ses := &session{server: s, key: key, principal: from.grant.Principal, number: s.numbers}
	ses.space = s.space(from.grant)
	ses.device = s.devices.enter(from.grant, ses)
	s.sessions[key] = ses
	return ses
}

// belongs says whether the session is of the same device. A principal whose
// device changed gets a new one.
func (s *session) belongs(from *sender) bool {
	if s.space != s.server.space(from.grant) {
		return false
	}
	if s.device == nil {
		return from.grant.Device == ""
	}
	return s.device.application == from.grant.Application && s.device.name == from.grant.Device
}

// takeOver detaches the connection that the session has, and ends what waited for
// a new one: the will is dropped where the session goes on and had time to,
// sent otherwise. The caller holds the lock.
func (s *session) takeOver(resumed bool) (after []func()) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.willTimer != nil {
		s.willTimer.Stop()
		s.willTimer = nil
	}
	if w := s.will; w != nil && (!resumed || w.delay == 0) { // [MQTT-3.1.3-9]
		after = append(after, w.send)
	}
	s.will = nil
	if c := s.conn; c != nil {
		s.server.count.takeovers.Add(1)
		after = append(after, s.unplug())
		after = append(after, func() { c.shut(packet.CodeSessionTakenOver, "another connection took the session over") }) // [MQTT-3.1.4-3]
	}
	return after
}

// unplug takes the connection away from the session. The caller holds the lock.
func (s *session) unplug() (after func()) {
	s.conn = nil
	s.online.Store(false)
	s.device.connected(-1)
	var gone []*reader
	for _, r := range s.readers {
		if !r.left {
			r.left = true
			s.outbox.forget(r)
			gone = append(gone, r)
		}
	}
	return func() { leaveAll(gone) }
}

// prune drops the subscriptions of a resumed session that its present grant no
// longer allows. The caller holds the lock.
func (s *session) prune(from *sender) {
	for topic, sub := range s.subs {
		if !sub.byPlugin && !maySubscribe(from.grant, topic) {
			delete(s.subs, topic)
			s.space.unsubscribe(sub)
		}
	}
	for topic, r := range s.readers {
		if !from.grant.MayRead(r.log.Application) {
			delete(s.readers, topic)
		}
	}
}

// detach takes a connection away from its session after it ended. It does
// nothing if the session has another by now. failed says that the client did not
// say goodbye, so that its will is due. What it returns is to be called next; it
// may block.
func (s *Server) detach(c *conn, failed bool) (after func()) {
	ses := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if ses.conn != c {
		return func() {}
	}
	list := []func(){ses.unplug()}
	w := ses.will
	ses.will = nil
	switch {
	case w == nil || !failed || s.stopping: // [MQTT-3.14.4-3]
	case w.delay == 0 || ses.expiry == 0:
		list = append(list, w.send)
	default:
		ses.will = w
		ses.willTimer = time.AfterFunc(min(w.delay, ses.expiry), func() { ses.sendWill(w) })
	}
	if ses.expiry == 0 {
		list = append(list, s.end(ses)...)
	} else if ses.expiry != forever {
		visit := ses.visits
		ses.timer = time.AfterFunc(ses.expiry, func() { s.expire(ses, visit) })
	}
	return func() {
		for _, f := range list {
			f()
		}
		s.announce(ses.device)
	}
}

// sendWill sends a delayed will, unless the client returned in time.
func (s *session) sendWill(w *will) {
	s.mu.Lock()
	due := s.will == w && s.conn == nil
	if due {
		s.will = nil
	}
	s.mu.Unlock()
	if due {
		w.send()
	}
}

// expire ends a session whose time is up, unless the client came back in time.
func (s *Server) expire(ses *session, visit int) {
	s.mu.Lock()
	ses.mu.Lock()
	var after []func()
	if ses.conn == nil && !ses.ended && ses.visits == visit {
		after = s.end(ses)
	}
	ses.mu.Unlock()
	s.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// end removes a session with all that is its own: subscriptions, queue, will
// [MQTT-3.1.2-23]. Both locks are held.
func (s *Server) end(ses *session) (after []func()) {
	ses.ended = true
	delete(s.sessions, ses.key)
	if ses.timer != nil {
		ses.timer.Stop()
	}
	if ses.willTimer != nil {
		ses.willTimer.Stop()
	}
	if w := ses.will; w != nil {
		ses.will = nil
		after = append(after, w.send)
	}
	for _, sub := range ses.subs {
		ses.space.unsubscribe(sub)
	}
	s.devices.leave(ses)
	if orphans := ses.outbox.orphans(); len(orphans) > 0 {
		after = append(after, func() { ses.space.adopt(orphans) })
	}
	ses.outbox, ses.subs, ses.readers, ses.incoming = outbox{}, nil, nil, nil
	return after
}

// setExpiry changes the session expiry at the client's wish.
func (s *session) setExpiry(c *conn, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.expiry = d
	}
}
