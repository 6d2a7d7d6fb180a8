package session

import (
	"slices"
	"time"
)

// pressure is what a session tells those who publish to it while its queue is nearly full
// and its client, which is connected, may yet make room. Its session's lock guards it.
type pressure struct {
	room  chan struct{} // closed when there is room, or no hope; nil: nobody has to wait
	since time.Time     // of room
	vain  bool          // they waited in vain; they do not again before the queue is half empty
}

// pressedLocked says whether the queue is full to some quarters. The caller holds the lock.
func (s *session) pressedLocked(quarters int) bool {
	cfg, o := &s.server.cfg, &s.outbox
	return 4*(o.waiting+o.reserved) >= quarters*cfg.QueueMessages || 4*(o.bytes+o.reservedBytes) >= quarters*cfg.QueueBytes
}

// pressLocked has publishers wait if the queue is nearly full. The caller holds the lock.
func (s *session) pressLocked(now time.Time) {
	p := &s.pressure
	if p.room == nil && !p.vain && s.link != nil && s.server.cfg.QueueWaitMax > 0 && s.pressedLocked(3) {
		p.room, p.since = make(chan struct{}), now
		s.space.pressed.Add(1)
	}
}

// relieveLocked lets publishers go on if there is room, or nobody to make it. The caller holds
// the lock.
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

// giveUpWaiting lets publishers go on who waited too long.
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

// AwaitRoom waits, for a message of QoS 1 or 2 that the client is about to publish, until
// no connected subscriber's queue is nearly full. A queue that is not relieved within
// QueueWaitMax is not waited for again before it is half empty: a client that is slow for
// good loses messages, and does not slow down those who publish. It is called without locks
// and may block for QueueWaitMax, after a call of waiting.
func (who *Client) AwaitRoom(topic string, qos byte, waiting func()) {
	sp := who.space
	if qos == 0 || sp.pressed.Load() == 0 || !who.Granted().Messaging {
		return
	}
	h := sp.lend()
	sp.mu.RLock()
	sp.tree.Match(topic, &h.matches)
	sp.mu.RUnlock()
	var full map[*session]pressure
	look := func(sub *subscription) {
		s := sub.session
		if sub.qos == 0 || s == who.Session { // who waits for itself waits in vain
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
		if members := sp.membersOf(g); len(members) == 1 { // else another one takes it
			look(members[0])
		}
	}
	sp.giveBack(h)
	if len(full) == 0 {
		return
	}
	who.sessions.count.waited.Add(1)
	waiting()
	for s, p := range full {
		timeout := time.NewTimer(time.Until(p.since.Add(who.sessions.cfg.QueueWaitMax)))
		select {
		case <-p.room:
		case <-timeout.C:
			s.giveUpWaiting(p.room)
		case <-who.sessions.ctx.Done():
		}
		timeout.Stop()
	}
}
