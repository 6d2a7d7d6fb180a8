package session

import (
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
)

// bodyShared is from how many bytes on a message that several stored sessions
// wait for is stored once, apart from their entries.
const bodyShared = 512

// bookings is what was decided about a message before its commit: for whom the
// store gets an entry, and whom of each shared group it goes to. After the commit
// the message is delivered, which uses up the entries of those who are still to
// have it; the others are taken back. A session that subscribed meanwhile gets
// the message, and an entry of its own. The zero value decides nothing.
type reservations struct {
	server  *Sessions
	entries []reservation
	next    int // where the next one is to be expected

	lost int // receivers whose queues had no room

	// late says that a receiver got its entry only after the commit: who was promised
	// something is told when the journal has written it.
	late bool
}

// claimed is one receiver. Its item has a number where the store has an entry.
type reservation struct {
	session *session
	group   *group // that it was picked for; nil: it subscribed itself
	item    Item
	used    bool
}

// prepare decides about a message, and adds its entries to the batch. It is
// called without locks.
func (d *reservations) prepare(sp *space, m *Message, b *store.Batch, now time.Time) {
	*d = reservations{server: sp.server}
	if sp.storedSessions.Load() == 0 {
		return
	}
	h := sp.lend()
	defer sp.giveBack(h)
	sp.mu.RLock()
	sp.matchLocked(m.Topic, m.QoS, h, nil)
	sp.mu.RUnlock()
	h.each(m, func(s *session, it Item) { d.reserve(s, nil, it, now) })
	for _, p := range h.picked {
		d.reserve(p.sub.session, p.group, p.sub.item(m), now)
	}
	d.write(m, b)
}

// reserve adds a receiver, with a place in its queue if the store has the session.
func (d *reservations) reserve(s *session, g *group, it Item, now time.Time) {
	x := reservation{session: s, group: g, item: it}
	if it.QoS > 0 && s.reserve(it.Message.size(), now) {
		x.item.seq = d.server.journal.next()
	} else if g == nil {
		return
	}
	d.entries = append(d.entries, x)
}

// reserve takes a place in the queue of a stored session.
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

// unreserve gives the place back, or has it taken.
func (o *outbox) unreserve(size int) {
	o.reserved--
	o.reservedBytes -= size
}

// write adds the entries to the batch, and, where several refer to it, the body.
func (d *reservations) write(m *Message, b *store.Batch) {
	n := 0
	for i := range d.entries {
		if d.entries[i].item.seq != 0 {
			n++
		}
	}
	var body uint64
	if n > 1 && m.size() >= bodyShared {
		body = d.server.journal.next()
		d.server.journal.refer(body, n)
		b.Puts = append(b.Puts, store.Put{Key: bodyKey(body), Value: m.append(nil)})
	}
	for i := range d.entries {
		x := &d.entries[i]
		if x.item.seq == 0 {
			continue
		}
		x.item.body = body
		b.Puts = append(b.Puts, store.Put{Key: queueKey('e', x.session.number, x.item.seq), Value: appendEntry(nil, &x.item)})
	}
}

// picked is the member of a shared group that was chosen before the commit.
func (d *reservations) picked(g *group) *subscription {
	if d == nil {
		return nil
	}
	for i := range d.entries {
		if d.entries[i].group == g {
			return d.entries[i].item.shared
		}
	}
	return nil
}

// use gives an item its place in the store, if the session has one for it.
func (d *reservations) use(s *session, it *Item) {
	if d == nil {
		return
	}
	for range d.entries {
		x := &d.entries[d.next]
		if d.next++; d.next == len(d.entries) {
			d.next = 0
		}
		if x.session == s && !x.used && x.item.seq != 0 && x.item.shared == it.shared {
			it.seq, it.body, x.used = x.item.seq, x.item.body, true
			return
		}
	}
}

// countLost counts a receiver that had no room.
func (d *reservations) countLost(lost bool) {
	if lost && d != nil {
		d.lost++
	}
}

// lostCount is how many receivers had no room.
func (d *reservations) lostCount() int {
	if d == nil {
		return 0
	}
	return d.lost
}

// noteDelivered notes that a session took an item, which it may have had to keep.
func (d *reservations) noteDelivered(s *session, it *Item, got stage.Delivery) {
	if it.seq == 0 && got != stage.NoDevice && (it.QoS > 0 || got == stage.Queued) && d != nil && s.stored.Load() {
		d.late = true
	}
}

// finish takes back the entries that nobody used after all.
func (d *reservations) finish() {
	for i := range d.entries {
		x := &d.entries[i]
		if x.used || x.item.seq == 0 {
			continue
		}
		x.session.mu.Lock()
		x.session.outbox.unreserve(x.item.Message.size())
		x.session.discardLocked(&x.item)
		x.session.mu.Unlock()
	}
	d.entries = nil
}

// release forgets what was prepared: its commit did not come about.
func (d *reservations) release() {
	for i := range d.entries {
		x := &d.entries[i]
		if x.item.seq == 0 {
			continue
		}
		x.session.mu.Lock()
		x.session.outbox.unreserve(x.item.Message.size())
		x.session.mu.Unlock()
		if x.item.body != 0 {
			d.server.journal.dropBody(x.item.body)
		}
	}
	d.entries = nil
}

// storeEntryLocked gets a message into the store that was not prepared. The caller holds mu.
func (s *session) storeEntryLocked(it *Item) {
	j := s.server.journal
	it.seq = j.next()
	j.create(queueKey('e', s.number, it.seq), appendEntry(nil, it))
}

// prepareRetained adds a retained message to the batch, or its deletion
// [MQTT-3.3.1-6]. It is false where the limits forbid it.
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
