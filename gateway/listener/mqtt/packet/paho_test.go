package packet

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// An independent codec of MQTT 5.0 as the judge of ours. It knows no 3.1.1, takes
// empty strings and data for absent, keeps one subscription identifier, and can
// decode but not encode the properties of a will.

// plain leaves of a packet what the other codec can tell.
func plain(p Packet) Packet {
	var props []*Properties
	switch p := p.(type) {
	case *Connect:
		props = append(props, p.Props)
		if p.Will != nil {
			props = append(props, p.Will.Props)
		}
	case *Connack:
		props = append(props, p.Props)
	case *Publish:
		props = append(props, p.Props)
	case *Ack:
		props = append(props, p.Props)
	case *Subscribe:
		props = append(props, p.Props)
	case *Suback:
		props = append(props, p.Props)
	case *Unsubscribe:
		props = append(props, p.Props)
	case *Unsuback:
		props = append(props, p.Props)
	case *Disconnect:
		props = append(props, p.Props)
	case *Auth:
		if p.Props != nil && (p.Props.AuthMethod == nil || *p.Props.AuthMethod == "") {
			p.Props.AuthMethod = new("m")
		}
		props = append(props, p.Props)
	}
	for _, q := range props {
		if q == nil {
			continue
		}
		for id := range propAllowed {
			switch f := q.slot(id).(type) {
			case **string:
				if *f != nil && **f == "" {
					*f = nil
				}
			case *[]byte:
				if len(*f) == 0 {
					*f = nil
				}
			case *[]uint32:
				*f = (*f)[:min(len(*f), 1)]
			}
		}
		if q.AuthMethod == nil {
			q.AuthData = nil
		}
	}
	return p
}

// fromPaho translates a packet of the other codec.
func fromPaho(t interface{ Fatalf(string, ...any) }, cp *packets.ControlPacket) Packet {
	switch p := cp.Content.(type) {
	case *packets.Connect:
		c := &Connect{Version: p.ProtocolVersion, CleanStart: p.CleanStart, KeepAlive: p.KeepAlive, ClientID: p.ClientID,
			Username: p.Username, HasUsername: p.UsernameFlag, Password: p.Password, HasPassword: p.PasswordFlag, Props: fromPahoProps(p.Properties)}
		if p.WillFlag {
			c.Will = &Will{Topic: p.WillTopic, Payload: p.WillMessage, QoS: p.WillQOS, Retain: p.WillRetain, Props: fromPahoProps(p.WillProperties)}
		}
		return c
	case *packets.Connack:
		return &Connack{SessionPresent: p.SessionPresent, Code: p.ReasonCode, Props: fromPahoProps(p.Properties)}
	case *packets.Publish:
		return &Publish{Dup: p.Duplicate, QoS: p.QoS, Retain: p.Retain, Topic: p.Topic, ID: p.PacketID, Props: fromPahoProps(p.Properties),
			Payload: p.Payload}
	case *packets.Puback:
		return &Ack{PUBACK, p.PacketID, p.ReasonCode, fromPahoProps(p.Properties)}
	case *packets.Pubrec:
		return &Ack{PUBREC, p.PacketID, p.ReasonCode, fromPahoProps(p.Properties)}
	case *packets.Pubrel:
		return &Ack{PUBREL, p.PacketID, p.ReasonCode, fromPahoProps(p.Properties)}
	case *packets.Pubcomp:
		return &Ack{PUBCOMP, p.PacketID, p.ReasonCode, fromPahoProps(p.Properties)}
	case *packets.Subscribe:
		s := &Subscribe{ID: p.PacketID, Props: fromPahoProps(p.Properties)}
		for _, o := range p.Subscriptions {
			s.Filters = append(s.Filters, Filter{o.Topic, o.QoS, o.NoLocal, o.RetainAsPublished, o.RetainHandling})
		}
		return s
	case *packets.Suback:
		return &Suback{p.PacketID, p.Reasons, fromPahoProps(p.Properties)}
	case *packets.Unsubscribe:
		return &Unsubscribe{p.PacketID, p.Topics, fromPahoProps(p.Properties)}
	case *packets.Unsuback:
		return &Unsuback{p.PacketID, p.Reasons, fromPahoProps(p.Properties)}
	case *packets.Pingreq:
		return &Pingreq{}
	case *packets.Pingresp:
		return &Pingresp{}
	case *packets.Disconnect:
		return &Disconnect{p.ReasonCode, fromPahoProps(p.Properties)}
	case *packets.Auth:
		return &Auth{p.ReasonCode, fromPahoProps(p.Properties)}
	}
	t.Fatalf("packet %T", cp.Content)
	return nil
}

func fromPahoProps(p *packets.Properties) *Properties {
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	q := &Properties{
		PayloadFormat: p.PayloadFormat, MessageExpiry: p.MessageExpiry, ContentType: text(p.ContentType), ResponseTopic: text(p.ResponseTopic),
		CorrelationData: p.CorrelationData, SessionExpiry: p.SessionExpiryInterval, AssignedClientID: text(p.AssignedClientID),
		ServerKeepAlive: p.ServerKeepAlive, AuthMethod: text(p.AuthMethod), AuthData: p.AuthData, RequestProblemInfo: p.RequestProblemInfo,
		WillDelay: p.WillDelayInterval, RequestResponseInfo: p.RequestResponseInfo, ResponseInfo: text(p.ResponseInfo),
		ServerReference: text(p.ServerReference), ReasonString: text(p.ReasonString), ReceiveMaximum: p.ReceiveMaximum,
		TopicAliasMaximum: p.TopicAliasMaximum, TopicAlias: p.TopicAlias, MaximumQoS: p.MaximumQOS, RetainAvailable: p.RetainAvailable,
		MaximumPacketSize: p.MaximumPacketSize, WildcardSubAvailable: p.WildcardSubAvailable, SubscriptionIDAvail: p.SubIDAvailable,
		SharedSubAvailable: p.SharedSubAvailable,
	}
	if p.SubscriptionIdentifier != nil {
		q.SubscriptionIDs = []uint32{uint32(*p.SubscriptionIdentifier)}
	}
	for _, u := range p.User {
		q.User = append(q.User, UserProperty{u.Key, u.Value})
	}
	return q
}

// samePacket compares, taking no properties and empty ones as the same.
func samePacket(a, b Packet) string {
	return cmp.Diff(a, b, cmp.Comparer(bytes.Equal), cmp.Transformer("properties", func(p *Properties) Properties {
		if p == nil {
			return Properties{}
		}
		return *p
	}))
}

// TestAgainstPaho lets the other codec read what ours writes and ours what the
// other one writes.
func TestAgainstPaho(t *testing.T) {
	eachType(t, []byte{V5}, func(t *rapid.T, version byte, typ Type) {
		p := plain(genPacket(t, version, typ))
		frame := p.Append(nil, version)
		if typ == DISCONNECT && len(frame) < 4 {
			return // legal, but not read by the other codec: section 3.14.2.1
		}
		cp, err := packets.ReadPacket(bytes.NewReader(frame))
		if err != nil {
			t.Fatalf("%s: %x: %v", dump(p), frame, err)
		}
		if diff := samePacket(p, fromPaho(t, cp)); diff != "" {
			t.Fatal(diff)
		}

		if c, ok := p.(*Connect); ok && c.Will != nil {
			c.Will.Props = nil
			cp.Content.(*packets.Connect).WillProperties = &packets.Properties{}
		}
		var buf bytes.Buffer
		if typ == PUBLISH {
			// The other codec would write the type twice into the first byte, harmlessly.
			cp.Flags = frame[0] & 0x0F
		}
		if _, err := cp.WriteTo(&buf); err != nil {
			t.Fatal(err)
		}
		got, err := decodeFrame(version, buf.Bytes())
		if err != nil {
			t.Fatalf("%s: %x: %v", dump(p), buf.Bytes(), err)
		}
		if diff := samePacket(p, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestStricterThanPaho damages frames: what ours still accepts the other codec
// accepts as well, and reads the same.
func TestStricterThanPaho(t *testing.T) {
	eachType(t, []byte{V5}, func(t *rapid.T, version byte, typ Type) {
		frame := genPacket(t, version, typ).Append(nil, version)
		for range rapid.IntRange(1, 3).Draw(t, "damages") {
			at := rapid.IntRange(1, len(frame)-1).Draw(t, "at")
			frame[at] = rapid.Byte().Draw(t, "byte")
		}
		p, err := decodeFrame(version, frame)
		if err != nil {
			return
		}
		if c, ok := p.(*Connect); ok && c.Version != V5 || typ == DISCONNECT && len(frame) < 4 {
			return
		}
		cp, err := packets.ReadPacket(bytes.NewReader(frame))
		if err != nil {
			t.Fatalf("%s: %x: accepted, but not by the other codec: %v", dump(p), frame, err)
		}
		q := fromPaho(t, cp)
		if pub, ok := p.(*Publish); ok && pub.Props != nil && len(pub.Props.SubscriptionIDs) > 1 {
			return // the other codec keeps the last one
		}
		if diff := samePacket(plain(p), plain(q)); diff != "" {
			t.Fatal(diff)
		}
	})
}
