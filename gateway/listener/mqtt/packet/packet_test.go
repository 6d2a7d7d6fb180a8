package packet

import (
	"bytes"
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
		} else if got := appendProperties(nil, p, owner); !bytes.Equal(got[1:], all) {
			t.Errorf("%s with all its properties: encoded again\n got %x\nwant %x", owner, got[1:], all)
		}
	}
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

// TestTooLong says that what cannot be encoded is cut or left out, and that the
// stream stays readable behind it.
func TestTooLong(t *testing.T) {
	long := strings.Repeat("é", 40_000)
	p := &Connack{Props: &Properties{ReasonString: &long}}
	got, err := decodeFrame(V5, p.Append(nil, V5))
	if err != nil {
		t.Fatal(err)
	}
	if s := *got.(*Connack).Props.ReasonString; s != long[:65_534] {
		t.Errorf("%d bytes of the string are left", len(s))
	}
	if testing.Short() {
		return
	}
	big := &Publish{Topic: "t", Payload: make([]byte, MaxSize)}
	if got := big.Append([]byte("x"), V311); string(got) != "x" {
		t.Errorf("%d bytes were appended", len(got))
	}
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
