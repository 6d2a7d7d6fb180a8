package session

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// Forever is the session expiry of a session that does not expire.
const Forever = time.Duration(math.MaxInt64)

// sessionState is the state of a session. Its link is set while it is attaching or attached.
type sessionState uint8

const (
	sessionAway      sessionState = iota // nobody is connected
	sessionAttaching                     // a connection has the session, and CONNACK waits for the store
	sessionAttached                      // CONNACK was sent, so that messages may follow
	sessionEnded                         // only what still refers to it is left
)

type sessionKey struct{ namespace, clientID string }

// session is what the gateway keeps for a client identifier of a namespace over several connections.
// The store has the persistent ones.
type session struct {
	server    *Sessions
	key       sessionKey
	principal string

	application string // empty: none
	space       *space
	device      *device // nil unless the session is a device's
	number      uint64  // unique, in order of creation
	online      atomic.Bool
	stored      atomic.Bool  // the store has the session with its messages of QoS 1 and 2; changes under mu
	behind      atomic.Int32 // messages of the client that no route takes, and whose commits are under way

	mu     sync.Mutex
	link   Link      // the connection; nil unless the session is attaching or attached
	terms  Terms     // of the link
	client *Client   // of the link, or of the last one; nil: not known
	since  time.Time // beginning of the connection, or its end
	state  sessionState

	expiry    time.Duration
	visits    int       // how many connections it has had
	stuck     time.Time // since when the queue has been full; zero: it is not full
	pressure  pressure
	counted   int         // bytes of the outbox that the space counts
	timer     *time.Timer // ends the session when it expires
	will      *Will       // of the connection, or waiting for its delay
	willTimer *time.Timer
	subs      map[string]*subscription    // by the filter as the client wrote it
	logSubs   map[string]*LogSubscription // same, subscriptions to logs
	replays   map[string]*replay          // same, retained messages that the client has not got yet
	outbox    outbox
	// incoming has the inbound messages of QoS 2 by packet identifier. The value is the message that
	// awaits its verdict, or nil from PUBREC until PUBREL.
	incoming map[uint16]*Arrival
}

// persistentLocked says whether the session outlives its connection.
func (s *session) persistentLocked() bool { return s.expiry > 0 }

// persistent says whether the session outlives its connection.
func (s *session) persistent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.persistentLocked()
}

// deliver gives an item to the session, and returns what became of it. lost says that there was no
// room for a message of QoS 1 or 2; a message of QoS 0 may be lost at any time. The caller holds no
// lock; deliver does not block.
func (s *session) deliver(it Item, now time.Time) (d stage.Delivery, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliverLocked(it, now)
}

// deliverLocked gives an item to the session, see deliver.
func (s *session) deliverLocked(it Item, now time.Time) (d stage.Delivery, lost bool) {
	c := s.link
	admitted := it.seq != 0 // its commit reserved a place
	if admitted {
		s.outbox.unreserve(it.Message.size())
	}
	idle := s.state == sessionAttached && s.outbox.empty() // otherwise items that wait go out first [MQTT-4.6.0-6]
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
		s.outbox.peek().prompt = false // it was not sent at once
	}
	return stage.Delivered, false
}

// awayLocked says whether the client has no CONNACK yet, so that messages for it are queued.
func (s *session) awayLocked() bool { return s.state != sessionAttached }

// enqueueLocked appends an item to the queue: in memory if the client is connected, otherwise on the
// shelf. A message that a stored session has no entry for gets one.
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

// fullLocked says whether the queue takes no more messages. A full queue drops the newest message,
// so that the client gets what came first in order.
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

// pumpLocked moves items from the outbox to the connection, as far as the client's window and the
// write buffer allow.
func (s *session) pumpLocked(now time.Time) {
	if s.state == sessionAttached && !s.outbox.empty() {
		if held := s.fillLocked(s.link, now); len(held) > 0 {
			s.sendWhenStoredLocked(s.link, held)
		}
	}
	s.accountLocked()
	s.relieveLocked()
}

// Ready continues sending. The connection calls it when its output has room again.
func (s *session) Ready(c Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == c {
		s.pumpLocked(time.Now())
	}
}

// fillLocked does the work of pumpLocked. It returns flights that have to be durable before they are
// sent.
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

// sendNextLocked sends the item at the head of the queue. more is false if the item has to wait. The
// link's lock is held, too.
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

// sendItemLocked sends an item for the first time. It returns a flight that has to be durable before
// it is sent. The link's lock is held, too.
func (s *session) sendItemLocked(c Link, it Item, now time.Time) (held *flight) {
	if it.QoS == 0 { // a record, a retained message, or a message for a device that was away
		if !c.Put(&it, 0, false, now) && it.Log != nil {
			go it.Log.Ack(it.Record.Offset)
		}
		s.discardLocked(&it)
		return nil
	}
	f := s.outbox.takeOff(it)
	if it.seq != 0 {
		s.server.journal.create(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		if f.QoS == 2 { // after a crash it would be sent again under another identifier
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

// sendWhenStoredLocked sends flights when they are durable.
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
		s.pumpLocked(now) // the window may have room again
	})
}

// resendLocked sends a flight of an earlier connection again [MQTT-4.4.0-1]. The link's lock is
// held, too.
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

// landLocked ends a flight.
func (s *session) landLocked(f *flight) {
	if f.seq != 0 {
		s.server.journal.deleteEntry(s.number, &f.Item, true)
	}
	s.outbox.land(f)
}

// discardLocked deletes a message that will not be sent from the store.
func (s *session) discardLocked(it *Item) {
	if it.seq != 0 {
		s.server.journal.deleteEntry(s.number, it, false)
		it.seq, it.body = 0, 0
		s.deleteIfEmptyLocked()
	}
}
