package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// wanted is one filter of a SUBSCRIBE that was granted.
type wanted struct {
	index    int // among the filters of the packet
	filter   string
	qos      byte
	noLocal  bool
	asIs     bool // Retain As Published
	handling byte // of retained messages, section 3.8.3.1
	byPlugin bool // a plugin granted it
	ids      []uint32
	log      *logSubscription // of a log: a member of its group by now; nil: of topics
}

// subscriber is who asked for subscriptions. Its methods are called under the lock of the
// session and do not block.
type subscriber interface {
	// Decide says whether the filter is still to be put into force.
	Decide(filter string) bool
	// Refuse takes a filter back that had been granted.
	Refuse(index int, code stage.Code, reason string)
	// Answer is called when all that is in force is durable, if the connection is still
	// there, before anything that comes of the subscriptions is sent.
	Answer()
	// Over is called when everything is decided, also where the connection is gone.
	Over()
}

// subscribe puts granted filters into force, and has the subscriber answer once they are
// durable if the session is. Then retained messages and records follow.
func (s *session) subscribe(c Link, list []wanted, by subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer by.Over()
	if s.link != c || s.ended {
		return // the client never saw a SUBACK; its subscriptions to logs left with the connection
	}
	replays := make([][]item, 0, len(list))
	granted := false
	for i := range list {
		w := &list[i]
		if w.log == nil && by.Decide(w.filter) {
			replay, ok := s.enforce(w, by)
			granted = granted || ok
			replays = append(replays, s.admit(replay, time.Now()))
			continue
		}
		granted = true
	}
	if !s.keeps.Load() || !granted {
		s.subscribed(c, list, replays, by)
		return
	}
	s.recordSubscriptions()
	s.server.journal.commit(func(err error) {
		if err != nil {
			c.Close(packet.CodeServerBusy, "the session cannot be stored")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subscribed(c, list, replays, by)
	})
}

// subscribed has the subscriber answered, then sends retained messages and records. The
// caller holds the lock.
func (s *session) subscribed(c Link, list []wanted, replays [][]item, by subscriber) {
	if s.link == c {
		by.Answer()
		defer func() { // together with what follows at once
			c.Lock()
			c.Wake()
			c.Unlock()
		}()
	}
	for i := range replays {
		s.replay(replays[i])
	}
	for i := range list {
		if r := list[i].log; r != nil && !r.left {
			r.start()
		}
	}
}

// enforce puts one granted filter into force, and returns the retained
// messages that it is to get. The caller holds the lock.
func (s *session) enforce(w *wanted, by subscriber) (replay []item, ok bool) {
	if !w.byPlugin && !s.from.maySubscribe(w.filter) { // a right that went while a plugin was asked
		by.Refuse(w.index, stage.NotAuthorized, "no right to subscribe to this filter")
		return nil, false
	}
	old := s.subs[w.filter]
	switch {
	case old != nil:
	case len(s.subs)+len(s.logSubs) >= s.terms.Subscriptions:
		s.server.reached(limitSubscriptions)
		by.Refuse(w.index, stage.QuotaExceeded, "the session has too many subscriptions")
		return nil, false
	case !s.space.takesSubscriptions():
		s.server.reached(limitSubscriptionsOfApplication)
		by.Refuse(w.index, stage.QuotaExceeded, "the application has too many subscriptions")
		return nil, false
	}
	group, filter, _ := packet.SplitShare(w.filter)
	sub := &subscription{session: s, filter: filter, group: group, qos: w.qos, noLocal: w.noLocal,
		asIs: w.asIs, byPlugin: w.byPlugin, ids: w.ids}
	if s.subs == nil {
		s.subs = make(map[string]*subscription)
	}
	s.subs[w.filter] = sub
	for _, m := range s.space.subscribe(sub, w.handling, time.Now()) {
		replay = append(replay, item{m: m, qos: min(m.qos, sub.qos), retain: true, ids: sub.ids})
	}
	return replay, true
}

// admit takes places for retained messages, and notes their entries where the store
// has the session. They are the space's own, so a full queue takes those of one filter
// while it was not full before; those of the next filters have no room then, of this
// SUBSCRIBE or of others whose SUBACK is not yet durable. The caller holds the lock.
func (s *session) admit(items []item, now time.Time) []item {
	if len(items) == 0 {
		return nil
	}
	if s.full(now) {
		s.server.count.dropped[dropQueue].Add(uint64(len(items)))
		return nil
	}
	for i := range items {
		it := &items[i]
		if it.qos > 0 && s.keeps.Load() {
			s.keep(it)
		}
		s.outbox.reserved++
		s.outbox.reservedBytes += it.m.size()
	}
	return items
}

// replay delivers retained messages [MQTT-3.3.1-8]. The caller holds the lock.
func (s *session) replay(items []item) {
	for i := range items {
		it := items[i]
		s.outbox.unreserve(it.m.size())
		switch {
		case s.ended && it.seq == 0:
			s.gone()
		case s.ended:
			s.discard(&it)
		case it.qos > 0:
			s.enqueue(it)
		case s.link != nil:
			s.outbox.push(it)
		}
	}
	if len(items) > 0 && !s.ended {
		s.pump(time.Now())
	}
}

// unsubscribe puts filters out of force. existed is called for each, under the lock, with
// whether it was. It is false, and nothing happened, if the connection has the session no
// more; now says that the answer may leave at once, else durable is called.
func (s *session) unsubscribe(c Link, filters []string, existed func(i int, filter string, did bool), durable func(error)) (current, now bool) {
	var gone []*logSubscription
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
			gone = append(gone, s.remove(r))
			did = true
		}
		existed(i, filter, did)
		changed = changed || did
	}
	if !s.keeps.Load() || !changed {
		return true, true
	}
	s.recordSubscriptions()
	s.server.journal.commit(durable)
	return true, false
}
