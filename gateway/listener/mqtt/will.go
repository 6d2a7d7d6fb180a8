package mqtt

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// will is a will message with the sender in whose name it goes.
type will struct {
	publish packet.Publish
	delay   time.Duration
	from    *sender
}

// newWill copies the will of a CONNECT out of its frame.
func newWill(w *packet.Will, from *sender) *will {
	x := &will{from: from, publish: packet.Publish{Topic: w.Topic, Payload: bytes.Clone(w.Payload), QoS: w.QoS, Retain: w.Retain}}
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

// willAllowed says with which code a CONNECT is refused for the sake of its will,
// which must be a message that the client could publish; 0 is none.
func (s *Server) willAllowed(w *packet.Will, from *sender) (code byte, reason string) {
	p := &packet.Publish{Topic: w.Topic, Retain: w.Retain, Props: w.Props}
	v := from.limits.improper(p)
	if !v.code.Refused() {
		to, _ := parseCommand(from.grant, p.Topic)
		v = from.rights(p, to)
	}
	if v.code.Refused() {
		return connackCode(v.code), "will: " + v.reason
	}
	return 0, ""
}

// send publishes the will as its client would have. It is called without locks
// and may block on the router. A server that stops sends none.
func (w *will) send() {
	s := w.from.session.server
	if s.ctx.Err() != nil {
		return
	}
	s.count.wills.Add(1)
	x, v, route := w.from.judge(&w.publish, time.Now())
	switch {
	case route:
		s.router.Submit(&x.in, nil, x.outcome)
	case v.code.Refused():
		w.from.refused(w.publish.Topic, &v)
	}
}
