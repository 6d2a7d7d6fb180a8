package session

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/event"
)

// Message is an application message, shared by all its receivers. It never changes.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	retain  bool
	Expires time.Time // zero: never
	sender  *Client   // nil if a plugin sent it, or the sender is not known
	// Props are the properties that are passed on unaltered: payload format, content type, response
	// topic, correlation data and user properties. nil: none.
	Props *packet.Properties
}

// NewMessage copies a PUBLISH out of the read buffer.
func NewMessage(p *packet.Publish, now time.Time, from *Client) *Message {
	m := &Message{Topic: p.Topic, Payload: bytes.Clone(p.Payload), QoS: p.QoS, retain: p.Retain, sender: from}
	if x := p.Props; x != nil {
		m.Props = forwarded(x)
		if x.MessageExpiry != nil {
			m.Expires = now.Add(time.Duration(*x.MessageExpiry) * time.Second)
		}
	}
	return m
}

// forwarded returns the properties that a server passes on [MQTT-3.3.2-4], [MQTT-3.3.2-15],
// [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-20].
func forwarded(x *packet.Properties) *packet.Properties {
	f := packet.Properties{PayloadFormat: x.PayloadFormat, ContentType: x.ContentType,
		ResponseTopic: x.ResponseTopic, CorrelationData: bytes.Clone(x.CorrelationData), User: x.User}
	if f.PayloadFormat == nil && f.ContentType == nil && f.ResponseTopic == nil && f.CorrelationData == nil && f.User == nil {
		return nil
	}
	return &f
}

// pluginMessage returns the message of a publish effect.
func pluginMessage(p *event.Publish, topic string, now time.Time) *Message {
	m := &Message{Topic: topic, Payload: p.Payload, QoS: min(p.QoS, 2), retain: p.Retain}
	if p.Expiry > 0 {
		m.Expires = now.Add(p.Expiry)
	}
	var x packet.Properties
	if p.ContentType != "" {
		x.ContentType = &p.ContentType
	}
	if p.ResponseTopic != "" {
		x.ResponseTopic = &p.ResponseTopic
	}
	x.CorrelationData = p.Correlation
	for _, u := range p.Properties {
		x.User = append(x.User, packet.UserProperty(u))
	}
	m.Props = forwarded(&x)
	return m
}

// size returns what the message counts against limits in bytes.
func (m *Message) size() int {
	n := len(m.Topic) + len(m.Payload)
	if m.Props != nil {
		n += propertyBytes(m.Props)
	}
	return n
}

// propertyBytes returns about how much memory the properties of a message take.
func propertyBytes(x *packet.Properties) (n int) {
	if x.ContentType != nil {
		n += len(*x.ContentType)
	}
	if x.ResponseTopic != nil {
		n += len(*x.ResponseTopic)
	}
	n += len(x.CorrelationData)
	for i := range x.User {
		n += len(x.User[i].Name) + len(x.User[i].Value) + 32 // two strings
	}
	return n
}

func (m *Message) expired(now time.Time) bool {
	return !m.Expires.IsZero() && !now.Before(m.Expires)
}

// Remaining returns what is left of the message expiry interval, in whole seconds and at least 1
// [MQTT-3.3.2-6].
func (m *Message) Remaining(now time.Time) uint32 {
	left := m.Expires.Sub(now)
	return uint32(max(1, (left+time.Second-1)/time.Second))
}

// expiry is a time at or before which no message of a queue expires. A full queue is searched for
// expired messages only after it; otherwise each message for a full queue would cost a search of the
// whole queue.
type expiry struct{ first time.Time }

func (x *expiry) note(t time.Time) {
	if !t.IsZero() && (x.first.IsZero() || t.Before(x.first)) {
		x.first = t
	}
}

func (x *expiry) due(now time.Time) bool { return !x.first.IsZero() && !now.Before(x.first) }
