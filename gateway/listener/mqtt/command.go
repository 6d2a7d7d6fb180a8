package mqtt

import (
	"encoding/json"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// commandReply is a command's response topic and what will be answered on it, in addition to the PUBACK.
// Without a response topic nothing is answered.
type commandReply struct {
	topic       string
	correlation []byte
	status      string
}

// target is the device and the command that a command's topic names.
type target struct{ application, device, command string }

// parseCommand splits command/<application>/<device>/<command>. The topic is a command only for a
// client that may read or command any application; for other clients it is a topic like any other.
// The target of an ill-formed command has no device.
func parseCommand(g *access.Grant, topic string) (to *target, is bool) {
	if len(g.Read)+len(g.Write) == 0 {
		return nil, false
	}
	head, rest, _ := strings.Cut(topic, "/")
	if !strings.EqualFold(head, "command") {
		return nil, false
	}
	application, rest, _ := strings.Cut(rest, "/")
	device, command, _ := strings.Cut(rest, "/")
	if application == "" || device == "" || command == "" || strings.Contains(command, "/") {
		return new(target), true
	}
	return &target{application, device, command}, true
}

func (to *target) rights(g *access.Grant, retain bool) (v session.Verdict) {
	switch {
	case to.device == "":
		return session.Verdict{Code: event.ImplementationSpecificError,
			Reason: "the topic of a command is command/<application>/<device>/<command>"}
	case !g.MayWrite(to.application):
		return session.Verdict{Code: event.NotAuthorized, Reason: "no such application, or no right to command its devices"}
	case retain:
		return session.Verdict{Code: event.RetainNotSupported, Reason: "a command cannot be retained"}
	}
	return v
}

// command makes the event of a command. If route is false, the verdict decides the event instead of
// the router.
func (s *sender) command(p *packet.Publish, to *target, v session.Verdict, now time.Time) (*pending, session.Verdict, bool) {
	x := s.newPending(p, now)
	x.reply = &commandReply{topic: x.in.Transport.ResponseTopic, correlation: x.in.Transport.Correlation}
	e := &x.in.Event
	e.Type, e.Subject = event.TypeCommand, to.command
	e.Source = stage.Source(to.application, "")
	e.Application, e.Device, e.Sender = to.application, to.device, ""
	if !v.Code.Refused() && s.server.routes(to.application) {
		return x, v, true
	}
	x.reply.report(&v, stage.NoDevice)
	return x, v, false
}

// report turns what happened to a command into the verdict for its publisher.
func (r *commandReply) report(v *session.Verdict, d stage.Delivery) {
	switch {
	case v.Code.Refused():
		r.status = "refused"
		return
	case d == stage.NoDevice || v.Code == event.NoMatchingSubscribers:
		v.Code, v.Status = event.NoMatchingSubscribers, stage.NoDevice.String()
		if v.Reason == "" {
			v.Reason = "the device is not connected and nothing waits for it"
		}
	case d == stage.Queued:
		v.Code, v.Status = event.Success, d.String()
		if v.Reason == "" {
			v.Reason = "the device is not connected; it gets the command when it returns"
		}
	default:
		v.Code, v.Status = event.Success, d.String()
		if v.Reason == "" {
			v.Reason = "the device is connected and was sent the command"
		}
	}
	r.status = v.Status
}

// respond publishes the outcome of a command on the response topic to the connection that sent it,
// which need not have subscribed to the topic.
func (p *pending) respond() {
	if p.reply.topic == "" || p.conn == nil || p.verdict.Undecided {
		return
	}
	payload, _ := json.Marshal(struct { // two strings can always be encoded
		Status string `json:"status"`
		Reason string `json:"reason,omitempty"`
	}{p.reply.status, p.verdict.Reason})
	contentType, text := "application/json", byte(1)
	m := &session.Message{Topic: p.reply.topic, Payload: payload, QoS: min(p.qos, 1), Props: &packet.Properties{
		ContentType: &contentType, PayloadFormat: &text, CorrelationData: p.reply.correlation}}
	p.Client.Session.Reply(p.conn, m)
}
