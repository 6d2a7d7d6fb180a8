package router

import (
	"encoding/base64"
	"strconv"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// TypeQuarantined is the type of the events in an application's quarantine.
// Data is the original payload, byte for byte. Extensions tell the rest:
// quarantineerror, plugin, plugindigest, attempts, originaltype,
// originalcontenttype, topic, and request: the whole HandleRequest as the
// plugin got it, so that it can be handled again after a fix.
const TypeQuarantined = "io.tributary.quarantine.v1"

// quarantine makes an event that no plugin could handle durable, then answers
// its source with code.
func (s *shard) quarantine(j *job, p *plan, cause error, code stage.Code) time.Duration {
	s.reset()
	e := s.shelve(j, p, cause)
	s.r.log.Warn("an event went into quarantine", "application", e.Application, "device", e.Device, "event", e.ID,
		"attempts", j.attempts, "error", cause)
	s.conclude(j, stage.Outcome{Code: code, Reason: "quarantined: " + cause.Error()}, &s.r.metrics.quarantined)
	return 0
}

// shelve adds an event to the batch as its application's quarantine has it.
func (s *shard) shelve(j *job, p *plan, cause error) *event.Event {
	in := j.in
	e := &event.Event{
		ID: in.Event.ID, Source: stage.Source(in.Event.Application, in.Event.Device),
		Type: TypeQuarantined, Subject: in.Event.Subject, Time: in.Event.Time,
		Application: in.Event.Application, Device: in.Event.Device, Sender: in.Event.Sender,
		DataContentType: "application/octet-stream", Data: in.Event.Data,
	}
	e.SetExtension("quarantineerror", printable(cause.Error()))
	if p != nil && p.plugin != nil {
		e.SetExtension("plugin", p.plugin.Name())
		e.SetExtension("plugindigest", p.plugin.Digest())
	}
	e.Extensions = append(e.Extensions, event.Attribute{Name: "attempts", Kind: event.Integer, Value: strconv.Itoa(j.attempts)})
	e.SetExtension("originaltype", in.Event.Type)
	if in.Event.DataContentType != "" {
		e.SetExtension("originalcontenttype", printable(in.Event.DataContentType))
	}
	if in.Transport.Topic != "" {
		e.SetExtension("topic", printable(in.Transport.Topic))
	}
	request := event.AppendRequest(nil, in, in.Event.Time, nil)
	e.Extensions = append(e.Extensions, event.Attribute{Name: "request", Kind: event.Binary, Value: base64.StdEncoding.EncodeToString(request)})
	s.append(store.Quarantine(e.Application), e)
	return e
}

// printable cuts text to what an attribute value may hold.
func printable(text string) string {
	const limit = 1024
	out := make([]rune, 0, min(len(text), limit))
	for _, c := range text {
		if c < 0x20 || c >= 0x7f && c < 0xa0 || c == '\uFFFD' || c >= 0xFDD0 && c <= 0xFDEF || c&0xFFFE == 0xFFFE {
			c = ' '
		}
		if out = append(out, c); len(out) == limit {
			break
		}
	}
	return string(out)
}
