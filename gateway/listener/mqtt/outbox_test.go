package mqtt

import (
	"testing"
	"time"
)

func TestExpiryOfAFullQueue(t *testing.T) {
	var o outbox
	now := time.Now()
	for i := range 10 {
		m := &message{topic: "t"}
		if i%2 == 0 {
			m.expires = now.Add(time.Duration(i) * time.Second)
		}
		o.push(item{m: m})
	}
	for _, step := range []struct {
		after   time.Duration
		dropped int
	}{{0, 1}, {time.Second, 0}, {5 * time.Second, 2}, {5 * time.Second, 0}, {time.Hour, 2}} {
		if got := o.purge(now.Add(step.after)); len(got) != step.dropped {
			t.Fatalf("after %v %d dropped, want %d", step.after, len(got), step.dropped)
		}
	}
	if o.waiting != 5 || o.bytes != 5 || o.expiry.due(now.Add(time.Hour)) {
		t.Fatalf("%+v", o)
	}
}

// A message that a full queue has no room for costs no walk through the queue:
// ten thousand may be waiting.
func BenchmarkFullQueue(b *testing.B) {
	f := start(b, nil, nil)
	c, _ := f.kept("slow", nil)
	c.subscribe(1, "t")
	c.nc.Close()
	s := f.server.sessions[sessionKey{"n", "slow"}]
	waitFor(b, func() bool { return !s.online.Load() })
	it := item{m: &message{topic: "t", expires: time.Now().Add(time.Hour)}, qos: 1}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.deliver(it, now)
	}
}
