package stage

import "tributary.io/sdk-plugin/event"

// Origin is the source of an effect that is done later: the plugin that wants it, and the event
// that the plugin handled. The effect leads to an event of the same plugin, application and
// device, in the same order.
type Origin struct {
	Plugin      string
	Application string
	Device      string
	// Sender spoke for the device. It is empty if it has to be found out again, as for a command.
	Sender      string
	Traceparent string // empty: none
	Timers      int    // how many the plugin may have at once in the application
}

// Event begins the event that comes of the effect.
func (o *Origin) Event(typ, subject string) event.Event {
	e := event.Event{Type: typ, Source: Source(o.Application, o.Device), Subject: subject,
		Application: o.Application, Device: o.Device, Sender: o.Sender}
	if o.Traceparent != "" {
		e.SetExtension("traceparent", o.Traceparent)
	}
	return e
}
