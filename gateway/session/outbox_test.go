package session

import (
	"testing"
	"time"
)

func TestExpiryOfAFullQueue(t *testing.T) {
	var o outbox
	now := time.Now()
	for i := range 10 {
		m := &Message{Topic: "t"}
		if i%2 == 0 {
			m.Expires = now.Add(time.Duration(i) * time.Second)
		}
		o.push(Item{Message: m})
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
