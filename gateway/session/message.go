package session

import (
	"bytes"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/event"
)

// Message is one application message, shared by everyone that it is sent to.
// Nobody changes it after it was made.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	retain  bool
	Expires time.Time // zero: never
	from    *Client   // nil when a plugin sent it, or nobody knows who
	// Props holds what is passed on unaltered: payload format, content type,
	// response topic, correlation data and user properties. nil: none.
	Props *packet.Properties
}

// NewMessage copies what a PUBLISH has beyond the life of its frame.
func NewMessage(p *packet.Publish, now time.Time, from *Client) *Message {
	m := &Message{Topic: p.Topic, Payload: bytes.Clone(p.Payload), QoS: p.QoS, retain: p.Retain, from: from}
	if x := p.Props; x != nil {
		m.Props = forwarded(x)
		if x.MessageExpiry != nil {
			m.Expires = now.Add(time.Duration(*x.MessageExpiry) * time.Second)
		}
	}
	return m
}

// forwarded picks the properties that a server passes on [MQTT-3.3.2-4], [-15],
// [-16], [-17], [-20].
func forwarded(x *packet.Properties) *packet.Properties {
	f := packet.Properties{PayloadFormat: x.PayloadFormat, ContentType: x.ContentType,
		ResponseTopic: x.ResponseTopic, CorrelationData: bytes.Clone(x.CorrelationData), User: x.User}
	if f.PayloadFormat == nil && f.ContentType == nil && f.ResponseTopic == nil && f.CorrelationData == nil && f.User == nil {
		return nil
	}
	return &f
}

// pluginMessage is what a publish effect sends.
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

// size is what the message counts against a bound of bytes.
func (m *Message) size() int {
	n := len(m.Topic) + len(m.Payload)
	if m.Props != nil {
		n += propertyBytes(m.Props)
	}
	return n
}

// propertyBytes is what the properties of a message take in memory, about.
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

// Remaining is the message expiry interval that is left, in whole seconds, at
// least 1 [MQTT-3.3.2-6].
func (m *Message) Remaining(now time.Time) uint32 {
	left := m.Expires.Sub(now)
	return uint32(max(1, (left+time.Second-1)/time.Second))
}

// expiry is when the first of some messages expires, or earlier. It spares whoever
// is short of room a search that would find nothing: without it, each message for
// a full queue would cost a walk through the queue.
type expiry struct{ first time.Time }

func (x *expiry) note(t time.Time) {
	if !t.IsZero() && (x.first.IsZero() || t.Before(x.first)) {
		x.first = t
	}
}

func (x *expiry) due(now time.Time) bool { return !x.first.IsZero() && !now.Before(x.first) }
