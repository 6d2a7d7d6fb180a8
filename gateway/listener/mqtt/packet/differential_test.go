package packet

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	v5 "github.com/eclipse/paho.golang/packets"
	v3 "github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// Two codecs of others read whatever a fuzzer makes of packets: paho.golang for MQTT
// 5.0, paho.mqtt.golang for 3.1.1. What they and ours accept must say the same, and be
// written the same way again.

// deviation is what another codec reads differently from the specification.
type deviation struct {
	version byte
	section string // that makes us right
	what    string
	is      func(ours Packet, frame []byte) bool
}

func deviations() []deviation {
	props := func(p Packet) *Properties {
		switch p := p.(type) {
		case *Publish:
			return p.Props
		case *Subscribe:
			return p.Props
		case *Connect:
			return p.Props
		case *Connack:
			return p.Props
		case *Auth:
			return p.Props
		}
		return nil
	}
	return []deviation{
		{V5, "3.3.2.3.8", "keeps one of several subscription identifiers",
			func(p Packet, _ []byte) bool { q := props(p); return q != nil && len(q.SubscriptionIDs) > 1 }},
		{V5, "3.15.2.2.2", "leaves out an authentication method whose name is empty",
			func(p Packet, _ []byte) bool {
				q := props(p)
				return q != nil && q.AuthMethod != nil && *q.AuthMethod == ""
			}},
		{V5, "3.1.3.2", "cannot write the properties of a will",
			func(p Packet, _ []byte) bool {
				c, ok := p.(*Connect)
				return ok && c.Will != nil && c.Will.Props != nil
			}},
		{V5, "3.14.2.1", "does not read a DISCONNECT without reason code",
			func(p Packet, frame []byte) bool { _, ok := p.(*Disconnect); return ok && bodyOf(frame) < 2 }},
		{V5, "3.15.2.1", "does not read an AUTH without reason code",
			func(p Packet, frame []byte) bool { _, ok := p.(*Auth); return ok && bodyOf(frame) < 2 }},
		{V5, "3.1", "takes a CONNECT of MQTT 3.1.1 for one of 5.0",
			func(p Packet, _ []byte) bool { c, ok := p.(*Connect); return ok && c.Version != V5 }},
		{V311, "3.1", "takes a CONNECT of MQTT 5.0 for one of 3.1.1",
			func(p Packet, _ []byte) bool { c, ok := p.(*Connect); return ok && c.Version != V311 }},
	}
}

func bodyOf(frame []byte) (size int) {
	_, size, _, _ = Header(frame, MaxSize)
	return size
}

// deviates names what makes the other codec's reading worthless.
func deviates(version byte, p Packet, frame []byte) string {
	for _, d := range deviations() {
		if d.version == version && d.is(p, frame) {
			return d.section + ": " + d.what
		}
	}
	return ""
}

func FuzzAgainstPaho(f *testing.F) {
	for _, file := range []string{"valid.txt", "invalid.txt"} {
		for _, v := range vectors(f, file) {
			f.Add(v.version, v.frame)
		}
	}
	for _, version := range []byte{V311, V5} {
		for _, p := range fullPackets(version) {
			f.Add(version, p.Append(nil, version))
		}
	}
	f.Fuzz(func(t *testing.T, version byte, frame []byte) {
		if version != V5 {
			version = V311
		}
		p, err := decodeFrame(version, frame)
		if err != nil || deviates(version, p, frame) != "" {
			return
		}
		if version == V5 {
			againstPaho5(t, p, frame)
		} else {
			againstPaho3(t, p, frame)
		}
	})
}

func againstPaho5(t *testing.T, p Packet, frame []byte) {
	theirs, err := v5.ReadPacket(bytes.NewReader(frame))
	if err != nil {
		t.Fatalf("%s: %x: accepted, but not by the other codec: %v", dump(p), frame, err)
	}
	want := plain(p)
	if diff := samePacket(want, plain(fromPaho(t, theirs))); diff != "" {
		t.Fatalf("%x read differently (-ours +theirs):\n%s", frame, diff)
	}
	if theirs.Type == v5.PUBLISH {
		theirs.Flags = frame[0] & 15 // it would write the type twice into the first byte
	}
	var again bytes.Buffer
	if _, err := theirs.WriteTo(&again); err != nil {
		t.Fatal(err)
	}
	got, err := decodeFrame(V5, again.Bytes())
	if err != nil {
		t.Fatalf("%x, written by the other codec: %v", again.Bytes(), err)
	}
	if diff := samePacket(want, plain(got)); diff != "" {
		t.Fatalf("%x, written by the other codec as %x:\n%s", frame, again.Bytes(), diff)
	}
}

func againstPaho3(t *testing.T, p Packet, frame []byte) {
	theirs, err := v3.ReadPacket(bytes.NewReader(frame))
	if err != nil {
		t.Fatalf("%s: %x: accepted, but not by the other codec: %v", dump(p), frame, err)
	}
	if c, ok := theirs.(*v3.ConnectPacket); ok && c.Validate() != v3.Accepted {
		t.Fatalf("%s: %x: accepted, but not by the other codec: %#x", dump(p), frame, c.Validate())
	}
	if diff := samePacket(p, fromPaho3(theirs)); diff != "" {
		t.Fatalf("%x read differently (-ours +theirs):\n%s", frame, diff)
	}
	var again bytes.Buffer
	if err := theirs.Write(&again); err != nil {
		t.Fatal(err)
	}
	if ours := p.Append(nil, V311); !bytes.Equal(ours, again.Bytes()) {
		t.Fatalf("written as %x, by the other codec as %x", ours, again.Bytes())
	}
}

// fromPaho3 translates a packet of the other codec of MQTT 3.1.1.
func fromPaho3(cp v3.ControlPacket) Packet {
	switch p := cp.(type) {
	case *v3.ConnectPacket:
		c := &Connect{Version: p.ProtocolVersion, CleanStart: p.CleanSession, KeepAlive: p.Keepalive, ClientID: p.ClientIdentifier,
			Username: p.Username, HasUsername: p.UsernameFlag, Password: p.Password, HasPassword: p.PasswordFlag}
		if p.WillFlag {
			c.Will = &Will{Topic: p.WillTopic, Payload: p.WillMessage, QoS: p.WillQos, Retain: p.WillRetain}
		}
		return c
	case *v3.ConnackPacket:
		return &Connack{SessionPresent: p.SessionPresent, Code: p.ReturnCode}
	case *v3.PublishPacket:
		return &Publish{Dup: p.Dup, QoS: p.Qos, Retain: p.Retain, Topic: p.TopicName, ID: p.MessageID, Payload: p.Payload}
	case *v3.PubackPacket:
		return &Ack{Type: PUBACK, ID: p.MessageID}
	case *v3.PubrecPacket:
		return &Ack{Type: PUBREC, ID: p.MessageID}
	case *v3.PubrelPacket:
		return &Ack{Type: PUBREL, ID: p.MessageID}
	case *v3.PubcompPacket:
		return &Ack{Type: PUBCOMP, ID: p.MessageID}
	case *v3.SubscribePacket:
		s := &Subscribe{ID: p.MessageID}
		for i := range p.Topics {
			s.Filters = append(s.Filters, Filter{Topic: p.Topics[i], QoS: p.Qoss[i]})
		}
		return s
	case *v3.SubackPacket:
		return &Suback{ID: p.MessageID, Codes: p.ReturnCodes}
	case *v3.UnsubscribePacket:
		return &Unsubscribe{ID: p.MessageID, Topics: p.Topics}
	case *v3.UnsubackPacket:
		return &Unsuback{ID: p.MessageID}
	case *v3.PingreqPacket:
		return &Pingreq{}
	case *v3.PingrespPacket:
		return &Pingresp{}
	}
	return &Disconnect{}
}

// fullPackets are packets of every type with everything that they may carry.
func fullPackets(version byte) (list []Packet) {
	full := func(owner Type) *Properties {
		if version != V5 {
			return nil
		}
		p := new(Properties)
		for id := range propAllowed {
			if propAllowed[id]&(1<<owner) == 0 {
				continue
			}
			switch f := p.slot(id).(type) {
			case **byte:
				*f = new(byte(1))
			case **uint16:
				*f = new(uint16(7))
			case **uint32:
				*f = new(uint32(70_000))
			case **string:
				*f = new("text")
			case *[]byte:
				*f = []byte{0, 255}
			case *[]uint32:
				*f = []uint32{300}
			case *[]UserProperty:
				*f = []UserProperty{{"name", "value"}, {"name", ""}}
			}
		}
		return p
	}
	for typ := CONNECT; typ <= AUTH; typ++ {
		switch typ {
		case CONNECT:
			list = append(list, &Connect{Version: version, CleanStart: true, KeepAlive: 60, ClientID: "client", Props: full(CONNECT),
				Will:     &Will{Topic: "a/b", Payload: []byte("gone"), QoS: 2, Retain: true, Props: full(will)},
				Username: "user", HasUsername: true, Password: []byte("secret"), HasPassword: true})
		case CONNACK:
			list = append(list, &Connack{SessionPresent: true, Props: full(typ)})
		case PUBLISH:
			for qos := range byte(3) {
				p := &Publish{QoS: qos, Retain: true, Topic: "a/b", Props: full(typ), Payload: []byte("payload")}
				if qos > 0 {
					p.ID, p.Dup = 258, true
				}
				list = append(list, p)
			}
		case PUBACK, PUBREC, PUBREL, PUBCOMP:
			list = append(list, &Ack{Type: typ, ID: 258, Props: full(typ)})
		case SUBSCRIBE:
			list = append(list, &Subscribe{ID: 258, Filters: []Filter{{Topic: "a/#", QoS: 2}, {Topic: "$share/g/+/b", QoS: 1}}, Props: full(typ)})
		case SUBACK:
			list = append(list, &Suback{ID: 258, Codes: []byte{2, 0x80, 0}, Props: full(typ)})
		case UNSUBSCRIBE:
			list = append(list, &Unsubscribe{ID: 258, Topics: []string{"a/#", "b"}, Props: full(typ)})
		case UNSUBACK:
			p := &Unsuback{ID: 258, Props: full(typ)}
			if version == V5 {
				p.Codes = []byte{0, 0x11}
			}
			list = append(list, p)
		case PINGREQ:
			list = append(list, &Pingreq{})
		case PINGRESP:
			list = append(list, &Pingresp{})
		case DISCONNECT:
			list = append(list, &Disconnect{Props: full(typ)})
		case AUTH:
			if version == V5 {
				list = append(list, &Auth{Code: 0x18, Props: full(typ)})
			}
		}
	}
	return list
}

// TestEveryTruncation cuts packets of every type at every byte, as a stream that ends
// there and as a packet that claims to be so short: it is incomplete, refused, or what
// is left is a packet of its own, which is written just like that again. Bytes behind
// the cut would panic.
func TestEveryTruncation(t *testing.T) {
	for _, version := range []byte{V311, V5} {
		for _, p := range fullPackets(version) {
			frame := p.Append(nil, version)
			t.Run(fmt.Sprintf("%T/%d", p, version), func(t *testing.T) { truncate(t, version, p, frame) })
		}
	}
	eachType(t, []byte{V311, V5}, func(t *rapid.T, version byte, typ Type) {
		p := genPacket(t, version, typ)
		truncate(t, version, p, p.Append(nil, version))
	})
}

func truncate(t interface{ Fatalf(string, ...any) }, version byte, p Packet, frame []byte) {
	_, size, head, err := Header(frame, MaxSize)
	if err != nil || head+size != len(frame) {
		t.Fatalf("%x: %v", frame, err)
	}
	for cut := range min(len(frame), 500) {
		stream := slices.Clip(slices.Clone(frame[:cut]))
		if _, size, n, err := Header(stream, MaxSize); err != nil || n > 0 && n+size <= cut {
			t.Fatalf("%x, cut at %d: complete, %v", frame, cut, err)
		}
	}
	for cut := range min(size, 500) {
		body := slices.Clip(slices.Clone(frame[head : head+cut]))
		q, err := Decode(version, frame[0], body)
		if err != nil {
			continue
		}
		again := q.Append(nil, version)
		if _, n, h, err := Header(again, MaxSize); err != nil || !bytes.Equal(again[h:h+n], body) && !abbreviated(q, body) {
			t.Fatalf("%s cut to %x was read as %s", dump(p), body, dump(q))
		}
	}
}

// abbreviated says that a packet has a shorter form: a code 0, and an empty property
// length, may be left out behind it.
func abbreviated(p Packet, body []byte) bool {
	switch p.(type) {
	case *Ack:
		return len(body) <= 4
	case *Disconnect, *Auth:
		return len(body) <= 2
	}
	return false
}
