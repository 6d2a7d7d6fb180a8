package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Attachment is a connection that is to get a session.
type Attachment struct {
	Link   Link
	Terms  Terms
	Client *Client
	Clean  bool            // the client wants a new session
	Expiry time.Duration   // session expiry after the connection has ended
	Will   *Will           // nil: none
	denied map[string]bool // subscriptions that a resumed session loses, by filter
}

// Attach gives a connection its session, new or resumed, and greets the client, sections 3.1.2.4 and
// 4.1. If another connection has the session, it ends with 0x8E. The session's mu is held
// throughout, so that no message is lost between the two connections.
func (s *Sessions) Attach(x *Attachment) *packet.Error {
	stored := make(chan error, 1)
	x.denied = s.sessionOf(x.Client).denied(x.Client, x.Client.Granted())
	greeted, resumed, after, fault := s.attach(x, stored)
	after.run()
	if fault != nil || greeted {
		return fault
	}
	err := <-stored
	if err == nil {
		err = s.welcome(x, resumed)
	}
	if err != nil {
		s.log.Error("a session could not be stored or read", "client", x.Client.ClientID, "error", err)
		x.Client.Session.Detach(x.Link, false)()
		return &packet.Error{Code: packet.CodeServerUnavailable, Reason: "the session cannot be stored or read now"}
	}
	return nil
}

// welcome greets the client of a stored session when the session is durable, and sends its queue.
func (s *Sessions) welcome(x *Attachment, resumed bool) error {
	ses := x.Client.Session
	entries, err := s.fetch(ses)
	if err != nil {
		return err
	}
	ses.mu.Lock()
	if ses.link != x.Link {
		ses.mu.Unlock()
		return nil // taken over meanwhile, which the connection was told
	}
	for _, seq := range ses.outbox.unshelve(entries) {
		s.log.Error("a queued message is damaged or missing in the store, and lost", "client", ses.key.clientID, "number", ses.number, "entry",
			seq)
	}
	adopt := ses.dropUnwantedLocked() // before anything is sent, because the client may have fewer rights than before
	ses.outbox.resetFlights()
	ses.greetLocked(resumed)
	ses.mu.Unlock()
	adopt()
	return nil
}

// greetLocked sends CONNACK, and then what waits for the client.
func (s *session) greetLocked(resumed bool) {
	s.state = sessionAttached
	s.link.Greet(resumed)
	s.pumpLocked(time.Now())
}

// attach does the part of Attach that needs locks. If greeted is false, the session has to be
// stored: stored then says when it is durable, and the client is greeted after that.
func (s *Sessions) attach(x *Attachment, stored chan<- error) (greeted, resumed bool, after afterUnlock, fault *packet.Error) {
	from := x.Client
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sessionKey{from.Granted().Namespace, from.ClientID}
	ses := s.sessions[key]
	switch {
	case s.stopping:
		return false, false, nil, &packet.Error{Code: packet.CodeServerUnavailable, Reason: "the gateway is stopping"}
	case ses != nil && ses.principal != from.Granted().Principal: // section 5.4.2
		return false, false, nil, &packet.Error{Code: packet.CodeClientIDNotValid, Reason: "the client identifier is in use by somebody else"}
	case ses == nil && len(s.sessions) >= s.cfg.MaxSessions:
		s.reached(limitSessions)
		return false, false, nil, &packet.Error{Code: packet.CodeQuotaExceeded, Reason: "the gateway has too many sessions"}
	case ses == nil && from.space.sessions >= s.cfg.MaxSessionsPerApplication:
		s.reached(limitSessionsOfApplication)
		return false, false, nil, &packet.Error{Code: packet.CodeQuotaExceeded, Reason: "the application has too many sessions"}
	}
	if ses != nil && (x.Clean || !ses.belongs(from) || !ses.persistent()) { // [MQTT-3.1.2-4], [MQTT-3.1.2-6] of 3.1.1
		ses.mu.Lock()
		after = append(after, ses.takeOverLocked(false)...)
		after = append(after, s.endLocked(ses)...)
		ses.mu.Unlock()
		ses = nil
	}
	if ses == nil {
		ses = s.newSessionLocked(key, from)
	} else {
		resumed = true
	}
	ses.mu.Lock()
	defer ses.mu.Unlock()
	after = append(after, ses.takeOverLocked(true)...)
	after = append(after, ses.pruneLocked(from, x.denied)...)
	from.Session = ses
	if x.Will != nil {
		x.Will.Client.Session = ses
	}
	ses.link, ses.terms, ses.client, ses.will, ses.state = x.Link, x.Terms, from, x.Will, sessionAttaching
	ses.since = time.Now()
	ses.visits++
	ses.stuck = time.Time{}
	ses.expiry = x.Expiry
	ses.outbox.resetFlights()
	ses.online.Store(true)
	ses.device.connected(+1)
	x.Link.Expire(from.Granted().Expires)
	if s.journal == nil || !ses.stored.Load() && !ses.persistentLocked() {
		ses.greetLocked(resumed)
		return true, resumed, after, nil
	}
	ses.storeLocked()
	s.journal.commit(func(err error) { stored <- err })
	return false, resumed, after, nil
}

// newSessionLocked makes a session.
func (s *Sessions) newSessionLocked(key sessionKey, from *Client) *session {
	s.numbers++
	g := from.Granted()
	ses := &session{server: s, key: key, principal: g.Principal, application: g.Application, number: s.numbers}
	ses.space = s.space(g)
	ses.space.sessions++
	ses.device = s.devices.add(g, ses)
	s.sessions[key] = ses
	return ses
}

// storeLocked records the session, then its will (a will without a session counts as already sent).
// A session is stored from its start or not at all: one that ends with its connection is never
// resumed.
func (s *session) storeLocked() {
	if !s.stored.Swap(true) {
		s.space.storedSessions.Add(1)
	}
	s.recordLocked(time.Time{})
	if s.will != nil {
		s.will.store(s)
	}
}

// recordLocked records the session itself. left is when its connection ended, zero if it has one.
func (s *session) recordLocked(left time.Time) {
	r := sessionRecord{namespace: s.key.namespace, clientID: s.key.clientID, principal: s.principal,
		application: s.application, expiry: s.expiry, left: left, client: s.client}
	if s.device != nil {
		r.device = s.device.name
	}
	s.server.journal.put(sessKey('s', s.number), r.append(nil))
}

// recordSubscriptionsLocked records the subscriptions of the session.
func (s *session) recordSubscriptionsLocked() {
	s.server.journal.put(sessKey('u', s.number), appendSubscriptions(nil, s.subs, s.logSubs, s.replays))
}

// belongs says whether the session is of the client's device. A principal whose device has changed
// gets a new session.
func (s *session) belongs(from *Client) bool {
	if s.space != s.server.space(from.Granted()) {
		return false
	}
	if s.device == nil {
		return from.Granted().Device == ""
	}
	return s.device.application == from.Granted().Application && s.device.name == from.Granted().Device
}

// takeOverLocked detaches the session's connection, if it has one. The will is dropped if the
// session is resumed and the will's delay has not passed; otherwise it is published.
func (s *session) takeOverLocked(resumed bool) (after afterUnlock) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.willTimer != nil {
		s.willTimer.Stop()
		s.willTimer = nil
	}
	if w := s.will; w != nil && (!resumed || w.Delay == 0) { // [MQTT-3.1.3-9]
		after = append(after, w.publish)
	} else {
		w.Drop()
	}
	s.will = nil
	if c := s.link; c != nil {
		s.server.count.takeovers.Add(1)
		s.server.log.Info("session taken over", "client", s.key.clientID)
		after = append(after, s.detachLinkLocked())
		after = append(after, func() { c.Close(packet.CodeSessionTakenOver, "another connection took the session over") }) // [MQTT-3.1.4-3]
	}
	return after
}

// detachLinkLocked takes the connection away from the session.
func (s *session) detachLinkLocked() (after func()) {
	s.link, s.state = nil, sessionAway
	s.relieveLocked()
	s.since = time.Now()
	s.online.Store(false)
	s.device.connected(-1)
	var gone []*LogSubscription
	for _, r := range s.logSubs {
		if r.state != logLeft {
			r.state = logLeft
			s.outbox.dropRecords(r)
			gone = append(gone, r)
		}
	}
	return func() { leaveAll(gone) }
}

// Detach takes a connection that has ended away from its session. It does nothing if the session has
// another connection. failed says that the client sent no DISCONNECT, so that its will is due. The
// caller calls after next, which may block.
func (ses *session) Detach(c Link, failed bool) (after func()) {
	s := ses.server
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if ses.link != c {
		return func() {}
	}
	list := afterUnlock{ses.detachLinkLocked()}
	w := ses.will
	ses.will = nil
	switch {
	case w == nil || !failed || s.stopping: // [MQTT-3.14.4-3]
		w.Drop()
	case w.Delay == 0 || ses.expiry == 0:
		list = append(list, w.publish)
	default:
		ses.postponeWillLocked(w, min(w.Delay, ses.expiry))
	}
	if ses.expiry == 0 {
		list = append(list, s.endLocked(ses)...)
	} else {
		ses.startExpiryLocked(ses.expiry)
		if ses.stored.Load() {
			s.count.dropped[dropOffline].Add(uint64(ses.outbox.shelve()))
			ses.recordLocked(time.Now())
			s.journal.commit(nil)
		}
	}
	return func() {
		list.run()
		s.announce(ses.device)
	}
}

// startExpiryLocked makes the session end if no connection comes in time.
func (s *session) startExpiryLocked(after time.Duration) {
	if after != Forever {
		visit := s.visits
		s.timer = time.AfterFunc(after, func() { s.server.expire(s, visit) })
	}
}

// postponeWillLocked has a will published after its delay.
func (s *session) postponeWillLocked(w *Will, delay time.Duration) {
	s.will = w
	s.willTimer = time.AfterFunc(delay, func() { s.sendWill(w) })
	if s.stored.Load() {
		w.due = time.Now().Add(delay)
		w.store(s)
	}
}

// sendWill publishes a delayed will, unless the client has returned.
func (s *session) sendWill(w *Will) {
	s.mu.Lock()
	due := s.will == w && s.link == nil
	if due {
		s.will = nil
	}
	s.mu.Unlock()
	if due {
		w.publish()
	}
}

// expire ends a session whose time is up, unless the client has returned.
func (s *Sessions) expire(ses *session, visit int) {
	s.mu.Lock()
	ses.mu.Lock()
	var after afterUnlock
	if ses.state == sessionAway && ses.visits == visit {
		after = s.endLocked(ses)
	}
	ses.mu.Unlock()
	s.mu.Unlock()
	after.run()
}

// endLocked ends a session, with its subscriptions, queue and will [MQTT-3.1.2-23]. The session's mu
// is held, too.
func (s *Sessions) endLocked(ses *session) (after afterUnlock) {
	ses.state = sessionEnded
	if s.sessions[ses.key] == ses { // a restored session may have a successor
		delete(s.sessions, ses.key)
	}
	if ses.timer != nil {
		ses.timer.Stop()
	}
	if ses.willTimer != nil {
		ses.willTimer.Stop()
	}
	if w := ses.will; w != nil {
		ses.will = nil
		after = append(after, w.publish)
	}
	for _, sub := range ses.subs {
		ses.space.unsubscribe(sub)
	}
	s.devices.remove(ses)
	if ses.stored.Swap(false) {
		after = append(after, ses.eraseLocked()...)
	} else if orphans := ses.outbox.orphans(); len(orphans) > 0 {
		after = append(after, func() { ses.space.adopt(orphans) })
	}
	ses.space.sessions--
	ses.outbox, ses.subs, ses.logSubs, ses.replays, ses.incoming = outbox{reserved: ses.outbox.reserved}, nil, nil, nil, nil
	ses.accountLocked()
	return after
}

// SetExpiry changes the session expiry, as the client asks in DISCONNECT.
func (s *session) SetExpiry(c Link, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == c {
		s.expiry = d
	}
}

// Expiry returns the session expiry that a client gets when it wants another.
func (s *Sessions) Expiry(wanted time.Duration) time.Duration {
	if most := s.cfg.SessionExpiryMax; most > 0 {
		return min(wanted, most)
	}
	return wanted
}
