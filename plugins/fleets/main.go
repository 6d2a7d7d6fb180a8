// Command fleets is the plugin for devices of EMQX Fleets: shadow, events,
// commands and jobs over MQTT, and the REST interface that back ends and HTTP
// devices use. README.md describes it.
package main

import (
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

var _ = sdk.Handle(handle)

func main() {}

// call is the event in hand. State shows what was there before it, so what the
// handler itself stored and reads again is kept here.
type call struct {
	*sdk.Request
	queues map[string]jobQueue
}

func handle(r *sdk.Request) error { return dispatch(&call{Request: r}) }

func dispatch(r *call) error {
	switch r.Event.Type {
	case event.TypePublish:
		return publish(r)
	case event.TypeSubscribe:
		return subscribe(r)
	case event.TypeConnection:
		return connection(r)
	case event.TypeRequest:
		return request(r)
	case event.TypeTimer:
		return timer(r)
	case event.TypeCommand:
		return command(r)
	}
	return sdk.Permanent("the fleets plugin does not handle events of type " + r.Event.Type + ": route it by type")
}

// The roots of the topics of a thing.
const (
	things   = "$emqx/things/"
	commands = "$emqx/commands/things/"
)

// publish handles what a device says.
func publish(r *call) error {
	topic := r.Transport.Topic
	if rest, ok := strings.CutPrefix(topic, commands); ok {
		thing, rest, _ := strings.Cut(rest, "/")
		if thing != r.Event.Device {
			return foreign(r)
		}
		if id, ok := strings.CutPrefix(rest, "executions/"); ok {
			if id, ok = strings.CutSuffix(id, "/response"); ok && id != "" && !strings.Contains(id, "/") {
				return commandResponse(r, thing, id)
			}
		}
		return strange(r)
	}
	rest, ok := strings.CutPrefix(topic, things)
	if !ok {
		return strange(r)
	}
	thing, rest, _ := strings.Cut(rest, "/")
	if thing != r.Event.Device {
		return foreign(r)
	}
	area, rest, _ := strings.Cut(rest, "/")
	switch {
	case area == "shadow":
		return shadowTopic(r, thing, rest)
	case area == "events" && rest != "" && !strings.Contains(rest, "/"):
		return deviceEvent(r, thing, rest)
	case area == "jobs":
		return jobsTopic(r, thing, rest)
	}
	return strange(r)
}

// foreign refuses a topic of another thing.
func foreign(r *call) error {
	r.Reply(event.NotAuthorized, "a device may use only the topics of its own thing, "+r.Event.Device)
	return nil
}

// strange refuses a topic that Fleets does not have.
func strange(r *call) error {
	r.Reply(event.TopicNameInvalid, "Fleets has no such topic for devices to publish to")
	return nil
}

// subscribe grants filters below a thing's own topics.
func subscribe(r *call) error {
	filter := r.Transport.Topic
	for _, root := range [...]string{things, commands} {
		if rest, ok := strings.CutPrefix(filter, root); ok && strings.HasPrefix(rest, r.Event.Device+"/") {
			r.Reply(event.Code(r.Transport.QoS), "")
			return subscribed(r, strings.TrimPrefix(filter, root+r.Event.Device+"/"))
		}
	}
	return foreign(r)
}

// subscribed notes that a device subscribed to documents, which are made only for devices that
// do.
func subscribed(r *call, filter string) error {
	if !event.MatchTopic(filter, "shadow/update/documents") {
		return nil
	}
	thing := r.Event.Device
	if s, _ := loadShadow(r, thing); !s.documents {
		r.Put(shadowKey(r, thing), appendShadow(nil, strconv.AppendInt(nil, s.version, 10), s.reported.text(), s.desired.text(), true), 0)
	}
	return nil
}

// sendToThing publishes to the thing's device, or into its persistent session.
func sendToThing(r *call, thing, topic string, payload []byte) {
	r.Publish(event.Publish{Topics: []string{r.Join(things, thing, "/", topic)}, Device: thing, Payload: payload, QoS: 1,
		ContentType: "application/json"})
}

// replyToThing answers what a device published, whether it subscribed or not: on the same
// topic with an ending.
func replyToThing(r *call, ending string, payload []byte) {
	r.Publish(event.Publish{Topics: []string{r.Join(r.Transport.Topic, ending)}, Device: r.Event.Device, Payload: payload, QoS: 1,
		ContentType: "application/json", Answer: true})
}

// emit writes an event of the plugin's own to the application's log. Its schema
// is schemas/<type>.json.
func emit(r *call, thing, typ, subject string, data []byte) {
	r.Emit(event.Event{Type: r.Join("io.tributary.fleets.", typ), Subject: subject, Device: thing, DataContentType: "application/json",
		DataSchema: r.Join("https://tributary.io/schemas/io.tributary.fleets.", typ, ".json"), Data: data})
}

// seconds is the time of the call as Fleets counts it.
func seconds(r *call) int64 { return r.Now.Unix() }
