package session

import (
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// Will is a will message with the client that it is published for.
type Will struct {
	Publish    packet.Publish
	Delay      time.Duration
	Client     *Client
	PerMessage bool // Client is the one that the message's own credentials name

	// Its key in the store: the number of its session, and its own; 0: the store does not have it.
	number, seq uint64
	due         time.Time // when it has to be published; zero while its connection lives
}

func (w *Will) key() store.Key { return willKey(w.number, w.seq) }

// store records the will of a stored session, so that it outlives a crash.
func (w *Will) store(s *session) {
	if w.seq == 0 {
		w.number, w.seq = s.number, s.server.journal.next()
	}
	s.server.journal.put(w.key(), w.append(nil))
}

// Drop deletes a will that will not be published. w may be nil.
func (w *Will) Drop() {
	if w != nil && w.seq != 0 {
		w.Client.sessions.journal.delete(w.key())
	}
}

// publish publishes the will as its client would publish it. The caller holds no lock; the router
// may block it. A server that stops publishes none: stored wills are published after the restart.
func (w *Will) publish() {
	s := w.Client.sessions
	if s.ctx.Err() != nil {
		return
	}
	s.count.wills.Add(1)
	if w.Client.entrance == nil { // nobody knows what it may publish
		s.count.dropped[dropRevoked].Add(1)
		s.log.Warn("a will is not sent, since the listener of its client is no more", "client", w.Client.ClientID, "listener", w.Client.listener,
			"topic", w.Publish.Topic)
		w.Drop()
		return
	}
	w.Client.entrance.PublishWill(w)
}
