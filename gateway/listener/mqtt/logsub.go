package mqtt

import (
	"fmt"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// logSubscription is a subscription of a connection to the log of an application. When
// the connection ends, it leaves; a persistent session gets a new one like it on
// its next connection.
type logSubscription struct {
	session *session
	link    Link
	filter  string // as it was given
	topic   string // what records are delivered on
	log     stage.Subscription
	binary  bool // content mode
	qos     byte
	ids     []uint32

	// Under the session's lock.
	member  stage.Membership
	started bool // the SUBACK went, so records may
	left    bool
	early   []stage.Record // came before it
	scratch []byte         // to render into
}

// receipt is a record whose delivery is over.
type receipt struct {
	from   *logSubscription
	offset uint64
}

// settle tells the log that the client is done with a record. A client that
// refuses one would refuse it again, so that it is not redelivered: it is counted
// and logged.
func (r receipt) settle(code byte, s *session) {
	if r.from == nil {
		return
	}
	if code >= packet.CodeUnspecified {
		s.server.log.Warn("consumer refused an event", "client", s.key.clientID, "application", r.from.log.Application,
			"offset", r.offset, "code", code)
	}
	r.from.ack(r.offset)
}

// ack is called without locks.
func (r *logSubscription) ack(offset uint64) { r.member.Ack(offset) }

// join makes the subscription a member of its group. Where the connection ended
// meanwhile it leaves at once.
func (r *logSubscription) join() error {
	member, err := r.session.server.logs.Join(r.log, r.deliver)
	if err != nil {
		return fmt.Errorf("joining the log of application %s: %w", r.log.Application, err)
	}
	s := r.session
	s.mu.Lock()
	r.member = member
	current := s.link == r.link && !s.ended
	if current {
		if s.logSubs == nil {
			s.logSubs = make(map[string]*logSubscription)
		}
		s.logSubs[r.filter] = r
	} else {
		r.left = true
	}
	s.mu.Unlock()
	if !current {
		member.Leave()
	}
	return nil
}

// start lets records through. The caller holds the session's lock.
func (r *logSubscription) start() {
	r.started = true
	for _, record := range r.early {
		r.push(record)
	}
	r.early = nil
	r.session.pump(time.Now())
}

// deliver takes a record from the log.
func (r *logSubscription) deliver(record stage.Record) {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.left:
	case !r.started:
		r.early = append(r.early, record)
	default:
		r.push(record)
		s.pump(time.Now())
	}
}

func (r *logSubscription) push(record stage.Record) {
	r.session.outbox.push(item{from: r, record: record, qos: r.qos, ids: r.ids})
}

// remove takes a reader out of the session, and its records with it. The caller
// holds the lock, and calls leaveAll after unlocking.
func (s *session) remove(r *logSubscription) *logSubscription {
	delete(s.logSubs, r.filter)
	r.left = true
	s.outbox.forget(r)
	return r
}

// leaveAll gives what readers had in hand to other members of their groups. It
// is called without locks.
func leaveAll(readers []*logSubscription) {
	for _, r := range readers {
		if r.member != nil {
			r.member.Leave()
		}
	}
}

// lostLogs are the subscriptions to logs of a resumed session, anew, which it lost with its
// last connection. Without binary they are in structured mode.
func (s *session) lostLogs(c Link, binary bool) (again []*logSubscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.logSubs {
		if old.left && s.link == c {
			r := &logSubscription{session: s, link: c, filter: old.filter, topic: old.topic, log: old.log,
				binary: old.binary && binary, qos: old.qos, ids: old.ids}
			r.log.Start = stage.Start{}
			again = append(again, r)
		}
	}
	return again
}

// rejoin joins the log once more and lets records through.
func (r *logSubscription) rejoin() error {
	if err := r.join(); err != nil {
		return err
	}
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.start()
	return nil
}

// subscribeLog makes the session a reader of a log, in the place of an earlier
// subscription by the same filter. Records come once start was called. It may block, and
// is called without locks.
func (s *session) subscribeLog(c Link, r *logSubscription) error {
	r.session, r.link = s, c
	s.mu.Lock()
	if r.log.Group == "" && (s.persistent() || r.log.Start.Kind == stage.StartResume) {
		r.log.Group = "c." + s.key.namespace + "/" + s.key.clientID
	}
	old := s.logSubs[r.filter]
	full := old == nil && len(s.subs)+len(s.logSubs) >= s.terms.Subscriptions
	var gone []*logSubscription
	if old != nil {
		gone = append(gone, s.remove(old))
	}
	s.mu.Unlock()
	leaveAll(gone)
	if full {
		return &stage.Error{Code: stage.QuotaExceeded, Reason: "the session has too many subscriptions"}
	}
	return r.join()
}
