package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Answered is how a session takes what the client says of a packet identifier.
type Answered uint8

const (
	answeredNever   Answered = iota // nothing is to be said
	AnsweredNow                     // the answer may leave at once
	answeredLater                   // durable is called when it may leave
	AnsweredUnknown                 // there is no such identifier
)

// OnAck takes the client's word that it is done with a message: PUBACK for one of
// QoS 1, PUBCOMP, or a PUBREC that refuses, for one of QoS 2. code is that of the packet.
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
		return answeredNever, done // of a connection long gone
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

// OnPubrec takes the client's word that it has a message of QoS 2 (PUBREC). The PUBREL
// that answers it leaves when that is durable: after it the client may take the
// identifier for a new message.
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
	f.Message, f.IDs, f.shared = nil, nil, nil // the client has it
	if f.seq == 0 {
		return AnsweredNow
	}
	j := s.server.journal
	if !again { // in this order: a flight that lacks its entry and was not released has landed
		j.put(queueKey('f', s.number, f.seq), appendFlight(nil, f))
		j.deleteEntry(s.number, &f.Item, false)
		f.body = 0
	}
	j.commit(durable)
	return answeredLater
}

// OnPubrel takes a PUBREL: the identifier may be used anew. The PUBCOMP leaves when
// that is durable, for after it a message with this identifier is a new one: now says that
// it may leave at once, else answer is called. known is false if there was nothing to release.
func (s *session) OnPubrel(c Link, id uint16, answer func(known bool, err error)) (known, now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c {
		return false, false
	}
	waiting, known := s.incoming[id]
	known = known && waiting == nil // else said twice, maybe: the first may not be durable yet
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
