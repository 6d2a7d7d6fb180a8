package mqtt

import (
	"strings"

	"tributary.io/gateway/listener/mqtt/packet"
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
	if at := given.TimeString(); at != "" {
		e.SetExtension("cetime", at)
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
