package session

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// Forever is the session expiry of a session that never ends by itself.
const Forever = time.Duration(math.MaxInt64)

// sessionState is how far a session is. Its link is set while it is attaching or attached.
type sessionState uint8

const (
	sessionAway      sessionState = iota // nobody is connected
	sessionAttaching                     // a connection has the session, and awaits the store before its CONNACK
	sessionAttached                      // CONNACK went, so that messages may go to the client
	sessionEnded                         // nothing is left of the session but what others still refer to
)

type sessionKey struct{ namespace, clientID string }

// session is what the server keeps for a client id of a namespace, over its
// connections. A persistent one is in the store too.
type session struct {
	server    *Sessions
	key       sessionKey
	principal string

	application string // empty: none
	space       *space
	device      *device // nil unless the session is a device's
	number      uint64  // unique, in order of creation
	online      atomic.Bool
	stored      atomic.Bool  // the store has the session, and its messages of QoS 1 and 2; changes under mu
	behind      atomic.Int32 // messages of the client that no route takes and that await their commit

	mu    sync.Mutex
	link  Link      // the connection; nil unless the session is attaching or attached
	terms Terms     // of link
	from  *Client   // of link, or of the one before; nil: unknown
	since time.Time // of the connection, or of its end
	state sessionState

	expiry    time.Duration
	visits    int       // connections that it has had
	stuck     time.Time // since when the queue is full; zero: it is not
	pressure  pressure
	counted   int         // bytes of the outbox that its space counts
	timer     *time.Timer // ends the session
	will      *Will       // of the connection, or waiting for its delay
	willTimer *time.Timer
	subs      map[string]*subscription    // by the filter as it was given
	logSubs   map[string]*LogSubscription // same, subscriptions to logs
	replays   map[string]*replay          // same, of retained messages that the client is still to get
	outbox    outbox
	// incoming is the inbound QoS 2 messages by packet identifier: nil once
	// PUBREC went and until PUBREL comes, the waiting message before.
	incoming map[uint16]*Arrival
}

// persistentLocked says whether the session outlives its connection. The caller holds mu.
func (s *session) persistentLocked() bool { return s.expiry > 0 }

// persistent is persistent for those who do not hold mu.
func (s *session) persistent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.persistentLocked()
}

// deliver hands an item to the session and says what became of it, and whether it was lost
// because the session takes no more; one of QoS 0 may be lost at any time, so nobody is told.
// It is called without locks and never blocks.
func (s *session) deliver(it Item, now time.Time) (d stage.Delivery, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliverLocked(it, now)
}

// deliverLocked is deliver for those who hold mu.
func (s *session) deliverLocked(it Item, now time.Time) (d stage.Delivery, lost bool) {
	c := s.link
	admitted := it.seq != 0 // its commit was prepared, and with it its place
	if admitted {
		s.outbox.unreserve(it.Message.size())
	}
	idle := s.state == sessionAttached && s.outbox.empty() // else what waits goes out before [MQTT-4.6.0-6]
	switch {
	case s.state == sessionEnded || c == nil && (it.QoS == 0 || !s.persistentLocked()):
		s.discardLocked(&it)
		s.server.count.dropped[dropOffline].Add(1)
		return stage.NoDevice, false
	case it.QoS == 0 && idle:
		s.discardLocked(&it)
		if !c.PutNow(&it, now) {
			s.server.count.dropped[dropSlow].Add(1)
			return stage.NoDevice, false
		}
		return stage.Delivered, false
	case it.QoS == 0 && !s.awayLocked() && s.crowdedLocked():
		s.discardLocked(&it)
		s.server.count.dropped[dropSlow].Add(1)
		return stage.NoDevice, false
	case !admitted && s.fullLocked(now):
		s.server.count.dropped[dropQueue].Add(1)
		return stage.NoDevice, it.QoS > 0
	}
	it.prompt = idle
	s.enqueueLocked(it)
	if c == nil {
		return stage.Queued, false
	}
	s.pumpLocked(now)
	s.pressLocked(now)
	if idle && !s.outbox.empty() {
		s.outbox.peek().prompt = false // it had its chance
	}
	return stage.Delivered, false
}

// awayLocked says whether nobody has been told yet that the session is there, so that what comes
// for the client is queued. The caller holds mu.
func (s *session) awayLocked() bool { return s.state != sessionAttached }

// enqueueLocked appends to the queue: in memory for a client that is connected, on the
// shelf for one that is not. A message of a stored session that the store does
// not have yet gets there. The caller holds mu.
func (s *session) enqueueLocked(it Item) {
	defer s.accountLocked()
	if !s.stored.Load() || it.Message == nil || it.QoS == 0 && it.seq == 0 && !s.awayLocked() {
		s.outbox.push(it)
		return
	}
	if it.seq == 0 {
		s.storeEntryLocked(&it)
		s.server.journal.commit(nil)
	}
	if s.link == nil {
		s.outbox.putOnShelf(it.slot())
	} else {
		s.outbox.push(it)
	}
}

// fullLocked says whether the queue takes no more messages: the newest is dropped, so
// that what a client was promised first still comes in order.
func (s *session) fullLocked(now time.Time) bool {
	if s.overLocked() == limitNone {
		s.stuck = time.Time{}
		return false
	}
	for _, it := range s.outbox.purge(now) {
		s.server.count.dropped[dropExpired].Add(1)
		s.discardLocked(&it)
	}
	over := s.overLocked()
	if over == limitNone {
		return false
	}
	s.server.reached(over)
	s.closeIfStuckLocked(now)
	return true
}

// pumpLocked moves items from the outbox to the connection as far as its window and its
// write buffer allow. The caller holds mu.
func (s *session) pumpLocked(now time.Time) {
	if s.state == sessionAttached && !s.outbox.empty() {
		if held := s.fillLocked(s.link, now); len(held) > 0 {
			s.sendWhenStoredLocked(s.link, held)
		}
	}
	s.accountLocked()
	s.relieveLocked()
}

// Ready is called by a connection whose output takes messages again.
func (s *session) Ready(c Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == c {
		s.pumpLocked(time.Now())
	}
}

// fillLocked does what pump does, but for the flights that it returns: those have to be
// durable first.
func (s *session) fillLocked(c Link, now time.Time) (held []*flight) {
	o := &s.outbox
	c.Lock()
	defer c.Unlock()
	defer c.Wake()
	for !o.empty() {
		if !c.Room() {
			return held
		}
		if len(o.again) > 0 {
			if o.out >= s.terms.Window {
				return held
			}
			f := o.again[0]
			o.again = o.again[1:]
			f.state = flightSent
			o.out++
			s.resendLocked(c, f, now)
			continue
		}
		f, more := s.sendNextLocked(c, now)
		if f != nil {
			held = append(held, f)
		}
		if !more {
			return held
		}
	}
	return held
}

// sendNextLocked sends what is at the head of the queue, unless it has to wait: then it is false.
// The caller holds both locks.
func (s *session) sendNextLocked(c Link, now time.Time) (held *flight, more bool) {
	o := &s.outbox
	it := o.peek()
	r := it.replay
	if r != nil {
		if !r.ready {
			return nil, false
		}
		one, more := s.nextOfReplayLocked(r, now)
		if !more {
			s.endReplayLocked(r)
			return nil, true
		}
		it = &one
	}
	if it.QoS > 0 && (o.out >= s.terms.Window || o.flying >= s.server.cfg.QueueBytes) { // [MQTT-3.3.4-9]
		return nil, false
	}
	switch {
	case r != nil:
		r.list = r.list[1:]
		if it.QoS > 0 && s.stored.Load() {
			s.storeEntryLocked(it)
		}
		return s.sendItemLocked(c, *it, now), true
	case it.Message != nil && !it.prompt && it.Message.expired(now):
		s.server.count.dropped[dropExpired].Add(1)
		late := o.pop()
		s.discardLocked(&late)
		return nil, true
	}
	return s.sendItemLocked(c, o.pop(), now), true
}

// sendItemLocked puts one item out for the first time, or returns it as a flight that must
// not leave before it is durable. The caller holds both locks.
func (s *session) sendItemLocked(c Link, it Item, now time.Time) (held *flight) {
	if it.QoS == 0 { // a record, a retained message, or one for a device that was away
		if !c.Put(&it, 0, false, now) && it.Log != nil {
			go it.Log.Ack(it.Record.Offset)
		}
		s.discardLocked(&it)
		return nil
	}
	f := s.outbox.takeOff(it)
	if it.seq != 0 {
		s.server.journal.create(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		if f.QoS == 2 { // else a crash would send it again under another identifier
			f.state, f.tried = flightHeld, false
			return f
		}
	}
	if !c.Put(&f.Item, f.id, false, now) {
		s.landLocked(f)
		if it.Log != nil {
			go it.Log.Ack(it.Record.Offset)
		}
	}
	return nil
}

// sendWhenStoredLocked sends flights when they are durable. The caller holds mu.
func (s *session) sendWhenStoredLocked(c Link, held []*flight) {
	numbers := make([]uint64, len(held))
	for i, f := range held {
		numbers[i] = f.number
	}
	s.server.journal.commit(func(err error) {
		if err != nil {
			c.Close(packet.CodeServerBusy, "the session cannot be stored")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.link != c {
			return // the next connection sends them
		}
		now := time.Now()
		c.Lock()
		for i, f := range held {
			if f.number != numbers[i] || f.state != flightHeld {
				continue
			}
			f.state, f.tried = flightSent, true
			if !c.Put(&f.Item, f.id, false, now) {
				s.landLocked(f)
			}
		}
		c.Wake()
		c.Unlock()
		s.pumpLocked(now) // places in the window may be free again
	})
}

// resendLocked sends a flight of an earlier connection again [MQTT-4.4.0-1]. The
// caller holds both locks.
func (s *session) resendLocked(c Link, f *flight, now time.Time) {
	if f.released {
		c.PutRelease(f.id)
		return
	}
	dup := f.tried
	f.tried = true
	if !c.Put(&f.Item, f.id, dup, now) {
		s.landLocked(f)
	}
}

// landLocked ends a flight. The caller holds mu.
func (s *session) landLocked(f *flight) {
	if f.seq != 0 {
		s.server.journal.deleteEntry(s.number, &f.Item, true)
	}
	s.outbox.land(f)
}

// discardLocked takes a message out of the store that is not to be sent. The caller
// holds mu.
func (s *session) discardLocked(it *Item) {
	if it.seq != 0 {
		s.server.journal.deleteEntry(s.number, it, false)
		it.seq, it.body = 0, 0
		s.deleteIfEmptyLocked()
	}
}
