package mqtt

import (
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// delivery is a plugin's message that waits for its commit.
type delivery struct {
	server      *Server
	application string
	publish     *event.Publish
}

// Prepare readies a plugin's message; Deliver sends it.
func (s *Server) Prepare(application string, p *event.Publish, _ *store.Batch) stage.Prepared {
	return &delivery{s, application, p}
}

func (d *delivery) Deliver() stage.Delivery { return d.server.Deliver(d.application, d.publish) }

func (d *delivery) Withdraw() {}

// Deliver sends a plugin's message. With p.Device it goes to that device: to its
// connection if one has a subscription that matches one of p.Topics (the first
// such topic is used), else into the queue of a persistent session that does,
// whatever the QoS: section 4.1 leaves it to the server to keep QoS 0 messages, and a
// command that was told to be queued has to be.
// Without p.Device it goes to every subscriber of the application, on the first
// of p.Topics that has any. p.Retain keeps it for later subscribers too. It never
// blocks. The result is the best that happened to the message; a message that
// the device's queue has no room for counts as NoDevice.
func (s *Server) Deliver(application string, p *event.Publish) stage.Delivery {
	if len(p.Topics) == 0 {
		return stage.NoDevice
	}
	now := time.Now()
	if p.Device == "" {
		return s.broadcast(application, p, now)
	}
	if p.Retain {
		sp := s.spaceOf(application)
		sp.mu.Lock()
		sp.retain(pluginMessage(p, p.Topics[0], now), now)
		sp.mu.Unlock()
	}
	sessions := s.devices.find(application, p.Device)
	for _, online := range []bool{true, false} {
		for _, ses := range sessions {
			if ses.online.Load() != online {
				continue
			}
			for _, topic := range p.Topics {
				m := pluginMessage(p, topic, now)
				if d, wanted := ses.offer(m, now); wanted && d != stage.NoDevice {
					return d
				}
			}
		}
	}
	return stage.NoDevice
}

// offer delivers a message to this session alone, if it subscribed to its topic.
func (s *session) offer(m *message, now time.Time) (d stage.Delivery, wanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, wanted := s.matching(m)
	if !wanted {
		return stage.NoDevice, false
	}
	if s.conn == nil && it.qos == 0 && s.persistent() && !s.ended && !s.full(now) {
		s.outbox.push(it)
		return stage.Queued, true
	}
	return s.accept(it, now), true
}

func (s *Server) broadcast(application string, p *event.Publish, now time.Time) stage.Delivery {
	sp := s.spaceOf(application)
	for i, topic := range p.Topics {
		m := pluginMessage(p, topic, now)
		m.retain = p.Retain && i == 0
		if best, matched := sp.publish(m, now); matched {
			return best
		}
	}
	return stage.NoDevice
}

// Reach says what would become of a message to a device: Delivered when it is
// connected, Queued when it has a persistent session.
func (s *Server) Reach(application, name string) stage.Delivery {
	sessions := s.devices.find(application, name)
	best := stage.NoDevice
	for _, ses := range sessions {
		if ses.online.Load() {
			return stage.Delivered
		}
		best = stage.Queued // an offline session that is not persistent has ended
	}
	return best
}
