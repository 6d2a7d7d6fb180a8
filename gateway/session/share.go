package session

import "time"

// choose returns the member of a group that gets the next message: in turn among those
// that are connected, else in turn among those whose session waits. It returns nil for a
// message that no member can get.
func choose(g *group, qos byte) *subscription {
	members, start := g.Members(), g.NextTurn()
	var offline *subscription
	for i := range members {
		sub := members[(start+i)%len(members)]
		if sub.session.online.Load() {
			return sub
		}
		if offline == nil && min(sub.qos, qos) > 0 {
			offline = sub
		}
	}
	return offline
}

// orphans are the messages of a session that ends which came by a shared
// subscription: another member ought to get them, section 4.8.2.
func (o *outbox) orphans() (list []Item) {
	for _, f := range o.flights {
		if f.orphan() && f.Message != nil {
			list = append(list, f.Item)
		}
	}
	for _, it := range o.queue[o.head:] {
		if it.shared != nil && it.QoS > 0 {
			list = append(list, it)
		}
	}
	return list
}

// orphan says whether another member of a shared group may get the message of a flight. One
// of QoS 2 that was sent is this client's alone [MQTT-4.8.2-5].
func (f *flight) orphan() bool {
	return f.shared != nil && !f.void && (f.QoS == 1 || f.QoS == 2 && !f.tried && !f.released)
}

// adopt delivers orphans to other members of their groups. It is called without
// locks.
func (sp *space) adopt(orphans []Item) {
	now := time.Now()
	for _, it := range orphans {
		if sub := sp.another(it.shared, it.Message.QoS); sub != nil {
			sp.handOut(it.Message, sub, nil, now)
		}
	}
}
