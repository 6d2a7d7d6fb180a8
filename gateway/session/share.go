package session

import "time"

// choose returns the member of a group that gets the next message: in turn among the connected
// members, or if none is connected, among those whose sessions can queue it. It returns nil if no
// member can get the message.
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

// orphans returns the messages of an ended session that came by a shared subscription, and that
// another member should get, section 4.8.2.
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

// orphan says whether another member of the shared group may get the message of a flight. A message
// of QoS 2 that was sent belongs to this client alone [MQTT-4.8.2-5].
func (f *flight) orphan() bool {
	return f.shared != nil && !f.void && (f.QoS == 1 || f.QoS == 2 && !f.tried && !f.released)
}

// adopt delivers orphans to other members of their groups. The caller holds no lock.
func (sp *space) adopt(orphans []Item) {
	now := time.Now()
	for _, it := range orphans {
		if sub := sp.another(it.shared, it.Message.QoS); sub != nil {
			sp.handOut(it.Message, sub, nil, now)
		}
	}
}
