package session

import "tributary.io/gateway/store"

// Arrival is an inbound message of QoS 2 whose outcome is awaited. Until then its packet
// identifier is taken by it, and afterwards, if the message was accepted, by nobody until
// the client releases it (PUBREL).
type Arrival struct {
	id     uint16
	marked bool            // the identifier is in the commit of the message
	again  []func(Verdict) // repetitions of the message that came meanwhile
}

// arrivalState is what a session knows of a packet identifier.
type arrivalState uint8

const (
	ArrivalNew      arrivalState = iota // it is free, and now taken
	arrivalPending                      // its message awaits the outcome, since an earlier connection maybe
	ArrivalAccepted                     // its message was accepted and not released
	ArrivalFull                         // it is free, but the client holds too many
	ArrivalStale                        // the connection has the session no more
)

// TakeQoS2ID takes a packet identifier of the client for a message of QoS 2, of which it may
// hold most at once.
func (s *session) TakeQoS2ID(c Link, id uint16, most int) (*Arrival, arrivalState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c { // the client has said it again on its new connection, and may be done with it
		return nil, ArrivalStale
	}
	a, known := s.incoming[id]
	switch {
	case a != nil:
		return a, arrivalPending
	case known:
		return nil, ArrivalAccepted
	case len(s.incoming) >= most:
		return nil, ArrivalFull
	}
	a = &Arrival{id: id}
	if s.incoming == nil {
		s.incoming = make(map[uint16]*Arrival)
	}
	s.incoming[id] = a
	return a, ArrivalNew
}

// AnswerRepeated has a repetition of a message answered when the outcome is known. If it is
// known by now, again is not kept, and the result says whether the message was accepted.
func (s *session) AnswerRepeated(id uint16, again func(Verdict)) (kept, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, known := s.incoming[id]
	if a != nil {
		a.again = append(a.again, again)
		return true, false
	}
	return false, known
}

// FinishQoS2 notes the verdict on a message of QoS 2: if it was accepted, its identifier
// waits for the PUBREL; if it was refused, the identifier is free. Repetitions get the same
// answer.
func (s *session) FinishQoS2(a *Arrival, v Verdict) {
	s.mu.Lock()
	if s.incoming[a.id] != a {
		s.mu.Unlock()
		return
	}
	again := a.again
	a.again = nil
	if v.Undecided || v.Code.Refused() {
		delete(s.incoming, a.id)
	} else {
		s.incoming[a.id] = nil
		if s.stored.Load() && !a.marked { // nothing was prepared for it
			s.server.journal.put(incomingKey(s.number, a.id), []byte{recordVersion})
			s.server.journal.commit(nil)
		}
	}
	s.mu.Unlock()
	for _, answer := range again {
		answer(v)
	}
}

// addToCommit adds the identifier of a message to its commit, if the store has the session.
func (s *session) addToCommit(a *Arrival, b *store.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored.Load() && s.state != sessionEnded {
		b.Puts = append(b.Puts, store.Put{Key: incomingKey(s.number, a.id), Value: []byte{recordVersion}})
		a.marked = true
	}
}
