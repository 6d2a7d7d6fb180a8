package router

import (
	"errors"
	"sync"
	"time"

	"tributary.io/sdk-plugin/event"
)

var errUnrouted = errors.New("no route takes this event")

// shelveUnrouted puts what a device published into quarantine where no route takes it and no
// subscriber could: its device is told that it is accepted, if its protocol can tell
// anything, and nobody else would ever see it.
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
	if n := r.told.count(in.Event.Application, time.Now()); n > 0 {
		r.log.Warn("no route takes what a device published, so it is in quarantine; correct the routes in gateway.toml",
			"application", in.Event.Application, "device", in.Event.Device, "topic", in.Transport.Topic, "events", n)
	}
}

// unroutedCounts bounds how often the log tells of them: once a minute for each application.
type unroutedCounts struct {
	mu   sync.Mutex
	apps map[string]*unroutedCount
}

type unroutedCount struct {
	since time.Time // when the log told last
	n     int       // events since then
}

const (
	unroutedInterval = time.Minute
	mostUnrouted     = 1024 // applications that are remembered at once
)

// count counts an event, and returns how many the log should tell of now: 0 is none.
func (c *unroutedCounts) count(application string, now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.apps[application]
	if x == nil {
		if c.apps == nil || len(c.apps) >= mostUnrouted {
			c.apps = map[string]*unroutedCount{}
		}
		c.apps[application] = &unroutedCount{since: now}
		return 1
	}
	x.n++
	if now.Sub(x.since) < unroutedInterval {
		return 0
	}
	n := x.n
	x.since, x.n = now, 0
	return n
}
