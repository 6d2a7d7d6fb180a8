package mqtt

// contest is about a filter that a SUBSCRIBE asks for of which a plugin still judges
// one or another: packets that the client sent later may be done with before, and what
// the later packet said counts [MQTT-3.8.4-3], [MQTT-3.10.4-2]. The lock of the
// connection's session guards it.
type contest struct {
	waiting int    // requests for the filter that are being judged
	asked   uint64 // number of the last one
	decided uint64 // number of the last packet that put the filter into force, or out of it
}

// await begins the contests about the filters of a SUBSCRIBE that is not done at once.
func (x *subscribing) await() {
	c := x.conn
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if c.contests == nil {
		c.contests = make(map[string]*contest)
	}
	for i := range x.packet.Filters {
		topic := x.packet.Filters[i].Topic
		k := c.contests[topic]
		if k == nil {
			k = new(contest)
			c.contests[topic] = k
		}
		k.waiting++
		k.asked = x.number
	}
	x.awaited = true
}

// finish ends what await began. The caller holds the session's lock.
func (x *subscribing) finish() {
	if !x.awaited {
		return
	}
	for i := range x.packet.Filters {
		topic := x.packet.Filters[i].Topic
		k := x.conn.contests[topic]
		if k.waiting--; k.waiting == 0 {
			delete(x.conn.contests, topic)
		}
	}
}

// decide says whether the packet with a number may decide about a filter still, and
// that it does. The caller holds the session's lock.
func (c *conn) decide(topic string, number uint64) bool {
	k := c.contests[topic]
	if k == nil {
		return true
	}
	if k.decided > number {
		return false
	}
	k.decided = number
	return true
}

// overtakes is decide for an UNSUBSCRIBE: it says whether there is a SUBSCRIBE that
// comes to nothing by it. The caller holds the session's lock.
func (c *conn) overtakes(topic string, number uint64) bool {
	k := c.contests[topic]
	if k == nil {
		return false
	}
	open := k.asked > k.decided
	k.decided = number
	return open
}
