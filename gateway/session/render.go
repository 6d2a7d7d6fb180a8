package session

import (
	"strings"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// Render returns the PUBLISH of a record: a CloudEvent in the MQTT binding, in the content mode of
// the subscription. It returns nil if the record is not an event. The message is valid until the
// next call. The session's mu is held.
func (r *LogSubscription) Render(record stage.Record, version byte) *Message {
	var e event.Event
	if err := codec.ParseEvent(record.Event, &e); err != nil {
		r.session.server.log.Warn("a stored event is unreadable and was left out", "application", r.Log.Application,
			"offset", record.Offset, "error", err)
		return nil
	}
	m := &Message{Topic: r.Topic, QoS: r.QoS}
	if r.Binary && renderBinary(m, &e) {
		return m
	}
	r.scratch = codec.AppendJSON(r.scratch[:0], &e)
	m.Payload = r.scratch
	if cap(r.scratch) > 64<<10 {
		r.scratch = nil
	}
	if version == packet.V5 {
		contentType, text := structuredJSON, byte(1)
		m.Props = &packet.Properties{ContentType: &contentType, PayloadFormat: &text}
	}
	return m
}

// renderBinary makes m a message in binary content mode. It returns false for an event that the
// client would get changed, or would take for malformed: if an attribute is too long for a user
// property or holds characters that it must not, or if the content type is that of structured mode.
// Such an event goes out in structured mode, which can carry any event.
func renderBinary(m *Message, e *event.Event) bool {
	if !carries(e.DataContentType) || structured(e.DataContentType) {
		return false
	}
	attributes := codec.AppendAttributes(nil, e)
	x := &packet.Properties{User: make([]packet.UserProperty, len(attributes))}
	for i, a := range attributes {
		if !carries(a.Value) || !carries(a.Name) {
			return false
		}
		x.User[i] = packet.UserProperty(a)
	}
	if e.DataContentType != "" {
		x.ContentType = &e.DataContentType
	}
	m.Payload, m.Props = e.Data, x
	return true
}

// carries says whether a string in a packet can carry a value to any client. Some clients close the
// connection at characters that MQTT only discourages, section 1.5.4.
func carries(value string) bool { return len(value) <= maxText && event.ValidString(value) }

// maxText is the longest string in a packet, in bytes, section 1.5.4.
const maxText = 65_535

func structured(contentType string) bool {
	const prefix = "application/cloudevents"
	return len(contentType) >= len(prefix) && strings.EqualFold(contentType[:len(prefix)], prefix)
}

// structuredJSON is the content type of structured mode.
const structuredJSON = "application/cloudevents+json; charset=utf-8"
