package session

import (
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

// bodyShared is how many bytes a message must have at least to be stored once, apart from its
// entries, if several stored sessions get it.
const bodyShared = 512

// reservations are the receivers of a message that were chosen before its commit: the stored
// sessions that get an entry, and the member of each shared group. After the commit the message is
// delivered, which uses the entries of the sessions that still want it; the other entries are
// deleted. A session that has subscribed meanwhile also gets the message, with an entry of its own.
// The zero value reserves nothing.
type reservations struct {
	server  *Sessions
	entries []reservation
	next    int // where use looks first

	lost int // receivers without room in their queues

	// late says that a receiver got its entry only after the commit. Acknowledgements then wait for
	// the journal.
	late bool
}

// reservation is one receiver. Its item has a number if the store has an entry.
type reservation struct {
	session *session
	group   *group // the group that it was picked from; nil: its own subscription
	item    Item
	used    bool
}

// prepare chooses the receivers of a message, and adds their entries to the batch. The caller holds
// no lock.
func (r *reservations) prepare(sp *space, m *Message, b *store.Batch, now time.Time) {
	*r = reservations{server: sp.server}
	if sp.storedSessions.Load() == 0 {
		return
	}
	h := sp.lend()
	defer sp.giveBack(h)
	sp.mu.RLock()
	sp.matchLocked(m.Topic, m.QoS, h, nil)
	sp.mu.RUnlock()
	h.each(m, func(s *session, it Item) { r.reserve(s, nil, it, now) })
	for _, p := range h.picked {
		r.reserve(p.sub.session, p.group, p.sub.item(m), now)
	}
	r.write(m, b)
}

// reserve adds a receiver. It reserves a place in the receiver's queue if the store has the session.
func (r *reservations) reserve(s *session, g *group, it Item, now time.Time) {
	x := reservation{session: s, group: g, item: it}
	if it.QoS > 0 && s.reserve(it.Message.size(), now) {
		x.item.seq = r.server.journal.next()
	} else if g == nil {
		return
	}
	r.entries = append(r.entries, x)
}

// reserve reserves a place in the queue of a stored session.
func (s *session) reserve(size int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stored.Load() || s.state == sessionEnded || s.fullLocked(now) {
		return false
	}
	s.outbox.reserved++
	s.outbox.reservedBytes += size
	s.accountLocked()
	s.pressLocked(now)
	return true
}

// unreserve gives a place back, or turns it into an item of the queue.
func (o *outbox) unreserve(size int) {
	o.reserved--
	o.reservedBytes -= size
}

// write adds the entries to the batch, and the body if several entries share it.
func (r *reservations) write(m *Message, b *store.Batch) {
	n := 0
	for i := range r.entries {
		if r.entries[i].item.seq != 0 {
			n++
		}
	}
	var body uint64
	if n > 1 && m.size() >= bodyShared {
		body = r.server.journal.next()
		r.server.journal.refer(body, n)
		b.Puts = append(b.Puts, store.Put{Key: bodyKey(body), Value: m.append(nil)})
	}
	for i := range r.entries {
		x := &r.entries[i]
		if x.item.seq == 0 {
			continue
		}
		x.item.body = body
		b.Puts = append(b.Puts, store.Put{Key: queueKey('e', x.session.number, x.item.seq), Value: appendEntry(nil, &x.item)})
	}
}

// picked returns the member of a shared group that was chosen before the commit.
func (r *reservations) picked(g *group) *subscription {
	if r == nil {
		return nil
	}
	for i := range r.entries {
		if r.entries[i].group == g {
			return r.entries[i].item.shared
		}
	}
	return nil
}

// use gives an item the entry that was reserved for it, if there is one.
func (r *reservations) use(s *session, it *Item) {
	if r == nil {
		return
	}
	for range r.entries {
		x := &r.entries[r.next]
		if r.next++; r.next == len(r.entries) {
			r.next = 0
		}
		if x.session == s && !x.used && x.item.seq != 0 && x.item.shared == it.shared {
			it.seq, it.body, x.used = x.item.seq, x.item.body, true
			return
		}
	}
}

// countLost counts a receiver without room.
func (r *reservations) countLost(lost bool) {
	if lost && r != nil {
		r.lost++
	}
}

// lostCount returns how many receivers had no room.
func (r *reservations) lostCount() int {
	if r == nil {
		return 0
	}
	return r.lost
}

// noteDelivered notes that a session took an item. The item is late if the session had to store it
// now.
func (r *reservations) noteDelivered(s *session, it *Item, got stage.Delivery) {
	if it.seq == 0 && got != stage.NoDevice && (it.QoS > 0 || got == stage.Queued) && r != nil && s.stored.Load() {
		r.late = true
	}
}

// finish deletes the entries that no session used.
func (r *reservations) finish() {
	for i := range r.entries {
		x := &r.entries[i]
		if x.used || x.item.seq == 0 {
			continue
		}
		x.session.mu.Lock()
		x.session.outbox.unreserve(x.item.Message.size())
		x.session.discardLocked(&x.item)
		x.session.mu.Unlock()
	}
	r.entries = nil
}

// release undoes prepare, because the commit failed.
func (r *reservations) release() {
	for i := range r.entries {
		x := &r.entries[i]
		if x.item.seq == 0 {
			continue
		}
		x.session.mu.Lock()
		x.session.outbox.unreserve(x.item.Message.size())
		x.session.mu.Unlock()
		if x.item.body != 0 {
			r.server.journal.dropBody(x.item.body)
		}
	}
	r.entries = nil
}

// storeEntryLocked notes the entry of a message that has none.
func (s *session) storeEntryLocked(it *Item) {
	j := s.server.journal
	it.seq = j.next()
	j.create(queueKey('e', s.number, it.seq), appendEntry(nil, it))
}

// prepareRetained adds a retained message to the batch, or its deletion [MQTT-3.3.1-6]. It returns
// false if the limits do not allow to retain the message.
func (sp *space) prepareRetained(m *Message, b *store.Batch, now time.Time) bool {
	if !sp.retainable(m, now) {
		return false
	}
	k := retainedKey(sp.name, m.Topic)
	if len(m.Payload) == 0 {
		b.Deletes = append(b.Deletes, k)
	} else {
		b.Puts = append(b.Puts, store.Put{Key: k, Value: m.appendRetained(nil), Expires: m.Expires})
	}
	return true
}
