package mqtt

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// will is a will message with the sender in whose name it goes.
type will struct {
	publish packet.Publish
	delay   time.Duration
	from    *Client
	spoken  bool // from is in whose name its credentials are

	// Where the store has it: the number of its session and its own; 0: nowhere.
	number, seq uint64
	due         time.Time // when it is to be sent; zero while its connection lives
}

func (w *will) key() store.Key { return willKey(w.number, w.seq) }

// store notes the will of a stored session, so that it outlives a crash.
func (w *will) store(s *session) {
	if w.seq == 0 {
		w.number, w.seq = s.number, s.server.journal.next()
	}
	s.server.journal.put(w.key(), w.append(nil))
}

// drop forgets a will that is not to be sent.
func (w *will) drop() {
	if w != nil && w.seq != 0 {
		w.from.sessions.journal.delete(w.key())
	}
}

// newWill copies the will of a CONNECT out of its frame.
func newWill(w *packet.Will, from *sender) *will {
	x := &will{from: from.Client, publish: packet.Publish{Topic: w.Topic, Payload: bytes.Clone(w.Payload), QoS: w.QoS, Retain: w.Retain}}
	if w.Props == nil {
		return x
	}
	props := *w.Props
	props.CorrelationData = bytes.Clone(props.CorrelationData)
	if props.WillDelay != nil {
		x.delay = time.Duration(*props.WillDelay) * time.Second
		props.WillDelay = nil
	}
	x.publish.Props = &props
	return x
}

// allowed says with which code a CONNECT is refused for the sake of its will,
// which must be a message that the client could publish; 0 is none.
//
// A will with credentials of its own goes in the name that they stand for.
func (w *will) allowed(from *sender) (code byte, reason string) {
	p := &w.publish
	v := from.server.improper(&from.via.Limits, p)
	g := from.granted()
	if !v.code.Refused() && g.PerMessage {
		var speaker *sender
		if speaker, v = from.speaker(g, p); speaker != nil {
			from, g = speaker, speaker.granted()
			w.from, w.spoken = speaker.Client, true
		}
	}
	if !v.code.Refused() {
		to, _ := parseCommand(g, p.Topic)
		v = from.mayPublish(g, p, to)
	}
	if v.code.Refused() {
		return connackCode(v.code), "will: " + v.reason
	}
	return 0, ""
}

// send publishes the will as its client would have. It is called without locks
// and may block on the router. A server that stops sends none: those that are
// stored go out after the restart.
func (w *will) send() {
	s := w.from.sessions
	if s.ctx.Err() != nil {
		return
	}
	s.count.wills.Add(1)
	if w.from.entrance == nil { // nobody knows any more what it may publish
		s.count.refusedPublishes.Add(1)
		s.log.Warn("a will is not sent, since the listener of its client is no more", "client", w.from.clientID, "listener", w.from.listener,
			"topic", w.publish.Topic)
		w.drop()
		return
	}
	w.from.entrance.PublishWill(w)
}
