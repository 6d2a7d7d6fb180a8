package mqtt

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
)

// newWill copies the will of a CONNECT out of the read buffer.
func newWill(w *packet.Will, from *sender) *session.Will {
	x := &session.Will{Client: from.Client, Publish: packet.Publish{Topic: w.Topic, Payload: bytes.Clone(w.Payload), QoS: w.QoS,
		Retain: w.Retain}}
	if w.Props == nil {
		return x
	}
	props := *w.Props
	props.CorrelationData = bytes.Clone(props.CorrelationData)
	if props.WillDelay != nil {
		x.Delay = time.Duration(*props.WillDelay) * time.Second
		props.WillDelay = nil
	}
	x.Publish.Props = &props
	return x
}

// allowedWill returns the code that refuses a CONNECT because of its will, or 0. The will must be a
// message that the client may publish.
//
// If the will carries credentials of its own, it is published in their name.
func allowedWill(w *session.Will, from *sender) (code byte, reason string) {
	p := &w.Publish
	v := from.server.improper(&from.via.Limits, p)
	g := from.Granted()
	if !v.Code.Refused() && g.PerMessage {
		var speaker *sender
		if speaker, v = from.speaker(g, p); speaker != nil {
			from, g = speaker, speaker.Granted()
			w.Client, w.PerMessage = speaker.Client, true
		}
	}
	if !v.Code.Refused() {
		to, _ := parseCommand(g, p.Topic)
		v = from.mayPublish(g, p, to)
	}
	if v.Code.Refused() {
		return connackCode(v.Code), "will: " + v.Reason
	}
	return 0, ""
}
