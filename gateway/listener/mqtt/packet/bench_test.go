package packet

import "testing"

// benchPackets are the packets of the hot path, and one with properties.
func benchPackets() map[string]Packet {
	return map[string]Packet{
		"publish-200B": &Publish{QoS: 1, ID: 7, Topic: "fleet/demo/device-17/shadow", Payload: make([]byte, 200)},
		"publish-event": &Publish{QoS: 1, ID: 7, Topic: "app/demo", Payload: make([]byte, 300), Props: &Properties{
			ContentType: new("application/cloudevents+json; charset=UTF-8"), SubscriptionIDs: []uint32{1},
			User: []UserProperty{{"id", "01JD3Z7Q"}, {"source", "/applications/demo/devices/17"}, {"type", "io.example.shadow"},
				{"specversion", "1.0"}}}},
		"puback": &Ack{Type: PUBACK, ID: 7},
		"connect": &Connect{Version: V5, CleanStart: true, KeepAlive: 60, ClientID: "device-17", HasUsername: true, Username: "device-17@demo",
			HasPassword: true, Password: []byte("secret"), Props: &Properties{ReceiveMaximum: new(uint16(100)), SessionExpiry: new(uint32(3600))}},
		"subscribe": &Subscribe{ID: 1, Filters: []Filter{{Topic: "$share/g/app/demo", QoS: 1}}},
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, p := range benchPackets() {
		frame := p.Append(nil, V5)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				first, _, n, _ := Header(frame, MaxSize)
				if _, err := Decode(V5, first, frame[n:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodePublish is the reader's path: the same device, the same topic, or
// (new topic) another topic each time.
func BenchmarkDecodePublish(b *testing.B) {
	p := benchPackets()["publish-200B"]
	frame := p.Append(nil, V5)
	for _, name := range []string{"same topic", "new topic"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			var in Publish
			for b.Loop() {
				first, _, n, _ := Header(frame, MaxSize)
				if err := DecodePublish(V5, first, frame[n:], &in); err != nil {
					b.Fatal(err)
				}
				if name == "new topic" {
					in.Topic = ""
				}
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, p := range benchPackets() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := p.Append(nil, V5)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				buf = p.Append(buf[:0], V5)
			}
		})
	}
}
