package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// overLocked says which bound the queue of a session has reached. The caller holds the lock.
func (s *session) overLocked() sessionLimit {
	cfg, o := &s.server.cfg, &s.outbox
	switch {
	case o.waiting+o.reserved >= cfg.QueueMessages, o.bytes+o.reservedBytes >= cfg.QueueBytes:
		return limitQueue
	case s.space.queued.Load() >= int64(cfg.QueueTotalBytes) && s.aboveShareLocked():
		return limitQueueTotal
	}
	return limitNone
}

// aboveShareLocked says whether the session holds as much as each could that holds anything, if
// all held the same: who holds less is not short of room because of others. The sum of
// all is thereby below twice its bound. The caller holds the lock.
func (s *session) aboveShareLocked() bool {
	own := s.outbox.bytes + s.outbox.reservedBytes + s.outbox.flying
	return own > 0 && int64(own) >= int64(s.server.cfg.QueueTotalBytes)/max(1, s.space.holders.Load())
}

// crowdedLocked says whether the queue is half full: then messages of QoS 0 leave the rest of it
// to the others. The caller holds the lock.
func (s *session) crowdedLocked() bool {
	cfg, o := &s.server.cfg, &s.outbox
	return 2*(o.waiting+o.reserved) >= cfg.QueueMessages || 2*(o.bytes+o.reservedBytes) >= cfg.QueueBytes
}

// slack is by how much the count of a space may be off for each session: a client
// that takes its messages as they come changes nothing that others share.
const slack = 1024

// accountLocked tells the space what the session has by now. The caller holds the lock.
func (s *session) accountLocked() {
	n := s.outbox.bytes + s.outbox.reservedBytes + s.outbox.flying
	if d := n - s.counted; d >= slack || d <= -slack || n == 0 && d != 0 {
		if was := s.counted > 0; was != (n > 0) {
			if was {
				s.space.holders.Add(-1)
			} else {
				s.space.holders.Add(1)
			}
		}
		s.counted = n
		s.space.queued.Add(int64(d))
	}
}

// closeIfStuckLocked disconnects a client whose queue is full for too long. The caller holds
// the lock.
func (s *session) closeIfStuckLocked(now time.Time) {
	c := s.link
	if c == nil {
		return
	}
	switch most := s.terms.SlowTimeout; {
	case most == 0:
	case s.stuck.IsZero():
		s.stuck = now
	case now.Sub(s.stuck) >= most:
		s.stuck = time.Time{}
		s.server.reached(limitSlowConsumer)
		c.Close(packet.CodeQuotaExceeded, "messages come faster than the client takes them")
	}
}

// takesSubscriptions says whether the application may have one more.
func (sp *space) takesSubscriptions() bool {
	sp.mu.RLock()
	defer sp.mu.RUnlock()
	return sp.tree.Len() < sp.server.cfg.MaxSubscriptionsPerApplication
}
