package router

import (
	"errors"
	"time"

	"tributary.io/sdk-plugin/event"
)

var errUnrouted = errors.New("no route takes this event")

// shelveUnrouted puts a published message into quarantine if no route takes it and no
// subscriber could. Its device may have heard that it was accepted, and without the quarantine
// nobody would ever see it.
func (s *shard) shelveUnrouted(j *job, p *plan) {
	if !p.unrouted || j.in.Event.Type != event.TypePublish {
		return
	}
	if messaging, known := s.r.registry.Messaging(j.in.Event.Application); messaging || !known {
		return
	}
	p.shelved = true
	s.shelve(j, nil, errUnrouted.Error())
}

// unrouted counts an event that shelveUnrouted put into quarantine, and tells the operator.
func (r *Router) unrouted(in *event.Inbound) {
	r.metrics.quarantined.Add(1)
	r.metrics.unrouted.Add(1)
	if n := r.told.Count(in.Event.Application, time.Now()); n > 0 {
		r.log.Warn("no route takes what a device published, so it is in quarantine; correct the routes in gateway.toml",
			"application", in.Event.Application, "device", in.Event.Device, "topic", in.Transport.Topic, "events", n)
	}
}
