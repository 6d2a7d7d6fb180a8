package session

import (
	"slices"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// delivery is a message of a plugin that waits for its commit.
type delivery struct {
	server      *Sessions
	application string
	client      string // identifier of the client whose event the plugin handled
	publish     *event.Publish
	reserved    reservations
	unretained  bool // the limits do not allow to retain the message
}

// Prepare implements the router's downlink. It finds the stored sessions that the message is for,
// and adds their entries to the batch. Deliver later sends to these sessions, even if others have
// subscribed since.
func (s *Sessions) Prepare(application, client string, p *event.Publish, b *store.Batch) stage.Prepared {
	d := &delivery{server: s, application: application, client: client, publish: p}
	if s.journal == nil || len(p.Topics) == 0 {
		return d
	}
	now := time.Now()
	sp := s.spaceOf(application)
	if p.Retain {
		d.unretained = !sp.prepareRetained(pluginMessage(p, p.Topics[0], now), b, now)
	}
	if sp.storedSessions.Load() == 0 {
		return d
	}
	if p.Device == "" {
		for _, topic := range p.Topics {
			m := pluginMessage(p, topic, now)
			if d.reserved.prepare(sp, m, b, now); sp.subscribed(m) {
				break
			}
		}
		return d
	}
	d.reserved.server = s
	d.candidates(now, func(ses *session, m *Message) (done bool) {
		it, wanted := ses.reserveFor(m, now)
		if it.seq != 0 {
			d.reserved.entries = append(d.reserved.entries, reservation{session: ses, item: it})
			d.reserved.write(m, b)
		}
		return wanted
	})
	return d
}

// Deliver sends the message, and never blocks. best is the best that happened to it.
//
// If p.Device is set, the message goes to that device: to its connection if a subscription matches
// one of p.Topics (the first such topic is used), otherwise into the queue of a persistent session
// with such a subscription. The queue takes messages of any QoS: section 4.1 allows to store QoS 0,
// and a command whose sender was told that it is queued has to be. A message that finds no room in
// the queue counts as NoDevice.
//
// If p.Device is empty, the message goes to every subscriber of the application, on the first of
// p.Topics that has any. p.Retain also keeps it for later subscribers.
//
// late says that a session got its entry only now, because it was not stored, or not among the
// receivers, when the commit was prepared. The entry is durable when the next commit is. An answer
// that goes only to the connection that asked is never late.
func (d *delivery) Deliver() (best stage.Delivery, late bool) {
	if len(d.publish.Topics) == 0 {
		return stage.NoDevice, false
	}
	defer d.reserved.finish()
	if now := time.Now(); d.publish.Device == "" {
		best = d.broadcast(now)
	} else {
		best = d.deliverToDevice(now)
	}
	if d.reserved.late {
		d.server.journal.commit(nil)
	}
	return best, d.reserved.late
}

// deliverToDevice delivers the message to its device.
func (d *delivery) deliverToDevice(now time.Time) (best stage.Delivery) {
	s, p := d.server, d.publish
	if p.Retain && !d.unretained {
		sp := s.spaceOf(d.application)
		sp.mu.Lock()
		sp.retainLocked(pluginMessage(p, p.Topics[0], now), now)
		sp.mu.Unlock()
	}
	d.candidates(now, func(ses *session, m *Message) (done bool) {
		got, wanted := ses.offer(m, &d.reserved, now)
		best = max(best, got)
		return wanted && got != stage.NoDevice
	})
	if best == stage.NoDevice && p.Answer {
		m := pluginMessage(p, p.Topics[0], now)
		for _, ses := range d.addressees() {
			if best = ses.answer(m, now); best != stage.NoDevice {
				break
			}
		}
	}
	return best
}

// answer delivers a message to the session's connection, if there is one, even without a
// subscription.
func (s *session) answer(m *Message, now time.Time) stage.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return stage.NoDevice
	}
	d, _ := s.deliverLocked(Item{Message: m, QoS: m.QoS}, now)
	return d
}

// Reply delivers a message to a connection that asked for it, if it still has the session. No
// subscription is needed.
func (s *session) Reply(c Link, m *Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == c {
		s.deliverLocked(Item{Message: m, QoS: m.QoS}, time.Now())
	}
}

// Withdraw implements stage.Prepared.
func (d *delivery) Withdraw() { d.reserved.release() }

// candidates calls fn for each session of the device and each topic of the message until fn returns
// true. Connected sessions come first.
func (d *delivery) candidates(now time.Time, fn func(*session, *Message) (done bool)) {
	sessions, p := d.addressees(), d.publish
	order := make([]*session, 0, len(sessions)) // decided once, because clients come and go meanwhile
	for _, ses := range sessions {
		if ses.online.Load() {
			order = append(order, ses)
		}
	}
	connected := len(order)
	for _, ses := range sessions {
		if !slices.Contains(order[:connected], ses) {
			order = append(order, ses)
		}
	}
	for _, ses := range order {
		for _, topic := range p.Topics {
			if fn(ses, pluginMessage(p, topic, now)) {
				return
			}
		}
	}
}

// addressees returns the sessions of the device that a message is for. An answer is only for the
// session of the client that asked, if it is connected.
func (d *delivery) addressees() []*session {
	sessions := d.server.devices.find(d.application, d.publish.Device)
	if d.publish.Answer && len(sessions) > 1 {
		for i, ses := range sessions {
			if ses.key.clientID == d.client && ses.online.Load() {
				return sessions[i : i+1]
			}
		}
	}
	return sessions
}

// reserveFor reserves a place for a message to this session alone. wanted says whether the session
// subscribed to the topic. Only a stored session gets an entry.
func (s *session) reserveFor(m *Message, now time.Time) (it Item, wanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it, wanted = s.matchLocked(m); !wanted || s.state == sessionEnded {
		return it, false
	}
	if s.fullLocked(now) {
		return it, false
	}
	if s.stored.Load() && (it.QoS > 0 || s.awayLocked()) {
		it.seq = s.server.journal.next()
		s.outbox.reserved++
		s.outbox.reservedBytes += m.size()
	}
	return it, true
}

// offer delivers a message to this session alone. wanted says whether the session subscribed to the
// topic.
func (s *session) offer(m *Message, reserved *reservations, now time.Time) (d stage.Delivery, wanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, wanted := s.matchLocked(m)
	if !wanted {
		return stage.NoDevice, false
	}
	reserved.use(s, &it)
	defer func() { reserved.noteDelivered(s, &it, d) }()
	if s.awayLocked() && it.QoS == 0 && s.persistentLocked() && s.state != sessionEnded && (it.seq != 0 || !s.fullLocked(now)) {
		if it.seq != 0 {
			s.outbox.unreserve(m.size())
		}
		s.enqueueLocked(it)
		return stage.Queued, true
	}
	d, _ = s.deliverLocked(it, now)
	return d, true
}

func (d *delivery) broadcast(now time.Time) stage.Delivery {
	sp := d.server.spaceOf(d.application)
	for i, topic := range d.publish.Topics {
		m := pluginMessage(d.publish, topic, now)
		m.retain = d.publish.Retain && i == 0 && !d.unretained
		if f := sp.publish(m, &d.reserved, now); f.Matched {
			return f.Best
		}
	}
	return stage.NoDevice
}

// Reach returns what would happen to a message for a device: Delivered if it is connected, Queued if
// it has a persistent session, otherwise NoDevice.
func (s *Sessions) Reach(application, name string) stage.Delivery {
	sessions := s.devices.find(application, name)
	best := stage.NoDevice
	for _, ses := range sessions {
		if ses.online.Load() {
			return stage.Delivered
		}
		best = stage.Queued // a session that is not persistent ends with its connection
	}
	return best
}
