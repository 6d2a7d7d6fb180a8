package mqtt

import "sync"

// contest is about a filter that a SUBSCRIBE asks for of which a plugin still judges
// one or another: packets that the client sent later may be done with before, and what
// the later packet said counts [MQTT-3.8.4-3], [MQTT-3.10.4-2]. The lock of
// contests guards it.
type contest struct {
	waiting int    // requests for the filter that are being judged
	asked   uint64 // number of the last one
	decided uint64 // number of the last packet that put the filter into force, or out of it
}

// contests are those of a connection, by filter. Their lock may be taken under that of the
// session, and holds nothing else.
type contests struct {
	mu       sync.Mutex
	byFilter map[string]*contest
}

// beginContests begins the contests about the filters of a SUBSCRIBE that is not done at once.
func (x *subscribing) beginContests() {
	c := &x.conn.contests
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byFilter == nil {
		c.byFilter = make(map[string]*contest)
	}
	for i := range x.packet.Filters {
		topic := x.packet.Filters[i].Topic
		k := c.byFilter[topic]
		if k == nil {
			k = new(contest)
			c.byFilter[topic] = k
		}
		k.waiting++
		k.asked = x.number
	}
	x.awaited = true
}

// endContests ends what await began.
func (x *subscribing) endContests() {
	if !x.awaited {
		return
	}
	c := &x.conn.contests
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range x.packet.Filters {
		topic := x.packet.Filters[i].Topic
		k := c.byFilter[topic]
		if k.waiting--; k.waiting == 0 {
			delete(c.byFilter, topic)
		}
	}
}

// decide says whether the packet with a number may decide about a filter still, and
// that it does. The caller holds the session's lock, so that the packets put filters into
// force in the order in which they decide.
func (c *contests) decide(topic string, number uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byFilter[topic]
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
func (c *contests) overtakes(topic string, number uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byFilter[topic]
	if k == nil {
		return false
	}
	open := k.asked > k.decided
	k.decided = number
	return open
}
