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
	keeps       atomic.Bool  // the store has the session, and its messages of QoS 1 and 2; changes under mu
	behind      atomic.Int32 // messages of the client that no route takes and that await their commit

	mu       sync.Mutex
	link     Link      // the connection; nil while nobody is connected
	terms    Terms     // of link
	from     *Client   // of link, or of the one before; nil: unknown
	since    time.Time // of the connection, or of its end
	welcomed bool      // link has its CONNACK, so that messages may go to it
	ended    bool

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

// persistent says whether the session outlives its connection. The caller holds mu.
func (s *session) persistent() bool { return s.expiry > 0 }

// lasts is persistent for those who do not hold mu.
func (s *session) lasts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.persistent()
}

// deliver hands an item to the session and says what became of it, and whether it was lost
// because the session takes no more; one of QoS 0 may be lost at any time, so nobody is told.
// It is called without locks and never blocks.
func (s *session) deliver(it Item, now time.Time) (d stage.Delivery, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accept(it, now)
}

// accept is deliver for those who hold mu.
func (s *session) accept(it Item, now time.Time) (d stage.Delivery, lost bool) {
	c := s.link
	admitted := it.seq != 0 // its commit was prepared, and with it its place
	if admitted {
		s.outbox.unreserve(it.Message.size())
	}
	idle := c != nil && s.welcomed && s.outbox.empty() // else what waits goes out before [MQTT-4.6.0-6]
	switch {
	case s.ended || c == nil && (it.QoS == 0 || !s.persistent()):
		s.discard(&it)
		s.server.count.dropped[dropOffline].Add(1)
		return stage.NoDevice, false
	case it.QoS == 0 && idle:
		s.discard(&it)
		if !c.PutNow(&it, now) {
			s.server.count.dropped[dropSlow].Add(1)
			return stage.NoDevice, false
		}
		return stage.Delivered, false
	case it.QoS == 0 && !s.away() && s.crowded():
		s.discard(&it)
		s.server.count.dropped[dropSlow].Add(1)
		return stage.NoDevice, false
	case !admitted && s.full(now):
		s.server.count.dropped[dropQueue].Add(1)
		return stage.NoDevice, it.QoS > 0
	}
	it.prompt = idle
	s.enqueue(it)
	if c == nil {
		return stage.Queued, false
	}
	s.pump(now)
	s.press(now)
	if idle && !s.outbox.empty() {
		s.outbox.peek().prompt = false // it had its chance
	}
	return stage.Delivered, false
}

// away says whether nobody has been told yet that the session is there, so that what comes
// for the client is queued. The caller holds mu.
func (s *session) away() bool { return s.link == nil || !s.welcomed }

// enqueue appends to the queue: in memory for a client that is connected, on the
// shelf for one that is not. A message of a stored session that the store does
// not have yet gets there. The caller holds mu.
func (s *session) enqueue(it Item) {
	defer s.account()
	if !s.keeps.Load() || it.Message == nil || it.QoS == 0 && it.seq == 0 && !s.away() {
		s.outbox.push(it)
		return
	}
	if it.seq == 0 {
		s.keep(&it)
		s.server.journal.commit(nil)
	}
	if s.link == nil {
		s.outbox.put(it.slot())
	} else {
		s.outbox.push(it)
	}
}

// full says whether the queue takes no more messages: the newest is dropped, so
// that what a client was promised first still comes in order.
func (s *session) full(now time.Time) bool {
	if s.over() == limitNone {
		s.stuck = time.Time{}
		return false
	}
	for _, it := range s.outbox.purge(now) {
		s.server.count.dropped[dropExpired].Add(1)
		s.discard(&it)
	}
	over := s.over()
	if over == limitNone {
		return false
	}
	s.server.reached(over)
	s.tooSlow(now)
	return true
}

// pump moves items from the outbox to the connection as far as its window and its
// write buffer allow. The caller holds mu.
func (s *session) pump(now time.Time) {
	if s.link != nil && s.welcomed && !s.outbox.empty() {
		if held := s.fill(s.link, now); len(held) > 0 {
			s.launch(s.link, held)
		}
	}
	s.account()
	s.relieve()
}

// Ready is called by a connection whose output takes messages again.
func (s *session) Ready(c Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == c {
		s.pump(time.Now())
	}
}

// fill does what pump does, but for the flights that it returns: those have to be
// durable first.
func (s *session) fill(c Link, now time.Time) (held []*flight) {
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
			f.sent = true
			o.out++
			s.resend(c, f, now)
			continue
		}
		f, more := s.sendNext(c, now)
		if f != nil {
			held = append(held, f)
		}
		if !more {
			return held
		}
	}
	return held
}

// sendNext sends what is at the head of the queue, unless it has to wait: then it is false.
// The caller holds both locks.
func (s *session) sendNext(c Link, now time.Time) (held *flight, more bool) {
	o := &s.outbox
	it := o.peek()
	r := it.replay
	if r != nil {
		if !r.ready {
			return nil, false
		}
		one, more := s.next(r, now)
		if !more {
			s.replayed(r)
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
		if it.QoS > 0 && s.keeps.Load() {
			s.keep(it)
		}
		return s.send(c, *it, now), true
	case it.Message != nil && !it.prompt && it.Message.expired(now):
		s.server.count.dropped[dropExpired].Add(1)
		late := o.pop()
		s.discard(&late)
		return nil, true
	}
	return s.send(c, o.pop(), now), true
}

// send puts one item out for the first time, or returns it as a flight that must
// not leave before it is durable. The caller holds both locks.
func (s *session) send(c Link, it Item, now time.Time) (held *flight) {
	if it.QoS == 0 { // a record, a retained message, or one for a device that was away
		if !c.Put(&it, 0, false, now) && it.Log != nil {
			go it.Log.Ack(it.Record.Offset)
		}
		s.discard(&it)
		return nil
	}
	f := s.outbox.takeOff(it)
	if it.seq != 0 {
		s.server.journal.create(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		if f.QoS == 2 { // else a crash would send it again under another identifier
			f.held, f.tried = true, false
			return f
		}
	}
	if !c.Put(&f.Item, f.id, false, now) {
		s.land(f)
		if it.Log != nil {
			go it.Log.Ack(it.Record.Offset)
		}
	}
	return nil
}

// launch sends flights when they are durable. The caller holds mu.
func (s *session) launch(c Link, held []*flight) {
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
			if f.number != numbers[i] || !f.held {
				continue
			}
			f.held, f.tried = false, true
			if !c.Put(&f.Item, f.id, false, now) {
				s.land(f)
			}
		}
		c.Wake()
		c.Unlock()
		s.pump(now) // places in the window may be free again
	})
}

// resend sends a flight of an earlier connection again [MQTT-4.4.0-1]. The
// caller holds both locks.
func (s *session) resend(c Link, f *flight, now time.Time) {
	if f.released {
		c.PutRelease(f.id)
		return
	}
	dup := f.tried
	f.tried = true
	if !c.Put(&f.Item, f.id, dup, now) {
		s.land(f)
	}
}

// land ends a flight. The caller holds mu.
func (s *session) land(f *flight) {
	if f.seq != 0 {
		s.server.journal.forget(s.number, &f.Item, true)
	}
	s.outbox.land(f)
}

// discard takes a message out of the store that is not to be sent. The caller
// holds mu.
func (s *session) discard(it *Item) {
	if it.seq != 0 {
		s.server.journal.forget(s.number, it, false)
		it.seq, it.body = 0, 0
		s.gone()
	}
}
