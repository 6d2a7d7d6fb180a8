package mqtt

import "sync"

// contest is about one filter while plugins still judge it for a SUBSCRIBE. A packet that the client
// sent later may be done first; then the later packet counts [MQTT-3.8.4-3], [MQTT-3.10.4-2]. The mu
// of contests guards it.
type contest struct {
	waiting int    // SUBSCRIBEs for the filter that are being judged
	asked   uint64 // number of the last of them
	decided uint64 // number of the last packet that took effect
}

// contests holds the contests of a connection, by filter. Its mu may be locked while the session's
// is held; nothing else is locked under it.
type contests struct {
	mu       sync.Mutex
	byFilter map[string]*contest
}

// beginContests begins a contest for each filter of a SUBSCRIBE that plugins still judge.
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

// endContests ends what beginContests began.
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

// decide says whether the packet with a number still decides about a filter, and notes that it does.
// The session calls it under its own lock, so that packets take effect in the order in which they
// decide.
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

// overtakes decides for an UNSUBSCRIBE. It returns true if a SUBSCRIBE for the filter is still
// judged, which now has no effect. The session calls it under its own lock.
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
