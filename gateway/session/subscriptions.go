package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// Wanted is one filter of a SUBSCRIBE that was granted.
type Wanted struct {
	Index    int // index of the filter in the packet
	Filter   string
	QoS      byte
	NoLocal  bool
	AsIs     bool // Retain As Published
	Handling byte // Retain Handling, section 3.8.3.1
	ByPlugin bool // a plugin granted it
	IDs      []uint32
	Log      *LogSubscription // the log, whose group it has joined; nil if the filter is not of a log
}

// subscriber is a SUBSCRIBE that has to be answered. Its methods are called with the session's mu
// locked, and do not block.
type subscriber interface {
	// Decide says whether the filter still takes effect.
	Decide(filter string) bool
	// Refuse refuses a filter that was granted before.
	Refuse(index int, code event.Code, reason string)
	// Answer sends the answer. It is called when the subscriptions are durable, before anything that
	// follows from them is sent, and not if the connection has ended.
	Answer()
	// Over is called when every filter is decided, even if the connection has ended.
	Over()
}

// Subscribe makes the granted subscriptions. When they are durable, if the session is stored, it
// answers the client and then sends retained messages and records.
func (s *session) Subscribe(c Link, list []Wanted, by subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer by.Over()
	if s.link != c {
		return // the client saw no SUBACK; its subscriptions to logs ended with the connection
	}
	var replays []*replay
	granted := false
	for i := range list {
		w := &list[i]
		if w.Log == nil && by.Decide(w.Filter) {
			r, ok := s.subscribeLocked(w, by)
			granted = granted || ok
			if r != nil {
				replays = append(replays, r)
			}
			continue
		}
		granted = true
	}
	if !s.stored.Load() || !granted {
		s.answerSubscribeLocked(c, list, replays, by)
		return
	}
	s.recordSubscriptionsLocked()
	s.server.journal.commit(func(err error) {
		if err != nil {
			c.Close(packet.CodeServerBusy, "the session cannot be stored")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil { // the client subscribes again on its next connection
			begin(replays)
			return
		}
		s.answerSubscribeLocked(c, list, replays, by)
	})
}

// answerSubscribeLocked answers the client, then sends retained messages and records.
func (s *session) answerSubscribeLocked(c Link, list []Wanted, replays []*replay, by subscriber) {
	if s.link == c {
		by.Answer()
		defer func() { // what follows leaves together with the answer
			c.Lock()
			c.Wake()
			c.Unlock()
		}()
	}
	if begin(replays); len(replays) > 0 && s.state != sessionEnded {
		s.pumpLocked(time.Now())
	}
	for i := range list {
		if r := list[i].Log; r != nil && r.state != logLeft {
			r.startLocked()
		}
	}
}

// begin lets replays be sent.
func begin(replays []*replay) {
	for _, r := range replays {
		r.ready = true
	}
}

// subscribeLocked makes one subscription, and returns the replay of its retained messages, if there
// are any. ok is false if the filter is refused.
func (s *session) subscribeLocked(w *Wanted, by subscriber) (r *replay, ok bool) {
	if !w.ByPlugin && !s.client.MaySubscribe(w.Filter) { // the right went while a plugin was asked
		by.Refuse(w.Index, event.NotAuthorized, "no right to subscribe to this filter")
		return nil, false
	}
	old := s.subs[w.Filter]
	switch {
	case old != nil:
	case len(s.subs)+len(s.logSubs) >= s.terms.Subscriptions:
		s.server.reached(limitSubscriptions)
		by.Refuse(w.Index, event.QuotaExceeded, "the session has too many subscriptions")
		return nil, false
	case !s.space.takesSubscriptions():
		s.server.reached(limitSubscriptionsOfApplication)
		by.Refuse(w.Index, event.QuotaExceeded, "the application has too many subscriptions")
		return nil, false
	}
	group, filter, _ := topic.SplitShare(w.Filter)
	sub := &subscription{session: s, filter: filter, group: group, qos: w.QoS, noLocal: w.NoLocal,
		asIs: w.AsIs, byPlugin: w.ByPlugin, ids: w.IDs}
	if s.subs == nil {
		s.subs = make(map[string]*subscription)
	}
	s.subs[w.Filter] = sub
	return s.startReplayLocked(w.Filter, sub, s.space.subscribe(sub, w.Handling, time.Now())), true
}

// Unsubscribe ends subscriptions. It calls existed for each filter with mu locked; did says whether
// there was a subscription. current is false, and nothing happens, if the connection no longer has
// the session. If now is true, the answer may leave at once; otherwise durable is called.
func (s *session) Unsubscribe(c Link, filters []string, existed func(i int, filter string, did bool), durable func(error)) (current,
	now bool) {
	var gone []*LogSubscription
	defer func() { leaveAll(gone) }() // after unlocking
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c {
		return false, false
	}
	changed := false
	for i, filter := range filters {
		did := false
		if sub := s.subs[filter]; sub != nil {
			delete(s.subs, filter)
			s.space.unsubscribe(sub)
			did = true
		}
		if r := s.logSubs[filter]; r != nil {
			gone = append(gone, s.removeLogLocked(r))
			did = true
		}
		existed(i, filter, did)
		changed = changed || did
	}
	if !s.stored.Load() || !changed {
		return true, true
	}
	s.recordSubscriptionsLocked()
	s.server.journal.commit(durable)
	return true, false
}
