package mqtt

import (
	"sync"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Link is a connection as its session sees it. The session calls it while holding its own
// lock; no method blocks.
type Link interface {
	// Lock holds the output of the connection for one batch of the methods below.
	sync.Locker
	// Room says whether the output takes more messages. After a false one the connection
	// calls ready when it does.
	Room() bool
	// Put appends a message under a packet identifier (0 at QoS 0). It is false, and
	// nothing happened, if the client can never take it. The receipt of a record of QoS 0
	// is the connection's from then on. The output is held.
	Put(it *item, id uint16, dup bool, now time.Time) bool
	// PutRelease appends the PUBREL of a message of QoS 2. The output is held.
	PutRelease(id uint16)
	// Wake has what was appended leave soon. The output is held.
	Wake()

	// Greet tells the client that it has its session, resumed or new, before anything else.
	Greet(resumed bool)
	// PutNow sends a message of QoS 0, unless the client is too slow for it.
	PutNow(it *item, now time.Time) bool
	// Expire ends the connection at a time, unless it is told another one; never if zero.
	Expire(at time.Time)
	// Close ends the connection, with a reason that the client is told.
	Close(code byte, reason string)
}

// Terms are what a session and the client that is connected to it keep to.
type Terms struct {
	Window        int           // messages of QoS 1 and 2 in flight to the client
	Subscriptions int           // of the session
	SlowTimeout   time.Duration // after which a client with a full queue is disconnected; 0: never
}

// Lock implements Link.
func (c *conn) Lock() { c.mu.Lock() }

// Unlock implements Link.
func (c *conn) Unlock() { c.mu.Unlock() }

// Room implements Link.
func (c *conn) Room() bool {
	if c.hasRoom() {
		return true
	}
	c.starved = true
	return false
}

// Put implements Link.
func (c *conn) Put(it *item, id uint16, dup bool, now time.Time) bool {
	if !c.appendItem(it, id, dup, now) {
		return false
	}
	if it.qos == 0 && it.from != nil {
		c.unwritten = append(c.unwritten, receipt{it.from, it.record.Offset})
	}
	return true
}

// PutRelease implements Link.
func (c *conn) PutRelease(id uint16) { c.appendPacket(&packet.Ack{Type: packet.PUBREL, ID: id}) }

// Wake implements Link.
func (c *conn) Wake() { c.kick() }

// Greet implements Link: CONNACK is the first packet [MQTT-3.2.0-1].
func (c *conn) Greet(resumed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached = true
	c.connack.SessionPresent = resumed // [MQTT-3.2.2-3]
	c.appendPacket(c.connack)
	c.connack = nil
	c.kick()
}

// PutNow implements Link.
func (c *conn) PutNow(it *item, now time.Time) bool { return c.sendNow(it, now) }

// Expire implements Link.
func (c *conn) Expire(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.expireAt(at)
	}
}

// Close implements Link.
func (c *conn) Close(code byte, reason string) { c.shut(code, reason) }

// terms are those of a client of this connection.
func (c *conn) terms() Terms {
	l := &c.listener.Limits
	return Terms{Window: c.window, Subscriptions: l.MaxSubscriptions, SlowTimeout: l.SlowConsumerTimeout}
}
