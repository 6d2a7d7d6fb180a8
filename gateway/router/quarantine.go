package router

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// TypeQuarantined is the type of the events in an application's quarantine.
// Data is the original payload, byte for byte, with the envelope of a structured
// CloudEvent. Extensions tell the rest:
// quarantineerror, plugin, plugindigest, attempts, originaltype,
// originalcontenttype, topic, and request: the whole HandleRequest as the
// plugin got it, so that it can be handled again after a fix. A subject that is no
// String of CloudEvents is left out, and topic and originalcontenttype have escapes in
// place of what a String does not hold; request has all of them as they were.
const TypeQuarantined = "io.tributary.quarantine.v1"

// quarantine makes an event that no plugin could handle durable, then answers
// its source with code.
func (s *shard) quarantine(j *job, p *plan, cause error, code event.Code) time.Duration {
	s.reset()
	why := stage.Plain(cause.Error(), longestCause)
	if j.all != nil {
		s.refuseAll(j, why, code)
		return 0
	}
	e := s.shelve(j, p, why)
	s.r.log.Warn("an event went into quarantine", "application", e.Application, "device", e.Device, "event", e.ID,
		"attempts", j.attempts, "error", cause)
	s.conclude(j, stage.Outcome{Code: code, Reason: "quarantined: " + why}, &s.r.metrics.quarantined)
	return 0
}

// longestCause bounds what is told of an error, in bytes.
const longestCause = 1024

// shelve adds an event to the batch for its application's quarantine. The entry is a valid
// CloudEvent, also if the inbound event could not be one.
func (s *shard) shelve(j *job, p *plan, why string) *event.Event {
	in := j.in
	e := &event.Event{
		ID: in.Event.ID, Source: stage.Source(in.Event.Application, in.Event.Device),
		Type: TypeQuarantined, Subject: stringOrNone(in.Event.Subject), Time: in.Event.Time,
		Application: in.Event.Application, Device: stringOrNone(in.Event.Device), Sender: stringOrNone(in.Event.Sender),
		DataContentType: "application/octet-stream", Data: in.Event.Data,
	}
	contentType := in.Event.DataContentType
	if in.Sent != nil {
		contentType, e.Data = in.Sent.ContentType, in.Sent.Payload
	}
	e.SetExtension("quarantineerror", why)
	if p != nil && p.plugin != nil {
		e.SetExtension("plugin", p.plugin.Name())
		e.SetExtension("plugindigest", p.plugin.Digest())
	}
	e.Extensions = append(e.Extensions, event.Attribute{Name: "attempts", Kind: event.Integer, Value: strconv.Itoa(j.attempts)})
	e.SetExtension("originaltype", in.Event.Type)
	if contentType != "" {
		e.SetExtension("originalcontenttype", stage.Plain(contentType, math.MaxInt))
	}
	if in.Transport.Topic != "" {
		e.SetExtension("topic", stage.Plain(in.Transport.Topic, math.MaxInt))
	}
	request := codec.AppendRequest(nil, in, in.Event.Time, nil)
	e.Extensions = append(e.Extensions, event.Attribute{Name: "request", Kind: event.Binary,
		Value: base64.StdEncoding.EncodeToString(request)})
	s.append(store.Quarantine(e.Application), e)
	return e
}

// stringOrNone returns an attribute's value, or none if the value is not valid for an
// attribute.
func stringOrNone(value string) string {
	if !event.ValidString(value) {
		return ""
	}
	return value
}
