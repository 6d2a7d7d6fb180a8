package session

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/topic"
)

// space is the topic space of one application.
type space struct {
	server         *Sessions
	name           string
	storedSessions atomic.Int64 // if there is none, no message has to be prepared

	sessions int          // Sessions.mu guards it
	queued   atomic.Int64 // about how many bytes wait or fly in its sessions
	holders  atomic.Int64 // sessions that are counted in queued
	pressed  atomic.Int64 // sessions whose queue is nearly full, see pressure

	mu       sync.RWMutex
	tree     subscriptionTree
	retained retained
}

// hits are the receivers of a message.
type hits struct {
	matches
	picked []pick // one member of each shared group
}

// pick is the member of a shared group that gets a message.
type pick struct {
	sub   *subscription
	group *group
}

func (h *hits) none() bool { return len(h.Subscriptions) == 0 && len(h.picked) == 0 }

func (sp *space) lend() *hits { return sp.server.hits.Get().(*hits) }

func (sp *space) giveBack(h *hits) {
	clear(h.Subscriptions)
	clear(h.Shares)
	clear(h.picked)
	*h = hits{matches{Subscriptions: h.Subscriptions[:0], Shares: h.Shares[:0]}, h.picked[:0]}
	sp.server.hits.Put(h)
}

// publish sends a message to the subscribers of its topic. It retains the message if the message
// asks for that and the limits allow it. reserved is what was reserved for it. The caller holds no
// lock.
func (sp *space) publish(m *Message, reserved *reservations, now time.Time) (f Fanout) {
	h := sp.lend()
	defer sp.giveBack(h)
	var keep *Message
	if m.retain {
		keep = m
	}
	sp.collect(m.Topic, m.QoS, keep, h, reserved, now)
	f = Fanout{Matched: !h.none(), Best: sp.fanOut(m, h, reserved, now)}
	f.Lost = reserved.lostCount()
	return f
}

// publishPacket publishes a PUBLISH that needs no commit. It copies the PUBLISH only if there is a
// receiver. late says that a stored session got the message and that its entry is not durable yet.
func (sp *space) publishPacket(p *packet.Publish, from *Client, now time.Time) (f Fanout, late bool) {
	h := sp.lend()
	defer sp.giveBack(h)
	var m *Message
	if p.Retain {
		m = NewMessage(p, now, from)
	}
	var none reservations
	f.Unretained = !sp.collect(p.Topic, p.QoS, m, h, &none, now)
	if h.none() {
		return f, false
	}
	if m == nil {
		m = NewMessage(p, now, from)
	}
	f.Matched = true
	f.Best = sp.fanOut(m, h, &none, now)
	f.Lost = none.lost
	return f, none.late
}

// collect finds the receivers, and retains keep unless it is nil. It does both under one lock, so
// that a client which subscribes at this moment gets the message once.
func (sp *space) collect(topic string, qos byte, keep *Message, h *hits, reserved *reservations, now time.Time) (kept bool) {
	kept = true
	if keep != nil {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		kept = sp.retainLocked(keep, now)
	} else {
		sp.mu.RLock()
		defer sp.mu.RUnlock()
	}
	sp.matchLocked(topic, qos, h, reserved)
	return kept
}

// matchLocked finds the receivers. Of a shared group it takes the reserved member, or else the next
// one.
func (sp *space) matchLocked(topic string, qos byte, h *hits, reserved *reservations) {
	if sp.tree.Len() == 0 {
		return
	}
	sp.tree.Match(topic, &h.matches)
	for _, g := range h.Shares {
		sub := reserved.picked(g)
		if sub == nil {
			sub = choose(g, qos)
		}
		if sub != nil {
			h.picked = append(h.picked, pick{sub, g})
		}
	}
}

// stores says whether a stored session gets the message.
func (sp *space) stores(topic string, qos byte) bool {
	if qos == 0 || sp.storedSessions.Load() == 0 {
		return false
	}
	h := sp.lend()
	defer sp.giveBack(h)
	sp.mu.RLock()
	sp.tree.Match(topic, &h.matches)
	sp.mu.RUnlock()
	stored := func(sub *subscription) bool { return sub.qos > 0 && sub.session.stored.Load() }
	return slices.ContainsFunc(h.Subscriptions, stored) ||
		slices.ContainsFunc(h.Shares, func(g *group) bool { return slices.ContainsFunc(g.Members(), stored) })
}

// subscribed says whether anybody subscribed to a message's topic.
func (sp *space) subscribed(m *Message) bool {
	h := sp.lend()
	defer sp.giveBack(h)
	sp.mu.RLock()
	defer sp.mu.RUnlock()
	sp.tree.Match(m.Topic, &h.matches)
	return len(h.Subscriptions)+len(h.Shares) > 0
}

// retainable says whether the limits allow to retain a message.
func (sp *space) retainable(m *Message, now time.Time) bool {
	cfg := &sp.server.cfg
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if !sp.retained.room(m, cfg.MaxRetained, cfg.MaxRetainedBytes) {
		sp.retained.purge(now)
		if !sp.retained.room(m, cfg.MaxRetained, cfg.MaxRetainedBytes) {
			sp.server.count.retainedRefused.Add(1)
			sp.server.reached(limitRetained)
			return false
		}
	}
	return true
}

// retainLocked retains a message, if necessary in place of expired ones.
func (sp *space) retainLocked(m *Message, now time.Time) bool {
	cfg := &sp.server.cfg
	if sp.retained.set(m, cfg.MaxRetained, cfg.MaxRetainedBytes) {
		return true
	}
	sp.retained.purge(now)
	if sp.retained.set(m, cfg.MaxRetained, cfg.MaxRetainedBytes) {
		return true
	}
	sp.server.count.retainedRefused.Add(1)
	sp.server.reached(limitRetained)
	if j := sp.server.journal; j != nil { // others have used up the room since it was prepared
		j.delete(retainedKey(sp.name, m.Topic))
	}
	return false
}

// fanOut delivers a message to its receivers, and finishes the reservations.
func (sp *space) fanOut(m *Message, h *hits, reserved *reservations, now time.Time) (best stage.Delivery) {
	h.each(m, func(s *session, it Item) {
		reserved.use(s, &it)
		d, lost := s.deliver(it, now)
		reserved.countLost(lost)
		reserved.noteDelivered(s, &it, d)
		best = max(best, d)
	})
	for _, p := range h.picked {
		best = max(best, sp.handOut(m, p.sub, reserved, now))
	}
	reserved.finish()
	return best
}

// item returns a message as a subscription gets it.
func (sub *subscription) item(m *Message) Item {
	it := Item{Message: m, QoS: min(m.QoS, sub.qos), Retain: m.retain && sub.asIs, IDs: sub.ids}
	if sub.group != "" {
		it.shared = sub
	}
	return it
}

// handOut delivers a message to one member of a shared subscription. If that session has ended or is
// full, the next members get a try.
func (sp *space) handOut(m *Message, sub *subscription, reserved *reservations, now time.Time) (d stage.Delivery) {
	for range 4 {
		if d = sub.session.takeShared(sub.item(m), reserved, now); d != stage.NoDevice {
			return d
		}
		if sub = sp.another(sub, m.QoS); sub == nil {
			return d
		}
	}
	return d
}

// takeShared delivers an item that another member may get instead. If this member does not take it,
// finish deletes what was reserved.
func (s *session) takeShared(it Item, reserved *reservations, now time.Time) (d stage.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == sessionEnded || s.link == nil && (it.QoS == 0 || !s.persistentLocked()) {
		return stage.NoDevice
	}
	reserved.use(s, &it)
	d, lost := s.deliverLocked(it, now)
	reserved.countLost(lost)
	reserved.noteDelivered(s, &it, d)
	return d
}

// each calls fn for every session that subscribed. Each session gets one copy, with the greatest QoS
// and all identifiers of its matching subscriptions [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4].
func (h *hits) each(m *Message, fn func(s *session, it Item)) {
	if h.Filters > 1 {
		slices.SortStableFunc(h.Subscriptions, func(a, b *subscription) int { return cmp.Compare(a.session.number, b.session.number) })
	}
	for i := 0; i < len(h.Subscriptions); {
		sub := h.Subscriptions[i]
		it := Item{Message: m}
		wanted := false
		for ; i < len(h.Subscriptions) && h.Subscriptions[i].session == sub.session; i++ {
			if s := h.Subscriptions[i]; !s.noLocal || !s.session.sentBy(m) { // [MQTT-3.8.3-3]
				wanted = true
				it.merge(s)
			}
		}
		if wanted {
			it.QoS = min(it.QoS, m.QoS)
			it.Retain = it.Retain && m.retain
			fn(sub.session, it)
		}
	}
}

// sentBy says whether the session's client sent a message. The client is the same if its identifier
// is, even if it had another session then.
func (s *session) sentBy(m *Message) bool {
	return m.sender != nil && m.sender.Session != nil && m.sender.Session.key == s.key
}

// merge adds what another matching subscription asks for.
func (it *Item) merge(s *subscription) {
	it.QoS = max(it.QoS, s.qos)
	it.Retain = it.Retain || s.asIs
	switch {
	case len(s.ids) == 0:
	case len(it.IDs) == 0:
		it.IDs = s.ids
	default:
		it.IDs = append(slices.Clone(it.IDs), s.ids...)
	}
}

// subscribe adds a subscription, and returns the retained messages that it gets [MQTT-3.8.4-4],
// section 3.8.3.1. The session's mu is held.
func (sp *space) subscribe(sub *subscription, handling byte, now time.Time) (replay []*Message) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	_, replaced := sp.tree.Put(sub.filter, sub.group, sub)
	if sub.group != "" || handling == 2 || handling == 1 && replaced {
		return nil
	}
	return sp.retained.match(sub.filter, now)
}

// retainedFor returns the retained messages that a subscription matches.
func (sp *space) retainedFor(sub *subscription, now time.Time) []*Message {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.retained.match(sub.filter, now)
}

func (sp *space) unsubscribe(sub *subscription) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.tree.Delete(sub.filter, sub.group, sub)
}

// another returns a member of the same shared subscription for a message that the first receiver
// will not acknowledge, or nil.
func (sp *space) another(gone *subscription, qos byte) *subscription {
	sp.mu.RLock()
	defer sp.mu.RUnlock()
	if g := sp.tree.Share(gone.filter, gone.group); g != nil {
		return choose(g, qos)
	}
	return nil
}

// matchLocked merges the session's subscriptions that match a topic, with shared ones: they say how
// a message to this session alone looks.
func (s *session) matchLocked(m *Message) (it Item, ok bool) {
	it.Message = m
	for _, sub := range s.subs {
		if topic.Match(sub.filter, m.Topic) {
			it.merge(sub)
			ok = true
		}
	}
	it.QoS = min(it.QoS, m.QoS)
	it.Retain = it.Retain && m.retain
	return it, ok
}
