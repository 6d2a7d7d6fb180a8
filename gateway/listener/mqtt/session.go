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
// connections. In this form it lives in memory only.
type session struct {
	server    *Server
	key       sessionKey
	principal string
	space     *space
	device    *device // nil unless the session is a device's
	number    uint64  // unique, in order of creation
	online    atomic.Bool

	mu        sync.Mutex
	conn      *conn // nil while nobody is connected
	ended     bool
	expiry    time.Duration
	visits    int         // connections that it has had
	timer     *time.Timer // ends the session
	will      *will       // of the connection, or waiting for its delay
	willTimer *time.Timer
	subs      map[string]*subscription // by the filter as it was given
	readers   map[string]*reader       // same, subscriptions to logs
	outbox    outbox
	// incoming is the inbound QoS 2 messages by packet identifier: nil once
	// PUBREC went and until PUBREL comes, the waiting message before.
	incoming map[uint16]*pending
}

// persistent says whether the session outlives its connection. The caller holds mu.
func (s *session) persistent() bool { return s.expiry > 0 }

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
	switch {
	case s.ended || c == nil && (it.qos == 0 || !s.persistent()):
		s.server.count.dropped[dropOffline].Add(1)
		return stage.NoDevice
	case it.qos == 0:
		if !c.sendNow(&it, now) {
			s.server.count.dropped[dropSlow].Add(1)
			return stage.NoDevice
		}
		return stage.Delivered
	case s.full(now):
		s.server.count.dropped[dropQueue].Add(1)
		return stage.NoDevice
	}
	s.outbox.push(it)
	if c == nil {
		return stage.Queued
	}
	s.pump(now)
	return stage.Delivered
}

// full says whether the queue takes no more messages: the newest is dropped, so
// that what a client was promised first still comes in order.
func (s *session) full(now time.Time) bool {
	cfg, o := &s.server.cfg, &s.outbox
	over := func() bool { return o.waiting >= cfg.QueueMessages || o.bytes >= cfg.QueueBytes }
	if !over() {
		return false
	}
	s.server.count.dropped[dropExpired].Add(uint64(o.purge(now)))
	return over()
}

// pump moves items from the outbox to the connection as far as its window and its
// write buffer allow. The caller holds mu.
func (s *session) pump(now time.Time) {
	c, o := s.conn, &s.outbox
	if c == nil || o.empty() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.kick()
	for !o.empty() {
		if !c.hasRoom() {
			c.starved = true
			return
		}
		if len(o.again) > 0 {
			if o.out >= c.window {
				return
			}
			f := o.again[0]
			o.again = o.again[1:]
			f.sent = true
			o.out++
			s.resend(c, f, now)
			continue
		}
		it := o.peek()
		if it.qos > 0 && o.out >= c.window { // [MQTT-3.3.4-9]
			return
		}
		if it.m != nil && it.m.expired(now) {
			s.server.count.dropped[dropExpired].Add(1)
			o.pop()
			continue
		}
		s.send(c, o.pop(), now)
	}
}

// send puts one item out for the first time. The caller holds both locks.
func (s *session) send(c *conn, it item, now time.Time) {
	if it.qos == 0 { // a record, a retained message, or one for a device that was away
		sent := c.appendItem(&it, 0, false, now)
		switch {
		case it.from == nil:
		case sent:
			c.unwritten = append(c.unwritten, receipt{it.from, it.record.Offset})
		default:
			go it.from.ack(it.record.Offset)
		}
		return
	}
	f := s.outbox.takeOff(it)
	if !c.appendItem(&f.item, f.id, false, now) {
		s.outbox.land(f)
		if it.from != nil {
			go it.from.ack(it.record.Offset)
		}
	}
}

// resend sends a flight of an earlier connection again [MQTT-4.4.0-1]. The
// caller holds both locks.
func (s *session) resend(c *conn, f *flight, now time.Time) {
	if f.released {
		c.appendPacket(&packet.Ack{Type: packet.PUBREL, ID: f.id})
		return
	}
	if !c.appendItem(&f.item, f.id, true, now) {
		s.outbox.land(f)
	}
}

// acknowledged takes a PUBACK, PUBREC or PUBCOMP of the client. It returns the
// answer that is due, if any, and the receipt of a record that is settled.
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
			f.released = true
			f.m, f.ids, f.shared = nil, nil, nil // the client has it
			return &packet.Ack{Type: packet.PUBREL, ID: p.ID}, done
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
	s.outbox.land(f)
	s.pump(now)
	return nil, done
}

// release takes a PUBREL: the identifier may be used anew.
func (s *session) release(id uint16) (known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.incoming[id]
	if known && p == nil {
		delete(s.incoming, id)
	}
	return known && p == nil
}
