package session

import "tributary.io/gateway/store"

// Arrival is an inbound message of QoS 2 that awaits its verdict. It holds its packet identifier. If
// the message is accepted, the identifier stays in use until the client sends PUBREL.
type Arrival struct {
	id     uint16
	marked bool            // the commit of the message stores the identifier
	again  []func(Verdict) // answer messages that were repeated meanwhile
}

// arrivalState says what a session knows of a packet identifier.
type arrivalState uint8

const (
	ArrivalNew      arrivalState = iota // it was free, and is taken now
	arrivalPending                      // its message awaits the verdict, maybe since an earlier connection
	ArrivalAccepted                     // its message was accepted, and no PUBREL came yet
	ArrivalFull                         // it is free, but the client holds too many
	ArrivalStale                        // the connection no longer has the session
)

// TakeQoS2ID takes a packet identifier for a message of QoS 2. The client may hold at most so many.
func (s *session) TakeQoS2ID(c Link, id uint16, most int) (*Arrival, arrivalState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != c { // the client has sent it again on its new connection, and may have finished it
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

// AnswerRepeated answers a repeated message as soon as the first one has its verdict. If it has one
// already, again is not called, kept is false, and accepted says whether the message was accepted.
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

// FinishQoS2 notes the verdict on a message of QoS 2. If the message was accepted, its identifier
// waits for the PUBREL; otherwise the identifier is free. Repeated messages get the same answer.
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
		if s.stored.Load() && !a.marked { // no commit stored it
			s.server.journal.put(incomingKey(s.number, a.id), []byte{recordVersion})
			s.server.journal.commit(nil)
		}
	}
	s.mu.Unlock()
	for _, answer := range again {
		answer(v)
	}
}

// addToCommit adds the identifier of a message to the message's commit, if the store has the
// session.
func (s *session) addToCommit(a *Arrival, b *store.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored.Load() && s.state != sessionEnded {
		b.Puts = append(b.Puts, store.Put{Key: incomingKey(s.number, a.id), Value: []byte{recordVersion}})
		a.marked = true
	}
}
