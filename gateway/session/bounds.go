package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// overLocked returns the limit that the session's queue has reached, if any.
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

// aboveShareLocked says whether the session holds at least an equal share of QueueTotalBytes,
// divided among the sessions that hold anything. Sessions below their share have room whatever the
// others hold, so the sum stays below twice QueueTotalBytes.
func (s *session) aboveShareLocked() bool {
	own := s.outbox.bytes + s.outbox.reservedBytes + s.outbox.flying
	return own > 0 && int64(own) >= int64(s.server.cfg.QueueTotalBytes)/max(1, s.space.holders.Load())
}

// crowdedLocked says whether the queue is half full. Messages of QoS 0 leave the other half to those
// of QoS 1 and 2.
func (s *session) crowdedLocked() bool {
	cfg, o := &s.server.cfg, &s.outbox
	return 2*(o.waiting+o.reserved) >= cfg.QueueMessages || 2*(o.bytes+o.reservedBytes) >= cfg.QueueBytes
}

// slack is how many bytes of a session its space may fail to count. A client that takes its messages
// as they come never changes the shared count.
const slack = 1024

// accountLocked updates what the space counts of the session.
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

// closeIfStuckLocked disconnects a client whose queue has been full for too long.
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

// takesSubscriptions says whether the application may have another subscription.
func (sp *space) takesSubscriptions() bool {
	sp.mu.RLock()
	defer sp.mu.RUnlock()
	return sp.tree.Len() < sp.server.cfg.MaxSubscriptionsPerApplication
}
