package http

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/reader"
)

// reading is somebody who reads a log.
type reading struct {
	id          string // a secret of the member; empty: a reader of its own
	application string
	group       string
	reader      *reader.Reader
	stream      bool

	// Under the readers' lock.
	grant *access.Grant
	busy  bool // a request of the member is under way
	left  *time.Timer
	ended reason
}

// reason says why the gateway ended a reader.
type reason string

const (
	endedStopping reason = "the gateway is stopping; connect again"
	endedRights   reason = "the right to read the application is gone"
)

// readers are those who read logs over one listener.
type readers struct {
	mu      sync.Mutex
	list    map[*reading]struct{}
	members map[string]*reading // of groups, by their id
	stopped bool
}

var (
	errReaders = errors.New("as many read logs as may at once; try again")
	errMember  = errors.New("there is no such member, or it was away for too long: its events went to others; join the group again")
	errBusy    = errors.New("a request of this member is under way")
)

func (s *readers) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// open makes the reader of a request.
func (e *events) open(g *access.Grant, q *query, stream bool) (*reading, error) {
	s := &e.readers
	x := &reading{application: q.sub.Application, group: q.sub.Group, grant: g, stream: stream, busy: true}
	if q.sub.Group != "" {
		x.id = rand.Text()
	}
	s.mu.Lock()
	switch {
	case s.stopped:
		s.mu.Unlock()
		return nil, errReaders
	case len(s.list) >= e.server.cfg.MaxReaders:
		s.mu.Unlock()
		return nil, errReaders
	}
	s.list[x] = struct{}{} // a place, before the log is joined
	s.mu.Unlock()
	r, err := reader.Open(e.Logs, q.sub)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.list, x)
		return nil, err
	}
	x.reader = r
	if x.ended != "" { // meanwhile
		delete(s.list, x)
		r.Close()
		return nil, errReaders
	}
	if x.id != "" {
		s.members[x.id] = x
	}
	return x, nil
}

// member finds a member of a group for its next request. hold says that the request goes on
// for a while, and that the member's time does not run meanwhile.
func (s *readers) member(id string, g *access.Grant, application string, hold bool) (*reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.members[id]
	if x == nil || x.grant.Principal != g.Principal || x.application != application {
		return nil, errMember
	}
	if !hold {
		return x, nil
	}
	if x.busy {
		return nil, errBusy
	}
	x.busy = true
	if x.left != nil {
		x.left.Stop()
		x.left = nil
	}
	return x, nil
}

// rest is for after a request of a member: it is closed unless the next one comes in time.
func (s *readers) rest(x *reading, timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.busy = false
	if x.ended != "" {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(timeout, func() {
		s.mu.Lock()
		over := x.left == timer
		s.mu.Unlock()
		if over {
			s.close(x)
		}
	})
	x.left = timer
}

// touch lets the time of a member that rests begin anew.
func (s *readers) touch(x *reading, timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.left != nil {
		x.left.Reset(timeout)
	}
}

func (s *readers) close(x *reading) {
	s.mu.Lock()
	delete(s.list, x)
	delete(s.members, x.id)
	if x.left != nil {
		x.left.Stop()
		x.left = nil
	}
	r := x.reader
	s.mu.Unlock()
	if r != nil {
		r.Close()
	}
}

// end closes a reader with a reason, which its request tells its client.
func (s *readers) end(x *reading, why reason) {
	s.mu.Lock()
	x.ended = why
	s.mu.Unlock()
	s.close(x)
}

func (s *readers) why(x *reading) reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return x.ended
}

func (s *readers) all() (list []*reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.list {
		list = append(list, x)
	}
	return list
}

// stop ends all readers; nobody becomes one afterwards.
func (s *readers) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	for _, x := range s.all() {
		s.end(x, endedStopping)
	}
}

// Reconsider ends the readers that have lost the right to read because of a change.
func (s *Server) Reconsider(c access.Change) {
	if s.events == nil {
		return
	}
	e := s.events
	for _, x := range e.readers.all() {
		e.readers.mu.Lock()
		g := x.grant
		e.readers.mu.Unlock()
		if !c.Touches(g) {
			continue
		}
		n, err := e.Authority.Renew(g)
		if err != nil || !n.MayRead(x.application) {
			e.count.unentitled.Add(1)
			e.readers.end(x, endedRights)
			continue
		}
		e.readers.mu.Lock()
		x.grant = n
		e.readers.mu.Unlock()
	}
}
