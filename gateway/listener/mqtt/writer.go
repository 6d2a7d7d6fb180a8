package mqtt

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
)

// send appends a packet, and does not start the flusher: all answers to one read leave in one write,
// at the next kick.
func (c *conn) send(p packet.Packet) {
	c.mu.Lock()
	c.appendPacketLocked(p)
	c.mu.Unlock()
}

// appendPacketLocked appends a packet. If the packet is larger than the client takes, the connection
// ends, since the client would wait for the packet in vain.
func (c *conn) appendPacketLocked(p packet.Packet) {
	if c.phase == connClosing {
		return
	}
	out := c.outputLocked()
	start := len(out.b)
	if out.b = p.Append(out.b, c.version); len(out.b)-start <= c.maxPacket {
		return
	}
	out.b = out.b[:start] // [MQTT-3.1.2-24]
	if c.attached {
		d := packet.Disconnect{Code: packet.CodePacketTooLarge} // smaller than any CONNACK that was sent
		out.b = d.Append(out.b, c.version)
	}
	c.closeLocked()
}

// outputLocked returns the buffer that packets are appended to.
func (c *conn) outputLocked() *buffer {
	if c.out == nil {
		c.out = c.server.buffers.get()
	}
	return c.out
}

// hasRoomLocked says whether the write buffer takes more messages.
func (c *conn) hasRoomLocked() bool {
	return c.out == nil || len(c.out.b) < c.listener.Limits.WriteBufferBytes
}

// kickLocked starts the flusher if there is something to write and no flusher runs.
func (c *conn) kickLocked() {
	if !c.flushing && c.out != nil {
		c.flushing = true
		go c.flush()
	}
}

// kick starts the flusher like kickLocked.
func (c *conn) kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kickLocked()
}

// flushSoonLocked lets pending output leave before the reader waits for input: at once if the socket
// takes it, else by the flusher. mu keeps the output of others apart; try does not block.
func (c *conn) flushSoonLocked() {
	if !c.flushing && c.out != nil && len(c.unwritten) == 0 && !c.starved {
		n := c.direct.try(c.out.b)
		c.server.count.sentBytes.Add(uint64(n))
		if n == len(c.out.b) {
			c.server.buffers.put(c.out)
			c.out = nil
			return
		}
		c.out.b = c.out.b[:copy(c.out.b, c.out.b[n:])]
	}
	c.kickLocked()
}

// flush writes until nothing is left. It is the flusher goroutine.
func (c *conn) flush() {
	c.mu.Lock()
	for c.out != nil {
		out, receipts, starved := c.out, c.unwritten, c.starved
		c.out, c.unwritten, c.starved = nil, nil, false
		c.change.Broadcast()
		c.mu.Unlock()

		err := c.write(out.b)
		c.server.buffers.put(out)
		if err != nil {
			if isTimeout(err) {
				c.server.limited(limitWriteTimeout)
			}
			c.broken()
			return
		}
		for _, r := range receipts {
			r.Log.Ack(r.Offset)
		}
		if starved {
			c.Session.Ready(c)
		}
		c.mu.Lock()
	}
	c.flushing = false
	c.change.Broadcast()
	c.mu.Unlock()
}

// chunk is how many bytes are written at once to a connection that cannot continue after a write
// that timed out.
const chunk = 16 << 10

// write writes to the socket. It fails if the client takes nothing for WriteTimeout. A connection
// that is closing has the time that closeLocked left it for all of its output.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		part := b
		if c.direct == nil { // a TLS connection cannot be used after a write that timed out
			part = b[:min(len(b), chunk)]
		}
		c.mu.Lock()
		if c.phase != connClosing {
			c.nc.SetWriteDeadline(time.Now().Add(c.listener.Limits.WriteTimeout))
		}
		c.mu.Unlock()
		n, err := c.nc.Write(part)
		c.server.count.sentBytes.Add(uint64(n))
		b = b[n:]
		if err != nil && (c.direct == nil || n == 0 || !isTimeout(err) || c.over() == errClosing) {
			return err
		}
	}
	return nil
}

// broken closes a connection that cannot be written to any more.
func (c *conn) broken() {
	c.nc.Close() // wakes the reader
	c.mu.Lock()
	c.phase, c.flushing = connClosing, false
	if c.out != nil {
		c.server.buffers.put(c.out)
		c.out = nil
	}
	c.change.Broadcast()
	c.mu.Unlock()
}

// sendNow appends a message of QoS 0. It returns false if the client is too slow for it.
func (c *conn) sendNow(it *session.Item, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == connClosing || !c.attached || !c.hasRoomLocked() {
		return false
	}
	sent := c.appendItemLocked(it, 0, false, now)
	c.kickLocked()
	return sent
}

// appendItemLocked appends the PUBLISH of an item. It returns false, and appends nothing, if the
// packet is larger than the client takes [MQTT-3.1.2-24] or the record is unreadable.
func (c *conn) appendItemLocked(it *session.Item, id uint16, dup bool, now time.Time) bool {
	if c.phase == connClosing {
		return true // lost on the way: a flight will be sent again
	}
	m := it.Message
	if m == nil {
		if m = it.Log.Render(it.Record, c.version); m == nil {
			c.server.count.unsent[dropUnreadable].Add(1)
			return false
		}
	}
	p := packet.Publish{Dup: dup, QoS: it.QoS, Retain: it.Retain, Topic: m.Topic, ID: id, Payload: m.Payload}
	named := false // the packet introduces a topic alias
	if c.version == packet.V5 {
		p.Props = m.Props
		if len(it.IDs) > 0 || !m.Expires.IsZero() || c.aliasMax > 0 {
			x := &c.props
			*x = packet.Properties{SubscriptionIDs: it.IDs}
			if m.Props != nil {
				*x = *m.Props
				x.SubscriptionIDs = it.IDs
			}
			if !m.Expires.IsZero() {
				c.expires = m.Remaining(now)
				x.MessageExpiry = &c.expires
			}
			named = c.aliasLocked(&p, x)
			p.Props = x
		}
	}
	out := c.outputLocked()
	start := len(out.b)
	out.b = p.Append(out.b, c.version)
	if len(out.b)-start > c.maxPacket && c.unaliasLocked(&p, m.Topic, named) {
		out.b, named = p.Append(out.b[:start], c.version), false
	}
	if size := len(out.b) - start; size == 0 || size > c.maxPacket {
		out.b = out.b[:start]
		if named {
			delete(c.aliasesOut, m.Topic)
		}
		c.server.count.unsent[dropTooLarge].Add(1)
		return false
	}
	c.server.count.sentMessages[it.QoS].Add(1)
	return true
}

// aliasLocked puts a topic alias into a PUBLISH, section 3.3.2.3.4. The first topics of a connection
// get one. introduced says that the alias is new to the client.
func (c *conn) aliasLocked(p *packet.Publish, x *packet.Properties) (introduced bool) {
	if c.aliasMax == 0 {
		return false
	}
	n, known := c.aliasesOut[p.Topic]
	switch {
	case known:
		p.Topic = ""
	case len(c.aliasesOut) < int(c.aliasMax):
		if c.aliasesOut == nil {
			c.aliasesOut = make(map[string]uint16)
		}
		n = uint16(len(c.aliasesOut) + 1)
		c.aliasesOut[p.Topic] = n
	default:
		return false
	}
	c.topicAlias = n
	x.TopicAlias = &c.topicAlias
	return !known
}

// unaliasLocked takes the topic alias out of a PUBLISH again, because the packet may fit without it:
// a new alias costs three bytes, a known one only saves the topic. It returns false if there is no
// alias.
func (c *conn) unaliasLocked(p *packet.Publish, topic string, introduced bool) bool {
	if p.Props == nil || p.Props.TopicAlias == nil {
		return false
	}
	if introduced {
		delete(c.aliasesOut, topic)
	}
	p.Topic, p.Props.TopicAlias = topic, nil
	return true
}
