package session

import (
	"slices"
	"time"
)

// pressure makes publishers wait while the queue of a session is nearly full and its client is
// connected, so that it may make room. The session's mu guards it.
type pressure struct {
	room  chan struct{} // closed when publishers may continue; nil: they need not wait
	since time.Time     // when room was made
	vain  bool          // publishers waited in vain, and do not wait again before the queue is half empty
}

// pressedLocked says whether so many quarters of the queue are full.
func (s *session) pressedLocked(quarters int) bool {
	cfg, o := &s.server.cfg, &s.outbox
	return 4*(o.waiting+o.reserved) >= quarters*cfg.QueueMessages || 4*(o.bytes+o.reservedBytes) >= quarters*cfg.QueueBytes
}

// pressLocked makes publishers wait if the queue is nearly full.
func (s *session) pressLocked(now time.Time) {
	p := &s.pressure
	if p.room == nil && !p.vain && s.link != nil && s.server.cfg.QueueWaitMax > 0 && s.pressedLocked(3) {
		p.room, p.since = make(chan struct{}), now
		s.space.pressed.Add(1)
	}
}

// relieveLocked lets publishers continue if there is room, or if the client has gone.
func (s *session) relieveLocked() {
	p := &s.pressure
	if p.room != nil && (s.link == nil || !s.pressedLocked(3)) {
		s.letPublishersGoLocked()
	}
	p.vain = p.vain && s.pressedLocked(2)
}

func (s *session) letPublishersGoLocked() {
	close(s.pressure.room)
	s.pressure.room = nil
	s.space.pressed.Add(-1)
}

// giveUpWaiting lets publishers continue that have waited too long.
func (s *session) giveUpWaiting(room <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := &s.pressure; p.room == room {
		p.vain = true
		s.letPublishersGoLocked()
	}
}

// membersOf returns the members of a shared group.
func (sp *space) membersOf(g *group) []*subscription {
	sp.mu.RLock()
	defer sp.mu.RUnlock()
	return slices.Clone(g.Members())
}

// AwaitRoom waits before the client publishes a message of QoS 1 or 2, until no connected
// subscriber's queue is nearly full, or until QueueWaitMax has passed. A queue that stays full for
// QueueWaitMax is not waited for again before it is half empty: a client that is always too slow
// loses messages, and does not slow down publishers. AwaitRoom calls waiting before it waits. The
// caller holds no lock.
func (c *Client) AwaitRoom(topic string, qos byte, waiting func()) {
	sp := c.space
	if qos == 0 || sp.pressed.Load() == 0 || !c.Granted().Messaging {
		return
	}
	h := sp.lend()
	sp.mu.RLock()
	sp.tree.Match(topic, &h.matches)
	sp.mu.RUnlock()
	var full map[*session]pressure
	look := func(sub *subscription) {
		s := sub.session
		if sub.qos == 0 || s == c.Session { // a client does not wait for itself
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pressure.room == nil {
			return
		}
		if full == nil {
			full = make(map[*session]pressure)
		}
		full[s] = s.pressure
	}
	for _, sub := range h.Subscriptions {
		look(sub)
	}
	for _, g := range h.Shares {
		if members := sp.membersOf(g); len(members) == 1 { // with several members, another one can take the message
			look(members[0])
		}
	}
	sp.giveBack(h)
	if len(full) == 0 {
		return
	}
	c.sessions.count.waited.Add(1)
	waiting()
	for s, p := range full {
		timeout := time.NewTimer(time.Until(p.since.Add(c.sessions.cfg.QueueWaitMax)))
		select {
		case <-p.room:
		case <-timeout.C:
			s.giveUpWaiting(p.room)
		case <-c.sessions.ctx.Done():
		}
		timeout.Stop()
	}
}
