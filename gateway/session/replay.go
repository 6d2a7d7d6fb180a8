package session

import (
	"maps"
	"slices"
	"time"
	"weak"
)

// replay is the retained messages that a new subscription is to get [MQTT-3.8.4-4]. It
// stands in the session's queue like one item: what was there before goes out before it,
// and what comes later after it, so that no older value of a topic follows a newer one
// [MQTT-4.6.0-6]. It does not count against the bounds of the queue, since the messages are
// the space's own: it only refers to them, and lets go of those that were replaced
// meanwhile. The new value of such a topic stands behind it in the queue.
type replay struct {
	filter string        // by which the session has the subscription
	sub    *subscription // nothing more is sent once the session has another by that filter
	list   []weak.Pointer[Message]
	ready  bool // the SUBACK went
}

// startReplayLocked starts the replay of retained messages for a subscription. Messages that a
// session is still to get are bounded: those of a filter beyond that are dropped and counted.
// The caller holds the session's lock.
func (s *session) startReplayLocked(filter string, sub *subscription, retained []*Message) *replay {
	if len(retained) == 0 {
		return nil
	}
	pending := 0
	for _, r := range s.replays {
		pending += len(r.list)
	}
	if most := 2 * s.server.cfg.MaxRetained; pending+len(retained) > most {
		s.server.reached(limitQueue)
		s.server.count.dropped[dropQueue].Add(uint64(len(retained)))
		return nil
	}
	r := &replay{filter: filter, sub: sub, list: make([]weak.Pointer[Message], len(retained))}
	for i, m := range retained {
		r.list[i] = weak.Make(m)
	}
	if s.replays == nil {
		s.replays = make(map[string]*replay)
	}
	s.replays[filter] = r
	s.outbox.push(Item{replay: r})
	return r
}

// nextOfReplayLocked is the item that a replay sends next; false if it is over.
func (s *session) nextOfReplayLocked(r *replay, now time.Time) (it Item, more bool) {
	if s.subs[r.filter] != r.sub {
		r.list = nil
	}
	for len(r.list) > 0 {
		if m := r.list[0].Value(); m != nil && !m.expired(now) {
			return Item{Message: m, QoS: min(m.QoS, r.sub.qos), Retain: true, IDs: r.sub.ids}, true
		}
		r.list = r.list[1:]
	}
	return it, false
}

// endReplayLocked ends a replay that is at the head of the queue. The caller holds the lock.
func (s *session) endReplayLocked(r *replay) {
	s.outbox.pop()
	if s.replays[r.filter] != r {
		return
	}
	delete(s.replays, r.filter)
	if s.stored.Load() {
		s.recordSubscriptionsLocked()
	}
}

// resumeReplaysLocked has the replays that a start found unfinished begin anew: with what is retained
// now, behind what waited for the session. The caller holds the lock.
func (s *session) resumeReplaysLocked(now time.Time) {
	unfinished := slices.Collect(maps.Keys(s.replays))
	s.replays = nil
	for _, filter := range unfinished {
		sub := s.subs[filter]
		if sub == nil {
			continue
		}
		if r := s.startReplayLocked(filter, sub, s.space.retainedFor(sub, now)); r != nil {
			r.ready = true
		}
	}
}
