package packet

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestPropertyTable gives each packet every property alone and, of those it may
// carry, all at once, which also fills the storage of decodedProps.
func TestPropertyTable(t *testing.T) {
	// Table 2-4 of the specification, written down once more from the packets' side.
	want := map[Type][]int{
		CONNECT:     {0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27},
		CONNACK:     {0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A},
		PUBLISH:     {0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26},
		will:        {0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26},
		PUBACK:      {0x1F, 0x26},
		PUBREC:      {0x1F, 0x26},
		PUBREL:      {0x1F, 0x26},
		PUBCOMP:     {0x1F, 0x26},
		SUBSCRIBE:   {0x0B, 0x26},
		SUBACK:      {0x1F, 0x26},
		UNSUBSCRIBE: {0x26},
		UNSUBACK:    {0x1F, 0x26},
		DISCONNECT:  {0x11, 0x1C, 0x1F, 0x26},
		AUTH:        {0x15, 0x16, 0x1F, 0x26},
	}
	for owner, ids := range want {
		for id := range 0x80 {
			allowed := bytes.IndexByte(asBytes(ids), byte(id)) >= 0
			r := reader{b: appendVarint(nil, 1+len(sampleValue(id)))}
			r.b = append(append(r.b, byte(id)), sampleValue(id)...)
			r.properties(owner)
			ok := r.err == nil || r.err.Reason == "reserved type: authentication data without method"
			if ok != allowed {
				t.Errorf("%s with property 0x%02x: %v", owner, id, r.err)
			}
			if !allowed && r.err.Code != CodeMalformedPacket {
				t.Errorf("%s with property 0x%02x: code 0x%02x", owner, id, r.err.Code)
			}
		}
		var all []byte
		for _, id := range ids {
			all = append(append(all, byte(id)), sampleValue(id)...)
		}
		r := reader{b: append(appendVarint(nil, len(all)), all...)}
		p := r.properties(owner)
		if r.err != nil {
			t.Errorf("%s with all its properties: %v", owner, r.err)
		} else if got := encodedProperties(p, owner); !bytes.Equal(got[1:], all) {
			t.Errorf("%s with all its properties: encoded again\n got %x\nwant %x", owner, got[1:], all)
		}
	}
}

func encodedProperties(p *Properties, owner Type) []byte {
	var f frame
	f.addProperties(p, owner)
	return f.b
}

func asBytes(ids []int) (b []byte) {
	for _, id := range ids {
		b = append(b, byte(id))
	}
	return b
}

// sampleValue is an encoded value of a property, different for each.
func sampleValue(id int) []byte {
	if id >= len(propAllowed) || propAllowed[id] == 0 {
		return []byte{0}
	}
	switch new(Properties).slot(id).(type) {
	case **byte:
		return []byte{byte(id & 1)}
	case **uint16:
		return []byte{1, byte(id)}
	case **uint32:
		return []byte{1, 2, 3, byte(id)}
	case **string, *[]byte:
		return []byte{0, 1, byte('A' + id)}
	case *[]UserProperty:
		return []byte{0, 1, 'k', 0, 1, 'v'}
	}
	return []byte{1}
}

// TestPropertiesDropped says that a property a packet may not carry never reaches
// the wire, so that a will's can be handed to its PUBLISH.
func TestPropertiesDropped(t *testing.T) {
	p := &Publish{Topic: "t", Props: &Properties{WillDelay: new(uint32(5)), ContentType: new("x"), ReasonString: new("r")}}
	got, err := decodeFrame(V5, p.Append(nil, V5))
	if err != nil {
		t.Fatal(err)
	}
	if want := `Publish{Topic:"t" Props:Properties{ContentType:"x"} Payload:h}`; dump(got) != want {
		t.Errorf("got %s", dump(got))
	}
}

// TestConnackCodes says what becomes of reason codes for a 3.1.1 client.
func TestConnackCodes(t *testing.T) {
	want := map[byte]string{0: "20020000", 5: "20020005", 0x84: "20020001", 0x85: "20020002", 0x88: "20020003",
		0x97: "20020003", 0x86: "20020004", 0x87: "20020005", 0x8C: "20020005", 0x81: "", 0x82: "", 0x95: "", 6: ""}
	for code, frame := range want {
		if got := string(hexOf((&Connack{Code: code}).Append(nil, V311))); got != frame {
			t.Errorf("code 0x%02x: %s, want %s", code, got, frame)
		}
	}
	if got := string(hexOf((&Suback{ID: 1, Codes: []byte{0, 2, 0x87, 0xA2}}).Append(nil, V311))); got != "9006000100028080" {
		t.Errorf("SUBACK: %s", got)
	}
}

func hexOf(b []byte) []byte {
	const digits = "0123456789abcdef"
	var out []byte
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return out
}

// TestTooLong says that a packet with a text or binary data that the encoding cannot
// express is left out whole, wherever that stands, and that one of the greatest length
// comes through as it is.
func TestTooLong(t *testing.T) {
	packets := map[string]func(s string) Packet{
		"client identifier": func(s string) Packet { return &Connect{Version: V5, ClientID: s} },
		"user name":         func(s string) Packet { return &Connect{Version: V5, HasUsername: true, Username: s} },
		"password": func(s string) Packet {
			return &Connect{Version: V5, HasUsername: true, HasPassword: true, Password: []byte(s)}
		},
		"will topic":   func(s string) Packet { return &Connect{Version: V5, Will: &Will{Topic: s}} },
		"will payload": func(s string) Packet { return &Connect{Version: V5, Will: &Will{Topic: "t", Payload: []byte(s)}} },
		"topic":        func(s string) Packet { return &Publish{Topic: s} },
		"filter":       func(s string) Packet { return &Subscribe{ID: 1, Filters: []Filter{{Topic: s}}} },
		"unsubscribed": func(s string) Packet { return &Unsubscribe{ID: 1, Topics: []string{s}} },
	}
	for owner := will; owner <= AUTH; owner++ {
		for id := range propAllowed {
			if propAllowed[id]&(1<<owner) == 0 {
				continue
			}
			for part, set := range longProperty(id) {
				packets[fmt.Sprintf("property 0x%02x of %v, %s", id, owner, part)] = func(s string) Packet {
					x := &Properties{}
					set(x, s)
					if x.AuthMethod == nil && (owner == AUTH || id == propAuthData) { // which need one
						x.AuthMethod = new("m")
					}
					return withProperties(owner, x)
				}
			}
		}
	}
	if len(packets) < 60 {
		t.Fatalf("only %d places for texts", len(packets))
	}
	for where, packet := range packets {
		if got := packet(strings.Repeat("a", maxString+1)).Append([]byte("x"), V5); string(got) != "x" {
			t.Errorf("%s: %d bytes were appended", where, len(got)-1)
		}
		whole := packet(strings.Repeat("a", maxString)).Append(nil, V5)
		got, err := decodeFrame(V5, whole)
		if err != nil || !bytes.Equal(got.Append(nil, V5), whole) {
			t.Errorf("%s of the greatest length: %v", where, err)
		}
	}
	if testing.Short() {
		return
	}
	big := &Publish{Topic: "t", Payload: make([]byte, MaxSize)}
	if got := big.Append([]byte("x"), V311); string(got) != "x" {
		t.Errorf("%d bytes were appended", len(got))
	}
}

// longProperty is how to set each text of a property.
func longProperty(id int) map[string]func(x *Properties, s string) {
	switch new(Properties).slot(id).(type) {
	case **string:
		return map[string]func(x *Properties, s string){"text": func(x *Properties, s string) { *x.slot(id).(**string) = &s }}
	case *[]byte:
		return map[string]func(x *Properties, s string){"binary": func(x *Properties, s string) { *x.slot(id).(*[]byte) = []byte(s) }}
	case *[]UserProperty:
		return map[string]func(x *Properties, s string){
			"name":  func(x *Properties, s string) { x.User = []UserProperty{{"n", "v"}, {s, "v"}} },
			"value": func(x *Properties, s string) { x.User = []UserProperty{{"n", "v"}, {"n", s}} },
		}
	}
	return nil
}

// withProperties is a packet of a type that has them.
func withProperties(owner Type, x *Properties) Packet {
	switch owner {
	case will:
		return &Connect{Version: V5, Will: &Will{Topic: "t", Props: x}}
	case CONNECT:
		return &Connect{Version: V5, Props: x}
	case CONNACK:
		return &Connack{Props: x}
	case PUBLISH:
		return &Publish{Topic: "t", Props: x}
	case SUBSCRIBE:
		return &Subscribe{ID: 1, Filters: []Filter{{Topic: "t"}}, Props: x}
	case SUBACK:
		return &Suback{ID: 1, Codes: []byte{0}, Props: x}
	case UNSUBSCRIBE:
		return &Unsubscribe{ID: 1, Topics: []string{"t"}, Props: x}
	case UNSUBACK:
		return &Unsuback{ID: 1, Codes: []byte{0}, Props: x}
	case DISCONNECT:
		return &Disconnect{Props: x}
	case AUTH:
		return &Auth{Code: 0x18, Props: x}
	}
	return &Ack{Type: owner, ID: 1, Props: x}
}

// TestFromClient says what only a server may send.
func TestFromClient(t *testing.T) {
	bad := []Packet{&Connack{}, &Suback{}, &Unsuback{}, &Pingresp{}, &Publish{Props: &Properties{SubscriptionIDs: []uint32{1}}},
		&Disconnect{Props: &Properties{ServerReference: new("s")}}}
	for _, p := range bad {
		if e, ok := FromClient(p).(*Error); !ok || e.Code != CodeProtocolError {
			t.Errorf("%s is accepted from a client", dump(p))
		}
	}
	good := []Packet{&Connect{}, &Publish{}, &Publish{Props: &Properties{}}, &Ack{Type: PUBACK}, &Subscribe{}, &Unsubscribe{}, &Pingreq{},
		&Disconnect{}, &Disconnect{Props: &Properties{SessionExpiry: new(uint32)}}, &Auth{}}
	for _, p := range good {
		if err := FromClient(p); err != nil {
			t.Errorf("%s: %v", dump(p), err)
		}
	}
}

// TestHotPathAllocations: a device that repeats its topic costs nothing, and
// neither do its acknowledgements.
func TestHotPathAllocations(t *testing.T) {
	pub := &Publish{QoS: 1, ID: 7, Topic: "fleet/demo/device-17/shadow", Payload: make([]byte, 200)}
	for _, version := range []byte{V311, V5} {
		frame := pub.Append(nil, version)
		first, _, n, _ := Header(frame, MaxSize)
		var in Publish
		buf := make([]byte, 0, 1024)
		allocs := testing.AllocsPerRun(100, func() {
			if DecodePublish(version, first, frame[n:], &in) != nil || FromClient(&in) != nil {
				t.Fatal("refused")
			}
			buf = in.Append(buf[:0], version)
			ack := Ack{Type: PUBACK, ID: in.ID}
			n := len(buf)
			buf = ack.Append(buf, version)
			if DecodeAck(version, buf[n], buf[n+2:], &ack) != nil || ack.ID != in.ID {
				t.Fatal("acknowledgement refused")
			}
		})
		if allocs != 0 {
			t.Errorf("version %d: %v allocations", version, allocs)
		}
	}
}

// TestAliasing says which parts of a decoded packet may outlive the frame.
func TestAliasing(t *testing.T) {
	for _, v := range vectors(t, "valid.txt") {
		p, err := decodeFrame(v.version, v.frame)
		if err != nil {
			t.Fatal(err)
		}
		before := dump(p)
		for i := range v.frame {
			v.frame[i] = '?'
		}
		aliases := strings.Contains(before, "Payload:") || strings.Contains(before, "Password:") ||
			strings.Contains(before, "CorrelationData:") || strings.Contains(before, "AuthData:")
		if !aliases && dump(p) != before {
			t.Errorf("%s changed to %s with the frame", before, dump(p))
		}
	}
}
