package mqtt

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// forever is the session expiry of a session that never ends by itself.
const forever = time.Duration(math.MaxInt64)

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
	conn     *conn     // nil while nobody is connected
	from     *Client   // of conn, or of the one before; nil: unknown
	since    time.Time // of the connection, or of its end
	welcomed bool      // conn has its CONNACK, so that messages may go to it
	ended    bool

	expiry    time.Duration
	visits    int         // connections that it has had
	stuck     time.Time   // since when the queue is full; zero: it is not
	counted   int         // bytes of the outbox that its space counts
	timer     *time.Timer // ends the session
	will      *will       // of the connection, or waiting for its delay
	willTimer *time.Timer
	subs      map[string]*subscription // by the filter as it was given
	readers   map[string]*reader       // same, subscriptions to logs
	outbox    outbox
	// incoming is the inbound QoS 2 messages by packet identifier: nil once
	// PUBREC went and until PUBREL comes, the waiting message before.
	incoming map[uint16]*arrival
}

// persistent says whether the session outlives its connection. The caller holds mu.
func (s *session) persistent() bool { return s.expiry > 0 }

// lasts is persistent for those who do not hold mu.
func (s *session) lasts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.persistent()
}

// deliver hands an item to the session and says what became of it. It is called
// without locks and never blocks.
func (s *session) deliver(it item, now time.Time) stage.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accept(it, now)
}

// accept is deliver for those who hold mu.
func (s *session) accept(it item, now time.Time) stage.Delivery {
	c := s.conn
	admitted := it.seq != 0 // its commit was prepared, and with it its place
	if admitted {
		s.outbox.unreserve(it.m.size())
	}
	switch {
	case s.ended || c == nil && (it.qos == 0 || !s.persistent()):
		s.discard(&it)
		s.server.count.dropped[dropOffline].Add(1)
		return stage.NoDevice
	case it.qos == 0:
		s.discard(&it)
		if !c.sendNow(&it, now) {
			s.server.count.dropped[dropSlow].Add(1)
			return stage.NoDevice
		}
		return stage.Delivered
	case !admitted && s.full(now):
		s.server.count.dropped[dropQueue].Add(1)
		return stage.NoDevice
	}
	s.enqueue(it)
	if c == nil {
		return stage.Queued
	}
	s.pump(now)
	return stage.Delivered
}

// enqueue appends to the queue: in memory for a client that is connected, on the
// shelf for one that is not. A message of a stored session that the store does
// not have yet gets there. The caller holds mu.
func (s *session) enqueue(it item) {
	defer s.account()
	if !s.keeps.Load() || it.m == nil {
		s.outbox.push(it)
		return
	}
	if it.seq == 0 {
		s.keep(&it)
		s.server.journal.commit(nil)
	}
	if s.conn == nil {
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
	s.server.limited(over)
	s.tooSlow(now)
	return true
}

// pump moves items from the outbox to the connection as far as its window and its
// write buffer allow. The caller holds mu.
func (s *session) pump(now time.Time) {
	if s.conn != nil && s.welcomed && !s.outbox.empty() {
		if held := s.fill(s.conn, now); len(held) > 0 {
			s.launch(s.conn, held)
		}
	}
	s.account()
}

// fill does what pump does, but for the flights that it returns: those have to be
// durable first.
func (s *session) fill(c *conn, now time.Time) (held []*flight) {
	o := &s.outbox
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.kick()
	for !o.empty() {
		if !c.hasRoom() {
			c.starved = true
			return held
		}
		if len(o.again) > 0 {
			if o.out >= c.window {
				return held
			}
			f := o.again[0]
			o.again = o.again[1:]
			f.sent = true
			o.out++
			s.resend(c, f, now)
			continue
		}
		it := o.peek()
		if it.qos > 0 && (o.out >= c.window || o.flying >= s.server.cfg.QueueBytes) { // [MQTT-3.3.4-9]
			return held
		}
		if it.m != nil && it.m.expired(now) {
			s.server.count.dropped[dropExpired].Add(1)
			it := o.pop()
			s.discard(&it)
			continue
		}
		if f := s.send(c, o.pop(), now); f != nil {
			held = append(held, f)
		}
	}
	return held
}

// send puts one item out for the first time, or returns it as a flight that must
// not leave before it is durable. The caller holds both locks.
func (s *session) send(c *conn, it item, now time.Time) (held *flight) {
	if it.qos == 0 { // a record, a retained message, or one for a device that was away
		sent := c.appendItem(&it, 0, false, now)
		s.discard(&it)
		switch {
		case it.from == nil:
		case sent:
			c.unwritten = append(c.unwritten, receipt{it.from, it.record.Offset})
		default:
			go it.from.ack(it.record.Offset)
		}
		return nil
	}
	f := s.outbox.takeOff(it)
	if it.seq != 0 {
		s.server.journal.create(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		if f.qos == 2 { // else a crash would send it again under another identifier
			f.held, f.tried = true, false
			return f
		}
	}
	if !c.appendItem(&f.item, f.id, false, now) {
		s.land(f)
		if it.from != nil {
			go it.from.ack(it.record.Offset)
		}
	}
	return nil
}

// launch sends flights when they are durable. The caller holds mu.
func (s *session) launch(c *conn, held []*flight) {
	numbers := make([]uint64, len(held))
	for i, f := range held {
		numbers[i] = f.number
	}
	s.server.journal.commit(func(err error) {
		if err != nil {
			c.shut(packet.CodeServerBusy, "the session cannot be stored")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn != c {
			return // the next connection sends them
		}
		now := time.Now()
		c.mu.Lock()
		for i, f := range held {
			if f.number != numbers[i] || !f.held {
				continue
			}
			f.held, f.tried = false, true
			if !c.appendItem(&f.item, f.id, false, now) {
				s.land(f)
			}
		}
		c.kick()
		c.mu.Unlock()
		s.pump(now) // places in the window may be free again
	})
}

// resend sends a flight of an earlier connection again [MQTT-4.4.0-1]. The
// caller holds both locks.
func (s *session) resend(c *conn, f *flight, now time.Time) {
	if f.released {
		c.appendPacket(&packet.Ack{Type: packet.PUBREL, ID: f.id})
		return
	}
	dup := f.tried
	f.tried = true
	if !c.appendItem(&f.item, f.id, dup, now) {
		s.land(f)
	}
}

// land ends a flight. The caller holds mu.
func (s *session) land(f *flight) {
	if f.seq != 0 {
		s.server.journal.forget(s.number, &f.item, true)
	}
	s.outbox.land(f)
}

// discard takes a message out of the store that is not to be sent. The caller
// holds mu.
func (s *session) discard(it *item) {
	if it.seq != 0 {
		s.server.journal.forget(s.number, it, false)
		it.seq, it.body = 0, 0
		s.gone()
	}
}

// acknowledged takes a PUBACK, PUBREC or PUBCOMP of the client. It returns the
// answer that is due at once, if any, and the receipt of a record that is settled.
func (s *session) acknowledged(c *conn, p *packet.Ack, now time.Time) (answer *packet.Ack, done receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return nil, done
	}
	f := s.outbox.flights[p.ID]
	refused := p.Code >= packet.CodeUnspecified
	switch p.Type {
	case packet.PUBREC:
		switch {
		case f == nil || f.qos != 2:
			return &packet.Ack{Type: packet.PUBREL, ID: p.ID, Code: packet.CodePacketIDNotFound}, done
		case !refused:
			return s.received(c, f), done
		}
	case packet.PUBACK:
		if f == nil || f.qos != 1 {
			return nil, done // of a connection long gone
		}
	case packet.PUBCOMP:
		if f == nil || !f.released {
			return nil, done
		}
	}
	if refused {
		s.server.count.refusedByClient.Add(1)
	}
	if f.from != nil {
		done = receipt{f.from, f.record.Offset}
	}
	s.land(f)
	s.pump(now)
	return nil, done
}

// received takes the client's word that it has a message of QoS 2. The PUBREL
// that answers it leaves when that is durable: after it the client may take the
// identifier for a new message. The caller holds mu.
func (s *session) received(c *conn, f *flight) (now *packet.Ack) {
	answer := &packet.Ack{Type: packet.PUBREL, ID: f.id}
	again := f.released
	f.released, f.held = true, false
	s.outbox.lighten(f)
	f.m, f.ids, f.shared = nil, nil, nil // the client has it
	if f.seq == 0 {
		return answer
	}
	j := s.server.journal
	if !again { // in this order: a flight that lacks its entry and was not released has landed
		j.put(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		j.forget(s.number, &f.item, false)
		f.body = 0
	}
	j.commit(func(err error) { c.answerLater(answer, err) })
	return nil
}

// release takes a PUBREL: the identifier may be used anew. The PUBCOMP leaves when
// that is durable, for after it a message with this identifier is a new one.
func (s *session) release(c *conn, id uint16) {
	answer := &packet.Ack{Type: packet.PUBCOMP, ID: id}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	p, known := s.incoming[id]
	keeps := s.keeps.Load()
	switch {
	case !known || p != nil: // said twice, maybe: the first may not be durable yet
		answer.Code = packet.CodePacketIDNotFound
	case keeps:
		s.server.journal.delete(incomingKey(s.number, id))
		fallthrough
	default:
		delete(s.incoming, id)
	}
	if keeps {
		s.server.journal.commit(func(err error) { c.answerLater(answer, err) })
	} else {
		c.released(answer)
	}
}
