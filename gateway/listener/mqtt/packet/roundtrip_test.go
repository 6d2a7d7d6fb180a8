package packet

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tributary.io/gateway/topic"
)

// Generators of packets as they come out of Decode: what a version does not have is
// absent, and nothing is empty where nil means absent.

var (
	genRune = rapid.OneOf(rapid.RuneFrom([]rune("aZ0/ -_$é€\ufeff\uffff\U0010ffff\x01\x7f")),
		rapid.Rune().Filter(func(r rune) bool { return r != 0 }))
	genText = rapid.StringOfN(genRune, 0, 10, -1)
	genName = rapid.StringOfN(genRune.Filter(func(r rune) bool { return r != '+' && r != '#' }), 1, 10, -1)
	genID   = rapid.Uint16Min(1)
	genData = rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 10), rapid.Just(make([]byte, 200)), rapid.Just(make([]byte, 20_000)))
)

func genFilter(t *rapid.T) string {
	filter := rapid.StringMatching(`(\$share/[a-z]{1,5}/)?([a-z]{0,4}/|\+/){0,5}([a-z]{1,4}|\+|#)`).Draw(t, "filter")
	return filter
}

// genProps draws properties that owner may carry, nil in half of the cases.
func genProps(t *rapid.T, version byte, owner Type) *Properties {
	if version != V5 || rapid.Bool().Draw(t, "no properties") {
		return nil
	}
	p := new(Properties)
	for id := range propAllowed {
		if propAllowed[id]&(1<<owner) == 0 || rapid.Bool().Draw(t, "absent") {
			continue
		}
		switch f := p.slot(id).(type) {
		case **byte:
			*f = new(rapid.ByteMax(1).Draw(t, "byte"))
		case **uint16:
			*f = new(rapid.Uint16Min(1).Draw(t, "short"))
		case **uint32:
			*f = new(rapid.Uint32Min(1).Draw(t, "long"))
		case **string:
			if id == propResponseTopic {
				*f = new(genName.Draw(t, "topic"))
				continue
			}
			*f = new(genText.Draw(t, "text"))
		case *[]byte:
			*f = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "data")
		case *[]uint32:
			most := 3
			if owner == SUBSCRIBE {
				most = 1
			}
			*f = rapid.SliceOfN(rapid.Uint32Range(1, MaxSize), 1, most).Draw(t, "ids")
		case *[]UserProperty:
			*f = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) UserProperty {
				return UserProperty{genText.Draw(t, "name"), genText.Draw(t, "value")}
			}), 1, 4).Draw(t, "user")
		}
	}
	if p.AuthMethod == nil {
		p.AuthData = nil
	}
	if cmp.Equal(p, new(Properties)) {
		return nil
	}
	return p
}

func genCode(t *rapid.T, typ Type) byte {
	return rapid.Byte().Filter(func(c byte) bool { return CodeAllowed(typ, c) }).Draw(t, "code")
}

// genPacket draws a packet of the given type.
func genPacket(t *rapid.T, version byte, typ Type) Packet {
	flag := func(label string) bool { return rapid.Bool().Draw(t, label) }
	switch typ {
	case CONNECT:
		return genConnect(t, version)
	case CONNACK:
		p := &Connack{Code: genCode(t, typ), Props: genProps(t, version, typ)}
		if version != V5 {
			p.Code = rapid.ByteMax(5).Draw(t, "return code")
		}
		p.SessionPresent = p.Code == 0 && flag("session")
		return p
	case PUBLISH:
		p := &Publish{QoS: rapid.ByteMax(2).Draw(t, "qos"), Retain: flag("retain"), Topic: genName.Draw(t, "topic"),
			Props: genProps(t, version, typ), Payload: genData.Draw(t, "payload")}
		if p.QoS > 0 {
			p.ID, p.Dup = genID.Draw(t, "id"), flag("dup")
		}
		if p.Props != nil && p.Props.TopicAlias != nil && flag("alias only") {
			p.Topic = ""
		}
		return p
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p := &Ack{Type: typ, ID: genID.Draw(t, "id"), Props: genProps(t, version, typ)}
		if version == V5 {
			p.Code = genCode(t, typ)
		}
		return p
	case SUBSCRIBE:
		p := &Subscribe{ID: genID.Draw(t, "id"), Props: genProps(t, version, typ)}
		for range rapid.IntRange(1, 4).Draw(t, "filters") {
			f := Filter{Topic: genFilter(t), QoS: rapid.ByteMax(2).Draw(t, "qos")}
			if version == V5 {
				_, _, shared := topic.SplitShare(f.Topic)
				f.NoLocal = !shared && flag("no local")
				f.RetainAsPublished = flag("as published")
				f.RetainHandling = rapid.ByteMax(2).Draw(t, "handling")
			}
			p.Filters = append(p.Filters, f)
		}
		return p
	case SUBACK:
		code := rapid.Custom(func(t *rapid.T) byte { return genCode(t, typ) })
		if version != V5 {
			code = rapid.SampledFrom([]byte{0, 1, 2, 0x80})
		}
		return &Suback{ID: genID.Draw(t, "id"), Codes: rapid.SliceOfN(code, 1, 8).Draw(t, "codes"), Props: genProps(t, version, typ)}
	case UNSUBSCRIBE:
		return &Unsubscribe{ID: genID.Draw(t, "id"), Topics: rapid.SliceOfN(rapid.Custom(genFilter), 1, 4).Draw(t, "topics"),
			Props: genProps(t, version, typ)}
	case UNSUBACK:
		p := &Unsuback{ID: genID.Draw(t, "id"), Props: genProps(t, version, typ)}
		if version == V5 {
			p.Codes = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) byte { return genCode(t, typ) }), 1, 5).Draw(t, "codes")
		}
		return p
	case PINGREQ:
		return &Pingreq{}
	case PINGRESP:
		return &Pingresp{}
	case DISCONNECT:
		p := &Disconnect{Props: genProps(t, version, typ)}
		if version == V5 {
			p.Code = genCode(t, typ)
		}
		return p
	default:
		p := &Auth{Code: genCode(t, AUTH), Props: genProps(t, version, typ)}
		if p.Props == nil || p.Props.AuthMethod == nil {
			p.Props = &Properties{AuthMethod: new("m")}
		}
		return p
	}
}

func genConnect(t *rapid.T, version byte) *Connect {
	flag := func(label string) bool { return rapid.Bool().Draw(t, label) }
	p := &Connect{Version: version, CleanStart: flag("clean"), KeepAlive: rapid.Uint16().Draw(t, "keep alive"),
		ClientID: genText.Draw(t, "client"), Props: genProps(t, version, CONNECT)}
	if version != V5 && p.ClientID == "" {
		p.CleanStart = true
	}
	if flag("will") {
		p.Will = &Will{Topic: genName.Draw(t, "topic"), Payload: genData.Draw(t, "payload"), QoS: rapid.ByteMax(2).Draw(t, "qos"),
			Retain: flag("retain"), Props: genProps(t, version, will)}
	}
	if p.HasUsername = flag("user"); p.HasUsername {
		p.Username = genText.Draw(t, "user name")
	}
	if p.HasPassword = (version == V5 || p.HasUsername) && flag("password"); p.HasPassword {
		p.Password = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "password")
	}
	return p
}

// eachType runs a property for every packet type in every version that has it.
func eachType(t *testing.T, versions []byte, property func(t *rapid.T, version byte, typ Type)) {
	for _, version := range versions {
		for typ := CONNECT; typ <= AUTH; typ++ {
			if typ == AUTH && version != V5 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", typ, version), func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) { property(t, version, typ) })
			})
		}
	}
}

// TestRoundTrip encodes what it draws behind other bytes, and decodes the same.
func TestRoundTrip(t *testing.T) {
	eachType(t, []byte{V311, V5}, func(t *rapid.T, version byte, typ Type) {
		p := genPacket(t, version, typ)
		frame := p.Append([]byte("xy"), version)
		if string(frame[:2]) != "xy" {
			t.Fatalf("what was before the frame is gone: %x", frame)
		}
		got, err := decodeFrame(version, frame[2:])
		if err != nil {
			t.Fatalf("%s: %x: %v", dump(p), frame[2:], err)
		}
		if diff := cmp.Diff(p, got, cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestOtherVersion encodes a packet of 5.0 for a 3.1.1 connection: what is left
// must be a valid packet of 3.1.1, or nothing.
func TestOtherVersion(t *testing.T) {
	eachType(t, []byte{V5}, func(t *rapid.T, _ byte, typ Type) {
		p := genPacket(t, V5, typ)
		switch p := p.(type) {
		case *Connect:
			p.Version = 0
			p.HasUsername, p.CleanStart = p.HasUsername || p.HasPassword, true
		case *Publish:
			if p.Topic == "" {
				p.Topic = "resolved"
			}
		}
		frame := p.Append(nil, V311)
		if len(frame) == 0 {
			return
		}
		if _, err := decodeFrame(V311, frame); err != nil {
			t.Fatalf("%s: %x: %v", dump(p), frame, err)
		}
	})
}
