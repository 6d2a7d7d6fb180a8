package mqtt

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/sdk-plugin/event"
)

// inbound begins an event from this sender.
func (s *sender) inbound(typ, subject string, now time.Time) event.Inbound {
	g := s.Granted()
	return event.Inbound{
		Event: event.Event{
			ID: s.server.ids.Next(now), Source: s.Source, Type: typ, Subject: subject, Time: now.UTC(),
			Application: g.Application, Device: g.Device, Sender: g.Device,
		},
		Transport: event.Transport{
			Protocol: "mqtt", Topic: subject,
			ClientID: s.ClientID, Username: s.Username, Peer: s.Peer,
		},
	}
}

// newPending makes the event of a PUBLISH. It copies what the read buffer holds.
func (s *sender) newPending(p *packet.Publish, now time.Time) *pending {
	x := &pending{server: s.server, Publication: session.Publication{Client: s.Client}, id: p.ID, qos: p.QoS,
		in: s.inbound(event.TypePublish, p.Topic, now)}
	x.in.Event.Data = bytes.Clone(p.Payload)
	t := &x.in.Transport
	t.QoS, t.Retain = p.QoS, p.Retain
	if q := p.Props; q != nil {
		if q.ContentType != nil {
			x.in.Event.DataContentType = *q.ContentType
		}
		if q.ResponseTopic != nil {
			t.ResponseTopic = *q.ResponseTopic
		}
		t.Correlation = bytes.Clone(q.CorrelationData)
		t.Properties = properties(q.User)
	}
	return x
}
