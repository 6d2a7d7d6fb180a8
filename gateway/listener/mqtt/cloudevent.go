package mqtt

import (
	"strings"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// readCloudEvent looks whether the message that the inbound event was made of is
// itself a CloudEvent (see the package comment), and if so gives the inbound
// event its content. What it claims of application, device and sender is dropped.
func readCloudEvent(in *event.Inbound) error {
	e := &in.Event
	if len(in.Transport.Properties) < 4 && !structured(e.DataContentType) {
		return nil // it lacks the required attributes
	}
	var given event.Event
	is, err := event.FromAttributes(in.Transport.Properties, e.DataContentType, e.Data, &given)
	if !is || err != nil {
		return err
	}
	e.DataContentType, e.DataSchema, e.Data, e.Text = given.DataContentType, given.DataSchema, given.Data, given.Text
	e.Extensions = given.Extensions
	e.SetExtension("ceid", given.ID)
	e.SetExtension("cesource", given.Source)
	e.SetExtension("cetype", given.Type)
	if given.Subject != "" {
		e.SetExtension("cesubject", given.Subject)
	}
	if !given.Time.IsZero() {
		e.SetExtension("cetime", given.Time.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

// checkCloudEvent says whether a message that claims to be a CloudEvent is none.
func checkCloudEvent(p *packet.Publish) error {
	if p.Props == nil {
		return nil
	}
	contentType := ""
	if p.Props.ContentType != nil {
		contentType = *p.Props.ContentType
	}
	if len(p.Props.User) < 4 && !structured(contentType) {
		return nil
	}
	var e event.Event
	_, err := event.FromAttributes(properties(p.Props.User), contentType, p.Payload, &e)
	return err
}

func structured(contentType string) bool {
	const prefix = "application/cloudevents"
	return len(contentType) >= len(prefix) && strings.EqualFold(contentType[:len(prefix)], prefix)
}

func properties(user []packet.UserProperty) []event.Property {
	if len(user) == 0 {
		return nil
	}
	list := make([]event.Property, len(user))
	for i, u := range user {
		list[i] = event.Property(u)
	}
	return list
}

// render makes the message of a record: a CloudEvent by the MQTT binding, in the
// content mode of the subscription. It is nil for a record that is no event. The
// message is valid until the next call. The caller holds the session's lock.
func (r *logSubscription) render(record stage.Record, version byte) *message {
	var e event.Event
	if err := event.ParseEvent(record.Event, &e); err != nil {
		r.session.server.log.Warn("a stored event is unreadable and was left out", "application", r.log.Application,
			"offset", record.Offset, "error", err)
		return nil
	}
	m := &message{topic: r.topic, qos: r.qos}
	if r.binary {
		m.payload = e.Data
		m.props = &packet.Properties{}
		if e.DataContentType != "" {
			m.props.ContentType = &e.DataContentType
		}
		attributes := event.AppendAttributes(nil, &e)
		m.props.User = make([]packet.UserProperty, len(attributes))
		for i, a := range attributes {
			m.props.User[i] = packet.UserProperty(a)
		}
		return m
	}
	r.scratch = event.AppendJSON(r.scratch[:0], &e)
	m.payload = r.scratch
	if cap(r.scratch) > 2*bigBuffer {
		r.scratch = nil
	}
	if version == packet.V5 {
		contentType, text := structuredJSON, byte(1)
		m.props = &packet.Properties{ContentType: &contentType, PayloadFormat: &text}
	}
	return m
}

// structuredJSON is the content type of structured mode.
const structuredJSON = "application/cloudevents+json; charset=utf-8"
