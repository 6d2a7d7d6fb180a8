package mqtt

import (
	"strings"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// readCloudEvent looks whether the message that the inbound event was made of is
// itself a CloudEvent (see the package comment), and if so gives the inbound
// event its content. What it claims of application, device and sender is dropped. A
// message that only claims to be one is left as it came, and noted as such.
func readCloudEvent(in *event.Inbound) {
	e := &in.Event
	if len(in.Transport.Properties) < 4 && !structured(e.DataContentType) {
		return // it lacks the required attributes
	}
	var given event.Event
	is, err := codec.FromAttributes(in.Transport.Properties, e.DataContentType, e.Data, &given)
	if !is {
		return
	}
	in.Sent = &event.Sent{ContentType: e.DataContentType, Payload: e.Data, Err: err}
	if err != nil {
		return
	}
	in.Original = &event.Event{ID: given.ID, Source: given.Source, Type: given.Type,
		Subject: given.Subject, Time: given.Time, TimeText: given.TimeText}
	e.DataContentType, e.DataSchema, e.Data, e.Text = given.DataContentType, given.DataSchema, given.Data, given.Text
	e.Extensions = given.Extensions
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
	_, err := codec.FromAttributes(properties(p.Props.User), contentType, p.Payload, &e)
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
