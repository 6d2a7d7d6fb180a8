package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// Will is a will message with the sender in whose name it goes.
type Will struct {
	Publish    packet.Publish
	Delay      time.Duration
	Client     *Client
	PerMessage bool // from is in whose name its credentials are

	// Where the store has it: the number of its session and its own; 0: nowhere.
	number, seq uint64
	due         time.Time // when it is to be sent; zero while its connection lives
}

func (w *Will) key() store.Key { return willKey(w.number, w.seq) }

// store notes the will of a stored session, so that it outlives a crash.
func (w *Will) store(s *session) {
	if w.seq == 0 {
		w.number, w.seq = s.number, s.server.journal.next()
	}
	s.server.journal.put(w.key(), w.append(nil))
}

// Drop forgets a will that is not to be sent.
func (w *Will) Drop() {
	if w != nil && w.seq != 0 {
		w.Client.sessions.journal.delete(w.key())
	}
}

// publish publishes the will as its client would have. It is called without locks
// and may block on the router. A server that stops sends none: those that are
// stored go out after the restart.
func (w *Will) publish() {
	s := w.Client.sessions
	if s.ctx.Err() != nil {
		return
	}
	s.count.wills.Add(1)
	if w.Client.entrance == nil { // nobody knows any more what it may publish
		s.count.dropped[dropRevoked].Add(1)
		s.log.Warn("a will is not sent, since the listener of its client is no more", "client", w.Client.ClientID, "listener", w.Client.listener,
			"topic", w.Publish.Topic)
		w.Drop()
		return
	}
	w.Client.entrance.PublishWill(w)
}
