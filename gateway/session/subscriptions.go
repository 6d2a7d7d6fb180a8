package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// Wanted is one filter of a SUBSCRIBE that was granted.
type Wanted struct {
	Index    int // among the filters of the packet
	Filter   string
	QoS      byte
	NoLocal  bool
	AsIs     bool // Retain As Published
	Handling byte // of retained messages, section 3.8.3.1
	ByPlugin bool // a plugin granted it
	IDs      []uint32
	Log      *LogSubscription // of a log: a member of its group by now; nil: of topics
}

// subscriber is who asked for subscriptions. Its methods are called under the lock of the
// session and do not block.
type subscriber interface {
	// Decide says whether the filter is still to be put into force.
	Decide(filter string) bool
	// Refuse takes a filter back that had been granted.
	Refuse(index int, code event.Code, reason string)
	// Answer is called when all that is in force is durable, if the connection is still
	// there, before anything that comes of the subscriptions is sent.
	Answer()
	// Over is called when everything is decided, also where the connection is gone.
	Over()
}

// Subscribe puts granted filters into force, and has the subscriber answer once they are
// durable if the session is. Then retained messages and records follow.
func (s *session) Subscribe(c Link, list []Wanted, by subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer by.Over()
	if s.link != c {
		return // the client never saw a SUBACK; its subscriptions to logs left with the connection
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
		if err != nil { // whoever comes next goes on
			begin(replays)
			return
		}
		s.answerSubscribeLocked(c, list, replays, by)
	})
}

// answerSubscribeLocked has the subscriber answered, then sends retained messages and records. The
// caller holds the lock.
func (s *session) answerSubscribeLocked(c Link, list []Wanted, replays []*replay, by subscriber) {
	if s.link == c {
		by.Answer()
		defer func() { // together with what follows at once
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

// begin lets retained messages go.
func begin(replays []*replay) {
	for _, r := range replays {
		r.ready = true
	}
}

// subscribeLocked puts one granted filter into force, and returns the replay of the retained
// messages that it is to get, if there are any. The caller holds the lock.
func (s *session) subscribeLocked(w *Wanted, by subscriber) (r *replay, ok bool) {
	if !w.ByPlugin && !s.from.MaySubscribe(w.Filter) { // a right that went while a plugin was asked
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

// Unsubscribe puts filters out of force. existed is called for each, under the lock, with
// whether it was. It is false, and nothing happened, if the connection has the session no
// more; now says that the answer may leave at once, else durable is called.
func (s *session) Unsubscribe(c Link, filters []string, existed func(i int, filter string, did bool), durable func(error)) (current,
	now bool) {
	var gone []*LogSubscription
	defer func() { leaveAll(gone) }() // without the lock
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
