package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Answered says how a packet of the client about a packet identifier is answered.
type Answered uint8

const (
	answeredNever   Answered = iota // no answer
	AnsweredNow                     // the answer may leave at once
	answeredLater                   // durable is called when the answer may leave
	AnsweredUnknown                 // the identifier is not in use
)

// OnAck takes a packet that ends a delivery: PUBACK for a message of QoS 1; PUBCOMP, or a PUBREC
// that refuses, for one of QoS 2. code is the reason code of the packet.
func (s *session) OnAck(c Link, kind packet.Type, id uint16, code byte, now time.Time) Answered {
	a, done := s.landed(c, kind, id, code, now)
	done.settle(code, s)
	return a
}

func (s *session) landed(c Link, kind packet.Type, id uint16, code byte, now time.Time) (a Answered, done Receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c {
		return answeredNever, done
	}
	f := s.outbox.flights[id]
	switch {
	case kind == packet.PUBREC && (f == nil || f.QoS != 2):
		return AnsweredUnknown, done
	case kind == packet.PUBACK && (f == nil || f.QoS != 1), kind == packet.PUBCOMP && (f == nil || !f.released):
		return answeredNever, done // a packet of an earlier connection
	}
	if code >= packet.CodeUnspecified {
		s.server.count.refusedByClient.Add(1)
	}
	if f.Log != nil {
		done = Receipt{f.Log, f.Record.Offset}
	}
	s.landLocked(f)
	s.pumpLocked(now)
	return answeredNever, done
}

// OnPubrec takes a PUBREC: the client has a message of QoS 2. The PUBREL that answers it is sent
// when that is durable, because the client may then use the identifier for a new message.
func (s *session) OnPubrec(c Link, id uint16, durable func(error)) Answered {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c {
		return answeredNever
	}
	f := s.outbox.flights[id]
	if f == nil || f.QoS != 2 {
		return AnsweredUnknown
	}
	again := f.released
	f.released = true
	if f.state == flightHeld {
		f.state = flightSent
	}
	s.outbox.lighten(f)
	f.Message, f.IDs, f.shared = nil, nil, nil // the client has the message
	if f.seq == 0 {
		return AnsweredNow
	}
	j := s.server.journal
	if !again { // in this order: a flight that has no entry and is not released counts as landed
		j.put(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		j.deleteEntry(s.number, &f.Item, false)
		f.body = 0
	}
	j.commit(durable)
	return answeredLater
}

// OnPubrel takes a PUBREL, after which the client may use the identifier again. The PUBCOMP is sent
// when that is durable, because the next message with the identifier is a new one. If now is true,
// the PUBCOMP may leave at once; otherwise answer is called. known is false if the identifier was
// not in use.
func (s *session) OnPubrel(c Link, id uint16, answer func(known bool, err error)) (known, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c {
		return false, false
	}
	waiting, known := s.incoming[id]
	known = known && waiting == nil // if the client repeats itself, the first PUBREL may not be durable yet
	keeps := s.stored.Load()
	if known {
		if keeps {
			s.server.journal.delete(incomingKey(s.number, id))
		}
		delete(s.incoming, id)
	}
	if !keeps {
		return known, true
	}
	s.server.journal.commit(func(err error) { answer(known, err) })
	return known, false
}
