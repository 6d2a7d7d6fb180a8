package stage

import "tributary.io/sdk-plugin/event"

// Adopt gives an inbound event the content of the CloudEvent that its sender sent. What that
// says of application, device and sender is dropped.
func Adopt(in *event.Inbound, given *event.Event) {
	in.Original = &event.Event{ID: given.ID, Source: given.Source, Type: given.Type,
		Subject: given.Subject, Time: given.Time, TimeText: given.TimeText}
	e := &in.Event
	e.DataContentType, e.DataSchema, e.Data, e.Text = given.DataContentType, given.DataSchema, given.Data, given.Text
	e.Extensions = given.Extensions
}
