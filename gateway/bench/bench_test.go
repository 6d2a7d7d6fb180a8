package bench

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

func TestValidate(t *testing.T) {
	valid := Default()
	if err := valid.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want   string
		change func(*Config)
	}{
		{"version 3", func(c *Config) { c.Version = 3 }},
		{"0 clients", func(c *Config) { c.Publishers = 0 }},
		{"clients", func(c *Config) { c.Idle = 60_000 }},
		{"clients", func(c *Config) { c.Subscribers = -1 }},
		{"window 0", func(c *Config) { c.Window = 0 }},
		{"window 10001", func(c *Config) { c.Window = 10_001 }},
		{"qos 3", func(c *Config) { c.QoS = 3 }},
		{"payload", func(c *Config) { c.PayloadLen = 17 << 20 }},
		{"rate -1", func(c *Config) { c.Rate = -1 }},
		{"messages -1", func(c *Config) { c.Messages = -1 }},
		{"duration 0s", func(c *Config) { c.Duration = 0 }},
		{"duration 25h", func(c *Config) { c.Duration = 25 * time.Hour }},
		{"connect timeout", func(c *Config) { c.ConnectTimeout = 0 }},
		{"drain", func(c *Config) { c.Drain = 0 }},
		{"client id prefix", func(c *Config) { c.ClientIDPrefix = "" }},
		{`topic "a/#"`, func(c *Config) { c.Topic = "a/#" }},
		{`filter "a#"`, func(c *Config) { c.ConsumeFilter = "a#" }},
		{`filter ""`, func(c *Config) { c.Subscribers, c.Topic = 1, "" }},
	} {
		c := Default()
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// TestOnlyLoopback says where load may go.
func TestOnlyLoopback(t *testing.T) {
	for _, tt := range []struct {
		address, want, err string
		remote             bool
	}{
		{"127.0.0.1:1883", "127.0.0.1:1883", "", false},
		{"127.8.9.1:1", "127.8.9.1:1", "", false},
		{"[::1]:1883", "[::1]:1883", "", false},
		{"192.0.2.1:1883", "", "not on this machine", false},
		{"0.0.0.0:1883", "", "not on this machine", false},
		{"[2001:db8::1]:1883", "", "not on this machine", false},
		{"192.0.2.1:1883", "192.0.2.1:1883", "", true},
		{"localhost", "", "want host:port", false},
	} {
		c := Config{Address: tt.address, AllowRemote: tt.remote}
		got, err := resolve(t.Context(), &c)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.address, got, err)
		}
	}
	c := Default()
	c.Address = "192.0.2.1:1883"
	if _, err := Run(t.Context(), c, nil); err == nil {
		t.Error("Run would load another machine")
	}
}

func TestPayload(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	now := start.Add(1500 * time.Millisecond)
	for _, tt := range []struct {
		payload string
		length  int
		want    string
	}{
		{"plain", 0, "plain"},
		{"{client} {n} %d", 0, "dev-7 7 7"},
		{`{"seq":{seq},"t":{unix},"ms":{unixms}}`, 0, `{"seq":42,"t":1700000001,"ms":1700000001500}`},
		{"{seq}{seq}", 0, "4242"},
		{"<{stamp}>", 0, "<tbdeadbeef00000059682f00>"},
		{"{other}{", 0, "{other}{"},
		{"", 0, ""},
		{"", 5, "01234"},
		{"", 24, "tbdeadbeef00000059682f00"},
		{"", 30, "tbdeadbeef00000059682f0089abcd"},
	} {
		c := Config{Payload: tt.payload, PayloadLen: tt.length}
		got := string(newPayload(&c, "dev-7", 7, 0xdeadbeef, start).appendTo([]byte("x"), 42, now))
		if got != "x"+tt.want {
			t.Errorf("%q, %d: %q, want %q", tt.payload, tt.length, got[1:], tt.want)
		}
	}
}

func TestStamp(t *testing.T) {
	for _, at := range []time.Duration{0, 1, time.Second, 200 * 24 * time.Hour} {
		stamp := appendStamp(nil, 0x01020304, at)
		if len(stamp) != stampLen {
			t.Fatalf("%d bytes", len(stamp))
		}
		for _, around := range []string{"%", "tb%", "tbtb%x", `{"a":"%"}`, "tb0102030400000000000tb%"} {
			text := strings.Replace(around, "%", string(stamp), 1)
			if got, ok := findStamp([]byte(text), 0x01020304); !ok || got != at {
				t.Errorf("%s: %v, %v", text, got, ok)
			}
			if _, ok := findStamp([]byte(text), 0x01020305); ok {
				t.Errorf("%s: taken for a stamp of another run", text)
			}
		}
		if _, ok := findStamp(stamp[:stampLen-1], 0x01020304); ok {
			t.Error("half a stamp was taken for one")
		}
	}
}

// FuzzStamp looks for stamps in anything: what is found is really there.
func FuzzStamp(f *testing.F) {
	f.Add([]byte("tb"), uint32(1))
	f.Add(appendStamp([]byte("tbtb"), 7, 99), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, run uint32) {
		at, ok := findStamp(b, run)
		if ok && !bytes.Contains(bytes.ToLower(b), appendStamp(nil, run, at)) {
			t.Fatalf("%q: %v", b, at)
		}
	})
}

// TestHistogram compares quantiles with those of the sorted values.
func TestHistogram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, most := range []time.Duration{50, 1000, time.Millisecond, 10 * time.Second} {
		var whole, a, b histogram
		var values []time.Duration
		for i := range 10_000 {
			v := time.Duration(rng.Int64N(int64(most)) * rng.Int64N(100) / 100)
			values = append(values, v)
			if i%3 == 0 {
				a.add(v)
			} else {
				b.add(v)
			}
		}
		whole.merge(&a)
		whole.merge(&b)
		slices.Sort(values)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.9999, 1} {
			want := values[max(0, min(len(values)-1, int(q*float64(len(values))+0.999999)-1))]
			got := whole.quantile(q)
			if got < want || got > want+want/64+1 {
				t.Errorf("up to %v: quantile %v is %v, want %v", most, q, got, want)
			}
		}
		if whole.max != values[len(values)-1] || whole.total != 10_000 {
			t.Errorf("maximum %v of %d", whole.max, whole.total)
		}
	}
	// Every bucket ends where the next begins, and what is too long counts as the longest.
	for i := range len(histogram{}.counts) - 1 {
		if bucket(upper(i)) != i || bucket(upper(i)+1) != i+1 {
			t.Fatalf("bucket %d ends at %d", i, upper(i))
		}
	}
	var h histogram
	h.add(time.Hour)
	h.add(-time.Second)
	if h.latency().Max != time.Hour || h.quantile(0.1) != 0 {
		t.Errorf("%+v", h.latency())
	}
}

// TestReport holds both forms of a report still.
func TestReport(t *testing.T) {
	rep := Report{
		Address: "127.0.0.1:1883", Version: "5.0", QoS: 1, Publishers: 20, Subscribers: 2, Idle: 5000, Window: 50, PayloadBytes: 200,
		Elapsed: 10 * time.Second, Published: 1_234_567, Acknowledged: 1_234_000, Refused: map[string]int{"0x97": 500,
			"0x80": 17}, Unacknowledged: 50,
		PublishRate: 123_456.7, AckRate: 123_400, AckLatency: Latency{10, 410 * time.Microsecond, time.Millisecond, 2 * time.Millisecond,
			31 * time.Millisecond},
		Consumed: 999, ConsumeRate: 99.9, IdleAlive: 4999, BytesSent: 1 << 30, BytesReceived: 12, Errors: 1,
		FirstErrors: []string{"bench-3: the server closed the connection"},
	}
	var text bytes.Buffer
	if err := rep.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `
server          127.0.0.1:1883, MQTT 5.0, QoS 1
publishers      20, window 50, payload 200 B, 10.0 s
published       1,234,567  123,456/s
acknowledged    1,234,000  123,400/s
latency         p50 0.410 ms  p90 1.000 ms  p99 2.000 ms  max 31.000 ms
refused 0x80    17
refused 0x97    500
unacknowledged  50
subscribers     2
consumed        999  99/s
end to end      not measured
idle            5,000, 4,999 alive at the end
bytes           1,073,741,824 sent, 12 received
errors          1
                bench-3: the server closed the connection
`
	if text.String() != want[1:] {
		t.Errorf("got\n%s", text.String())
	}
	b, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil || !strings.Contains(string(b), `"p99_ns":2000000`) {
		t.Errorf("%s: %v", b, err)
	}
	if back.Published != rep.Published || back.Elapsed != rep.Elapsed || back.AckLatency != rep.AckLatency {
		t.Errorf("got %+v", back)
	}
}

// BenchmarkPublish is what a message costs the generator, without the network.
func BenchmarkPublish(b *testing.B) {
	c := Default()
	c.Payload, c.Topic = ShadowPayload, ShadowTopic
	r := &run{config: c, start: time.Now()}
	p := newPublisher(r, &client{id: "bench-0", version: packet.V5, receiveMaximum: 65_535}, 0)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		p.publish(now)
		id := p.free[(p.first+p.inUse-1)%len(p.free)]
		var ack packet.Ack
		packet.DecodeAck(p.version, byte(packet.PUBACK)<<4, []byte{byte(id >> 8), byte(id)}, &ack)
		p.count(&ack, now)
		p.release(ack.ID)
		p.out = p.out[:0]
	}
}
