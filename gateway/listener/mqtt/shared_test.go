package mqtt

import (
	"fmt"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// publishQoS2 publishes a message and goes through the whole exchange.
func (c *client) publishQoS2(topic, payload string) {
	c.t.Helper()
	c.send(&packet.Publish{Topic: topic, Payload: []byte(payload), QoS: 2, ID: 77})
	if a := expect[*packet.Ack](c); a.Type != packet.PUBREC || a.Code >= packet.CodeUnspecified {
		c.t.Fatalf("got %+v, want PUBREC", a)
	}
	c.send(&packet.Ack{Type: packet.PUBREL, ID: 77})
	expect[*packet.Ack](c)
}

// Messages of QoS 2 of a shared subscription that were not sent yet are another member's
// when the session of the one they were picked for ends; one that was sent is nobody
// else's [MQTT-4.8.2-5].
func TestSharedQoS2OfASessionThatEnds(t *testing.T) {
	for _, test := range []struct {
		name    string
		sent    int // before the member went away
		crashed bool
	}{{"none sent", 0, false}, {"one sent", 1, false}, {"none sent, crash", 0, true}, {"one sent, crash", 1, true}} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, nil, nil)
			gone, _ := f.kept("gone", nil)
			gone.subscribe(2, "$share/g/t")
			p := f.v5("p")
			for i := range test.sent {
				p.publishQoS2("t", fmt.Sprint("sent ", i))
				expect[*packet.Publish](gone)
			}
			f.leave(gone)
			for i := range 5 {
				p.publishQoS2("t", fmt.Sprint(i))
			}
			if test.crashed {
				f = f.crashed(nil)
			}
			other, _ := f.kept("other", nil)
			other.subscribe(2, "$share/g/t")
			f.server.sessions.Kick("n", "gone", true)
			for i := range 5 {
				got := expect[*packet.Publish](other)
				if string(got.Payload) != fmt.Sprint(i) || got.QoS != 2 {
					t.Errorf("got %q of QoS %d, want %d", got.Payload, got.QoS, i)
				}
			}
			other.quiet()
		})
	}
}
