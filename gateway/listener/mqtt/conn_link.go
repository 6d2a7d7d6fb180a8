package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
)

// Lock implements Link.
func (c *conn) Lock() { c.mu.Lock() }

// Unlock implements Link.
func (c *conn) Unlock() { c.mu.Unlock() }

// Room implements Link.
func (c *conn) Room() bool {
	if c.hasRoomLocked() {
		return true
	}
	c.starved = true
	return false
}

// Put implements Link.
func (c *conn) Put(it *session.Item, id uint16, dup bool, now time.Time) bool {
	if !c.appendItemLocked(it, id, dup, now) {
		return false
	}
	if it.QoS == 0 && it.Log != nil {
		c.unwritten = append(c.unwritten, session.Receipt{Log: it.Log, Offset: it.Record.Offset})
	}
	return true
}

// PutRelease implements Link.
func (c *conn) PutRelease(id uint16) { c.appendPacketLocked(&packet.Ack{Type: packet.PUBREL, ID: id}) }

// Wake implements Link.
func (c *conn) Wake() { c.kickLocked() }

// Greet implements Link. CONNACK is the first packet that the client gets [MQTT-3.2.0-1].
func (c *conn) Greet(resumed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attached = true
	c.connack.SessionPresent = resumed // [MQTT-3.2.2-3]
	c.appendPacketLocked(c.connack)
	c.connack = nil
	c.kickLocked()
}

// PutNow implements Link.
func (c *conn) PutNow(it *session.Item, now time.Time) bool { return c.sendNow(it, now) }

// Expire implements Link.
func (c *conn) Expire(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != connClosing {
		c.expireAtLocked(at)
	}
}

// Close implements Link.
func (c *conn) Close(code byte, reason string) { c.shut(code, reason) }

// terms returns the limits of this connection that its session has to keep to.
func (c *conn) terms() session.Terms {
	l := &c.listener.Limits
	return session.Terms{Window: c.window, Subscriptions: l.MaxSubscriptions, SlowTimeout: l.SlowConsumerTimeout}
}
