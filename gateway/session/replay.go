package session

import (
	"maps"
	"slices"
	"time"
	"weak"
)

// replay is the retained messages that a new subscription gets [MQTT-3.8.4-4]. It stands in the
// session's queue like one item: earlier items go out before it and later ones after it, so that no
// older value of a topic follows a newer one [MQTT-4.6.0-6]. It does not count against the limits of
// the queue, because it only refers to messages that the space holds. A message that is replaced
// meanwhile is left out; its new value stands behind the replay in the queue.
type replay struct {
	filter string        // filter of the subscription, as the client wrote it
	sub    *subscription // the replay ends if the session gets another subscription with that filter
	list   []weak.Pointer[Message]
	ready  bool // SUBACK was sent
}

// startReplayLocked starts the replay of retained messages for a subscription. The messages in all
// replays of a session are bounded; a filter that exceeds the bound gets none, which is counted.
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

// nextOfReplayLocked returns the next item of a replay. more is false if the replay is over.
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

// endReplayLocked removes a replay from the head of the queue.
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

// resumeReplaysLocked starts replays again that a restart interrupted: with what is retained now,
// behind what waits for the session.
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
