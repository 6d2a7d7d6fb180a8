package mqtt

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/event"
)

// inbound begins an event of this sender.
func (from *sender) inbound(typ, subject string, now time.Time) event.Inbound {
	g := from.granted()
	return event.Inbound{
		Event: event.Event{
			ID: from.session.server.ids.next(now), Source: from.source, Type: typ, Subject: subject, Time: now.UTC(),
			Application: g.Application, Device: g.Device, Sender: g.Device,
		},
		Transport: event.Transport{
			Protocol: "mqtt", Topic: subject,
			ClientID: from.clientID, Username: from.username, Peer: from.peer,
		},
	}
}

// pend makes the event of a PUBLISH. It copies what lies in the frame.
func (from *sender) pend(p *packet.Publish, now time.Time) *pending {
	x := &pending{from: from, id: p.ID, qos: p.QoS, in: from.inbound(event.TypePublish, p.Topic, now)}
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

// ids makes unique event ids of the shape of a UUIDv7: milliseconds, a counter,
// and 40 random bits that were drawn when the process began, which keep ids
// unique over restarts without a random number each.
type ids struct {
	boot    uint64 // 40 bits
	counter atomic.Uint64
}

func newIDs() *ids {
	var b [8]byte
	rand.Read(b[3:]) // never fails
	return &ids{boot: binary.BigEndian.Uint64(b[:])}
}

func (g *ids) next(now time.Time) string {
	n := g.counter.Add(1) // its low 34 bits: 12 behind the time, 22 before the random ones
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16|0x7000|n>>22&0xFFF)
	binary.BigEndian.PutUint64(b[8:], 1<<63|n&0x3FFFFF<<40|g.boot)
	var text [36]byte
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
