package mqtt

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

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

// allowedWill says with which code a CONNECT is refused for the sake of its will,
// which must be a message that the client could publish; 0 is none.
//
// A will with credentials of its own goes in the name that they stand for.
func allowedWill(w *will, from *sender) (code byte, reason string) {
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
