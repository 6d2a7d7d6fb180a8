package session

import (
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// render makes the message of a record: a CloudEvent by the MQTT binding, in the
// content mode of the subscription. It is nil for a record that is no event. The
// message is valid until the next call. The caller holds the session's lock.
func (r *LogSubscription) Render(record stage.Record, version byte) *Message {
	var e event.Event
	if err := event.ParseEvent(record.Event, &e); err != nil {
		r.session.server.log.Warn("a stored event is unreadable and was left out", "application", r.Log.Application,
			"offset", record.Offset, "error", err)
		return nil
	}
	m := &Message{Topic: r.Topic, QoS: r.QoS}
	if r.Binary {
		m.Payload = e.Data
		m.Props = &packet.Properties{}
		if e.DataContentType != "" {
			m.Props.ContentType = &e.DataContentType
		}
		attributes := event.AppendAttributes(nil, &e)
		m.Props.User = make([]packet.UserProperty, len(attributes))
		for i, a := range attributes {
			m.Props.User[i] = packet.UserProperty(a)
		}
		return m
	}
	r.scratch = event.AppendJSON(r.scratch[:0], &e)
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

// structuredJSON is the content type of structured mode.
const structuredJSON = "application/cloudevents+json; charset=utf-8"
