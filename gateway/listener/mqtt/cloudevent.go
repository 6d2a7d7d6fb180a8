package mqtt

import (
	"strings"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// readCloudEvent finds out whether the message in an inbound event is itself a CloudEvent (see the
// package comment), and if so gives the inbound event its content. Application, device and sender
// stay those of the connection, whatever the CloudEvent claims. A message that claims to be a
// CloudEvent and is not valid stays as it came, with the error in in.Sent.
func readCloudEvent(in *event.Inbound) {
	e := &in.Event
	if len(in.Transport.Properties) < 4 && !structured(e.DataContentType) {
		return // the four required attributes cannot all be there
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
	stage.Adopt(in, &given)
}

// checkCloudEvent returns why a message that claims to be a CloudEvent is not one.
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
