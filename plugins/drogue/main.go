// Command drogue is the plugin for devices that speak Drogue Cloud's MQTT
// dialect: channels in, the command inbox out. README.md describes it.
package main

import (
	"slices"
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(handle)

func main() {}

func handle(r *sdk.Request) error {
	switch r.Event.Type {
	case event.TypePublish:
		return publish(r)
	case event.TypeSubscribe:
		return subscribe(r)
	case event.TypeConnection:
		return connection(r)
	case event.TypeCommand:
		return command(r)
	}
	return sdk.Permanent("the drogue plugin does not handle events of type " + r.Event.Type + ": route it by type")
}

// publish emits what a device said.
func publish(r *sdk.Request) error {
	channel, device, err := parseTopic(r)
	if err != nil {
		return err
	}
	if channel == "" {
		r.Reply(event.TopicNameInvalid, "publish to <channel> or <channel>/<device>")
		return nil
	}
	if device == "" {
		device = r.Event.Device
	}
	e := event.Event{
		Type:            "io.drogue.event.v1",
		Source:          source(r, r.Event.Application, device),
		Subject:         channel,
		DataContentType: r.Event.DataContentType,
		DataSchema:      r.Event.DataSchema,
		Device:          device,
		Data:            r.Event.Data,
		Text:            r.Event.Text,
	}
	isEvent := keepCloudEvent(r, &e)
	if err := setContentType(r, &e, isEvent); err != nil {
		return err
	}
	emit(r, e)
	return nil
}

// parseTopic splits the topic by the dialect that is set. An empty channel says
// that the topic does not fit.
func parseTopic(r *sdk.Request) (channel, device string, err error) {
	topic := r.Transport.Topic
	first, rest, more := strings.Cut(topic, "/")
	switch dialect, _ := r.Config("dialect").String(); dialect {
	case "", "drogue":
		if !more {
			return topic, "", nil
		}
		if rest == "" || strings.Contains(rest, "/") {
			return "", "", nil
		}
		return first, rest, nil
	case "plain":
		return topic, "", nil
	case "plain-device": // an empty first segment is the sender itself
		return rest, first, nil
	default:
		return "", "", &event.Failure{Code: event.ImplementationSpecificError,
			Message: "the setting dialect is " + dialect + ": use drogue, plain or plain-device"}
	}
}

// setContentType applies Drogue's rule: a JSON type is a promise, no type is an
// invitation to look. A CloudEvent without a type is one: nobody may make up one for
// it (CloudEvents JSON format, section 3.1.1).
func setContentType(r *sdk.Request, e *event.Event, isEvent bool) error {
	switch given := e.DataContentType; {
	case isEvent && (given == "" || e.Data == nil):
	case given == "" && r.JSON().Exists():
		e.DataContentType = "application/json"
	case given == "":
		e.DataContentType = "application/octet-stream"
	case isJSON(given) && !r.JSON().Exists():
		return sdk.Permanent("the content type is " + given + ", but the payload is not valid JSON")
	}
	return nil
}

// isJSON says whether a media type is JSON: */json or */*+json (CloudEvents JSON
// format, section 3.1.1).
func isJSON(mediaType string) bool {
	mediaType, _, _ = strings.Cut(mediaType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	return strings.HasSuffix(mediaType, "/json") || strings.HasSuffix(mediaType, "+json")
}

// keepCloudEvent gives e the attributes of a payload that was a CloudEvent already.
func keepCloudEvent(r *sdk.Request, e *event.Event) (isEvent bool) {
	o := r.Original
	if o == nil {
		return false
	}
	e.ID, e.Source, e.Type = o.ID, o.Source, o.Type
	e.Time, e.TimeText = o.Time, o.TimeText
	if o.Subject != "" {
		e.Subject = o.Subject
	}
	e.Extensions = r.Event.Extensions
	return true
}

// connection emits that a device came or went, unless the setting
// connection_events is "false".
func connection(r *sdk.Request) error {
	switch wanted, _ := r.Config("connection_events").String(); wanted {
	case "", "true":
	case "false":
		return nil
	default:
		return &event.Failure{Code: event.ImplementationSpecificError, Message: "the setting connection_events is " + wanted +
			": use true or false"}
	}
	connected, ok := r.JSON("connected").Bool()
	if !ok {
		return sdk.Permanent(`a connection event holds {"connected":true} or false`)
	}
	emit(r, event.Event{
		Type:            "io.drogue.connection.v1",
		Source:          source(r, r.Event.Application, r.Event.Device),
		Subject:         "connection",
		DataContentType: "application/json",
		Data:            r.Writer().Object().Key("connected").Bool(connected).End().Bytes(),
	})
	return nil
}

// emit adds the extensions that every event of Drogue has.
func emit(r *sdk.Request, e event.Event) {
	e.Extensions = slices.Grow(e.Extensions, 2)
	e.SetExtension("partitionkey", r.Join(escape(r, r.Event.Application), "/", escape(r, r.Event.Sender)))
	if instance, ok := r.Config("instance").String(); ok {
		e.SetExtension("instance", instance)
	}
	r.Emit(e)
}

// subscribe allows the command inbox and nothing else. Whose commands arrive
// there is not the filter's to say: each is sent to one connected device.
func subscribe(r *sdk.Request) error {
	rest, inbox := strings.CutPrefix(r.Transport.Topic, "command/inbox/")
	if device, ok := strings.CutSuffix(rest, "/#"); inbox && (rest == "#" || ok && (device == "+" || !strings.ContainsAny(device, "/+#"))) {
		r.Reply(0, "") // granted QoS 0
		return nil
	}
	r.Reply(event.TopicFilterInvalid, "subscribe to command/inbox/#, command/inbox/+/#, command/inbox//# or command/inbox/<device>/#")
	return nil
}

// command sends a command to the connection that carries the device.
func command(r *sdk.Request) error {
	device, carrier, name := r.Event.Device, r.Event.Sender, r.Event.Subject
	if name == "" || strings.ContainsAny(name, "/+#\x00") {
		r.Reply(event.TopicNameInvalid, "a command's name is one topic segment")
		return nil
	}
	topics := []string{"command/inbox/" + device + "/" + name}
	if device == carrier || carrier == "" {
		// Without a device in its filter a device knows itself by the empty one.
		carrier = device
		topics = []string{"command/inbox//" + name, topics[0]}
	}
	r.Publish(event.Publish{
		Topics:      topics,
		Device:      carrier,
		Payload:     r.Event.Data,
		QoS:         r.Transport.QoS,
		ContentType: r.Event.DataContentType,
	})
	return nil
}

func source(r *sdk.Request, application, device string) string {
	return r.Join("drogue://", application, "/", escape(r, device))
}

// escape percent-encodes every byte that is not an ASCII letter or digit.
func escape(r *sdk.Request, s string) string {
	const hex = "0123456789ABCDEF"
	plain := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return s
	}
	out := append(r.Scratch(3*len(s)), s[:i]...)
	for ; i < len(s); i++ {
		if c := s[i]; plain(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return sdk.Text(out)
}
