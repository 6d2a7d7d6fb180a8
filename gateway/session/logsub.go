package session

import (
	"fmt"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// logState is the state of a subscription to a log.
type logState uint8

const (
	logJoining logState = iota // records wait until SUBACK was sent
	logReading                 // records go to the client
	logLeft                    // it is no longer a member of its group
)

// LogSubscription is a subscription of a connection to the log of an application. It leaves its
// group when the connection ends. A persistent session gets a new one like it with its next
// connection.
type LogSubscription struct {
	session *session
	link    Link
	Filter  string // as the client wrote it
	Topic   string // topic of the PUBLISHes
	Log     stage.Subscription
	Where   string // CESQL that selects records, as the client wrote it; Log.Filter is the parsed form
	Binary  bool   // binary content mode
	QoS     byte
	IDs     []uint32

	// The session's mu guards these.
	member  stage.Membership
	state   logState
	early   []stage.Record // records that came while joining
	scratch []byte         // reused by Render
}

// Receipt is a record that was delivered.
type Receipt struct {
	Log    *LogSubscription
	Offset uint64
}

// settle tells the log that the client is done with a record. A record that the client refuses is
// counted and logged, and not delivered again: the client would refuse it again.
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

// Ack acknowledges a record to the log. The caller holds no lock.
func (r *LogSubscription) Ack(offset uint64) { r.member.Ack(offset) }

// join makes the subscription a member of its group. It leaves again at once if the connection has
// ended meanwhile.
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

// startLocked lets records through. The session's mu is held.
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

// removeLogLocked removes a subscription to a log from the session, with its records. The caller
// passes it to leaveAll after unlocking.
func (s *session) removeLogLocked(r *LogSubscription) *LogSubscription {
	delete(s.logSubs, r.Filter)
	r.state = logLeft
	s.outbox.dropRecords(r)
	return r
}

// leaveAll makes subscriptions leave their groups, whose other members get the unacknowledged
// records. The caller holds no lock.
func leaveAll(readers []*LogSubscription) {
	for _, r := range readers {
		if r.member != nil {
			r.member.Leave()
		}
	}
}

// LostLogs returns new subscriptions to the logs that a resumed session left with its last
// connection. If binary is false, they use structured mode.
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

// Rejoin joins the log again and lets records through.
func (r *LogSubscription) Rejoin() error {
	if err := r.join(); err != nil {
		return err
	}
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.startLocked()
	return nil
}

// SubscribeLog subscribes the session to a log. An earlier subscription with the same filter ends.
// Records are held until Subscribe has answered the client. It may block; the caller holds no lock.
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
