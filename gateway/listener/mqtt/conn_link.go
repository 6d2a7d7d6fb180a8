package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

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
