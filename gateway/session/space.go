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
	storedSessions atomic.Int64 // stored sessions; without any, no message has to be prepared

	sessions int          // Sessions.mu guards it
	queued   atomic.Int64 // bytes that wait or fly in its sessions, nearly
	holders  atomic.Int64 // sessions that queued counts anything of
	pressed  atomic.Int64 // sessions whose queue is nearly full, see pressure

	mu       sync.RWMutex
	tree     subscriptionTree
	retained retained
}

// hits is the receivers of one message.
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

// publish sends a message to whoever subscribed to its topic, and retains it if
// it asks for that and the limits allow. booked is what was prepared for it. It
// returns the best that happened to it and whether anybody had subscribed. It is
// called without locks.
func (sp *space) publish(m *Message, booked *reservations, now time.Time) (f Fanout) {
	h := sp.lend()
	defer sp.giveBack(h)
	var keep *Message
	if m.retain {
		keep = m
	}
	sp.collect(m.Topic, m.QoS, keep, h, booked, now)
	f = Fanout{Matched: !h.none(), Best: sp.fanOut(m, h, booked, now)}
	f.Lost = booked.lostCount()
	return f
}

// publishPacket does the same for a PUBLISH that needs no commit. It makes a
// message of it only if somebody wants it, so that a publish that nobody reads
// costs no copy. late is that of bookings.
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

// collect finds the receivers and, in the same step, retains a message if there
// is one to keep, so that a subscriber of this very moment gets it once.
func (sp *space) collect(topic string, qos byte, keep *Message, h *hits, booked *reservations, now time.Time) (kept bool) {
	kept = true
	if keep != nil {
		sp.mu.Lock()
		defer sp.mu.Unlock()
		kept = sp.retainLocked(keep, now)
	} else {
		sp.mu.RLock()
		defer sp.mu.RUnlock()
	}
	sp.matchLocked(topic, qos, h, booked)
	return kept
}

// matchLocked finds the receivers: of shared groups those that are booked, or else the
// next in turn. The caller holds mu.
func (sp *space) matchLocked(topic string, qos byte, h *hits, booked *reservations) {
	if sp.tree.Len() == 0 {
		return
	}
	sp.tree.Match(topic, &h.matches)
	for _, g := range h.Shares {
		sub := booked.picked(g)
		if sub == nil {
			sub = choose(g, qos)
		}
		if sub != nil {
			h.picked = append(h.picked, pick{sub, g})
		}
	}
}

// stores says whether a stored session waits for the message.
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

// retainLocked stores a retained message, if need be in the place of expired ones. The
// caller holds mu.
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
	if j := sp.server.journal; j != nil { // others used up the room since it was prepared
		j.delete(retainedKey(sp.name, m.Topic))
	}
	return false
}

// fanOut delivers a message to its receivers, and settles what was booked.
func (sp *space) fanOut(m *Message, h *hits, booked *reservations, now time.Time) (best stage.Delivery) {
	h.each(m, func(s *session, it Item) {
		booked.use(s, &it)
		d, lost := s.deliver(it, now)
		booked.countLost(lost)
		booked.noteDelivered(s, &it, d)
		best = max(best, d)
	})
	for _, p := range h.picked {
		best = max(best, sp.handOut(m, p.sub, booked, now))
	}
	booked.finish()
	return best
}

// item is what a message looks like to a subscription.
func (sub *subscription) item(m *Message) Item {
	it := Item{Message: m, QoS: min(m.QoS, sub.qos), Retain: m.retain && sub.asIs, IDs: sub.ids}
	if sub.group != "" {
		it.shared = sub
	}
	return it
}

// handOut delivers a message to one member of a shared subscription; where that
// one has ended since it was picked, or is full, to one of the next in turn.
func (sp *space) handOut(m *Message, sub *subscription, booked *reservations, now time.Time) (d stage.Delivery) {
	for range 4 {
		if d = sub.session.takeShared(sub.item(m), booked, now); d != stage.NoDevice {
			return d
		}
		if sub = sp.another(sub, m.QoS); sub == nil {
			return d
		}
	}
	return d
}

// takeShared delivers an item that another member may get instead: then what was booked
// for this one is taken back after that.
func (s *session) takeShared(it Item, booked *reservations, now time.Time) (d stage.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == sessionEnded || s.link == nil && (it.QoS == 0 || !s.persistentLocked()) {
		return stage.NoDevice
	}
	booked.use(s, &it)
	d, lost := s.deliverLocked(it, now)
	booked.countLost(lost)
	booked.noteDelivered(s, &it, d)
	return d
}

// each calls fn for the sessions that subscribed to the message, with one copy
// for each, of the greatest QoS and with all the identifiers of its matching
// subscriptions [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4].
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

// sentBy says whether a message is of the session's own client: of the one with its
// identifier, who may have had another session when it sent the message.
func (s *session) sentBy(m *Message) bool {
	return m.from != nil && m.from.Session != nil && m.from.Session.key == s.key
}

// merge adds what one more matching subscription wants.
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

// subscribe adds a subscription and returns the retained messages that it is to
// get now [MQTT-3.8.4-4], section 3.8.3.1. The caller holds the session's lock.
func (sp *space) subscribe(sub *subscription, handling byte, now time.Time) (replay []*Message) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	_, replaced := sp.tree.Put(sub.filter, sub.group, sub)
	if sub.group != "" || handling == 2 || handling == 1 && replaced {
		return nil
	}
	return sp.retained.match(sub.filter, now)
}

// retainedFor returns the retained messages of a filter.
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

// another finds a member of the same shared subscription to take over a message
// that its receiver will never acknowledge.
func (sp *space) another(gone *subscription, qos byte) *subscription {
	sp.mu.RLock()
	defer sp.mu.RUnlock()
	if g := sp.tree.Share(gone.filter, gone.group); g != nil {
		return choose(g, qos)
	}
	return nil
}

// matchLocked merges the subscriptions of a session that match a topic, shared ones
// included: what a message addressed to this session alone is to look like. The
// caller holds the session's lock.
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
