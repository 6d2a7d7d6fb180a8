package session

import (
	"fmt"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// logState is how far a subscription to a log is.
type logState uint8

const (
	logJoining logState = iota // records wait for the SUBACK
	logReading                 // records go to the client
	logLeft                    // it is no member of its group any more
)

// LogSubscription is a subscription of a connection to the log of an application. When
// the connection ends, it leaves; a persistent session gets a new one like it on
// its next connection.
type LogSubscription struct {
	session *session
	link    Link
	Filter  string // as it was given
	Topic   string // what records are delivered on
	Log     stage.Subscription
	Where   string // CESQL that chooses records, as it was given; Log.Filter is it, parsed
	Binary  bool   // content mode
	QoS     byte
	IDs     []uint32

	// Under the session's lock.
	member  stage.Membership
	state   logState
	early   []stage.Record // came before it
	scratch []byte         // to render into
}

// Receipt is a record whose delivery is over.
type Receipt struct {
	Log    *LogSubscription
	Offset uint64
}

// settle tells the log that the client is done with a record. A client that
// refuses one would refuse it again, so that it is not redelivered: it is counted
// and logged.
func (r Receipt) settle(code byte, s *session) {
	if r.Log == nil {
		return
	}
	if code >= packet.CodeUnspecified {
		s.server.log.Warn("consumer refused an event", "client", s.key.clientID, "application", r.Log.Log.Application,
			"offset", r.Offset, "code", code)
	}
	r.Log.Ack(r.Offset)
}

// Ack is called without locks.
func (r *LogSubscription) Ack(offset uint64) { r.member.Ack(offset) }

// join makes the subscription a member of its group. Where the connection ended
// meanwhile it leaves at once.
func (r *LogSubscription) join() error {
	member, err := r.session.server.logs.Join(r.Log, r.deliver)
	if err != nil {
		return fmt.Errorf("joining the log of application %s: %w", r.Log.Application, err)
	}
	s := r.session
	s.mu.Lock()
	r.member = member
	current := s.link == r.link
	if current {
		if s.logSubs == nil {
			s.logSubs = make(map[string]*LogSubscription)
		}
		s.logSubs[r.Filter] = r
	} else {
		r.state = logLeft
	}
	s.mu.Unlock()
	if !current {
		member.Leave()
	}
	return nil
}

// startLocked lets records through. The caller holds the session's lock.
func (r *LogSubscription) startLocked() {
	if r.state == logLeft {
		return
	}
	r.state = logReading
	for _, record := range r.early {
		r.pushLocked(record)
	}
	r.early = nil
	r.session.pumpLocked(time.Now())
}

// deliver takes a record from the log.
func (r *LogSubscription) deliver(record stage.Record) {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.state == logLeft:
	case r.state == logJoining:
		r.early = append(r.early, record)
	default:
		r.pushLocked(record)
		s.pumpLocked(time.Now())
	}
}

func (r *LogSubscription) pushLocked(record stage.Record) {
	r.session.outbox.push(Item{Log: r, Record: record, QoS: r.QoS, IDs: r.IDs})
}

// removeLogLocked takes a reader out of the session, and its records with it. The caller
// holds the lock, and calls leaveAll after unlocking.
func (s *session) removeLogLocked(r *LogSubscription) *LogSubscription {
	delete(s.logSubs, r.Filter)
	r.state = logLeft
	s.outbox.dropRecords(r)
	return r
}

// leaveAll gives what readers had in hand to other members of their groups. It
// is called without locks.
func leaveAll(readers []*LogSubscription) {
	for _, r := range readers {
		if r.member != nil {
			r.member.Leave()
		}
	}
}

// LostLogs are the subscriptions to logs of a resumed session, anew, which it lost with its
// last connection. Without binary they are in structured mode.
func (s *session) LostLogs(c Link, binary bool) (again []*LogSubscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.logSubs {
		if old.state == logLeft && s.link == c {
			r := &LogSubscription{session: s, link: c, Filter: old.Filter, Topic: old.Topic, Log: old.Log,
				Where: old.Where, Binary: old.Binary && binary, QoS: old.QoS, IDs: old.IDs}
			r.Log.Start = stage.Start{}
			again = append(again, r)
		}
	}
	return again
}

// Rejoin joins the log once more and lets records through.
func (r *LogSubscription) Rejoin() error {
	if err := r.join(); err != nil {
		return err
	}
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.startLocked()
	return nil
}

// SubscribeLog makes the session a reader of a log, in the place of an earlier
// subscription by the same filter. Records come once start was called. It may block, and
// is called without locks.
func (s *session) SubscribeLog(c Link, r *LogSubscription) error {
	r.session, r.link = s, c
	s.mu.Lock()
	if r.Log.Group == "" && (s.persistentLocked() || r.Log.Start.Kind == stage.StartResume) {
		r.Log.Group = "c." + s.key.namespace + "/" + s.key.clientID
	}
	old := s.logSubs[r.Filter]
	full := old == nil && len(s.subs)+len(s.logSubs) >= s.terms.Subscriptions
	var gone []*LogSubscription
	if old != nil {
		gone = append(gone, s.removeLogLocked(old))
	}
	s.mu.Unlock()
	leaveAll(gone)
	if full {
		return &stage.Error{Code: event.QuotaExceeded, Reason: "the session has too many subscriptions"}
	}
	return r.join()
}
