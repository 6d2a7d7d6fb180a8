package session

import (
	"slices"
	"sync"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

type deviceKey struct{ application, device string }

// index finds the sessions of a device.
type index struct {
	mu      sync.RWMutex
	devices map[deviceKey]*device
}

// device is a device with its sessions, and with what the router was told about its connection.
type device struct {
	application, name string
	source            string

	mu         sync.Mutex
	sessions   []*session // never changed in place
	online     int        // connected sessions
	told       bool       // what the router was told last: the device is connected
	announcing bool       // a goroutine is telling the router
}

// add adds a session to its device, and returns the device, or nil if the client is none.
func (x *index) add(g *access.Grant, s *session) *device {
	if g.Device == "" {
		return nil
	}
	key := deviceKey{g.Application, g.Device}
	x.mu.Lock()
	defer x.mu.Unlock()
	d := x.devices[key]
	if d == nil {
		d = &device{application: g.Application, name: g.Device, source: stage.Source(g.Application, g.Device)}
		x.devices[key] = d
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions = append(slices.Clip(d.sessions), s)
	return d
}

// remove removes an ended session from its device.
func (x *index) remove(s *session) {
	d := s.device
	if d == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions = slices.DeleteFunc(slices.Clone(d.sessions), func(other *session) bool { return other == s })
	x.dropIfIdleLocked(d)
}

// dropIfIdleLocked removes a device without sessions, once the router knows that it is offline. The
// device's mu is held, too.
func (x *index) dropIfIdleLocked(d *device) {
	if len(d.sessions) == 0 && !d.told && !d.announcing {
		delete(x.devices, deviceKey{d.application, d.name})
	}
}

// find returns the sessions of a device.
func (x *index) find(application, name string) []*session {
	x.mu.RLock()
	d := x.devices[deviceKey{application, name}]
	x.mu.RUnlock()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions
}

// connected counts a connection (1) or its end (-1).
func (d *device) connected(n int) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.online += n
}

// announce tells the router that a device is online or offline, if it was told otherwise before.
// Only one goroutine tells at a time, so that the last event is true. The caller holds no lock; the
// router may block it.
func (s *Sessions) announce(d *device) {
	if d == nil {
		return
	}
	s.devices.mu.Lock()
	defer s.devices.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.announcing {
		return
	}
	d.announcing = true
	for d.told != (d.online > 0) {
		d.told = d.online > 0
		online := d.told
		d.mu.Unlock()
		s.devices.mu.Unlock()
		s.tell(d, online)
		s.devices.mu.Lock()
		d.mu.Lock()
	}
	d.announcing = false
	s.devices.dropIfIdleLocked(d)
}

// Announce tells the router that the session's device is online, if it does not know yet.
func (s *session) Announce() { s.server.announce(s.device) }

func (s *Sessions) tell(d *device, online bool) {
	if !s.Routes(d.application) {
		return
	}
	now := time.Now()
	data := `{"connected":false}`
	if online {
		data = `{"connected":true}`
	}
	s.router.Submit(&event.Inbound{
		Event: event.Event{
			ID: s.ids.Next(now), Source: d.source, Type: event.TypeConnection, Subject: "connection", Time: now.UTC(),
			Application: d.application, Device: d.name, Sender: d.name,
			DataContentType: "application/json", Data: []byte(data),
		},
		Transport: event.Transport{Protocol: "mqtt"},
	}, nil, func(stage.Outcome) {})
}
