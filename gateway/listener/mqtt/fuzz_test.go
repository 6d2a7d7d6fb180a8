package mqtt

import (
	"io"
	"net"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Whatever a client sends, the server answers or closes, and goes on.
func FuzzConnection(f *testing.F) {
	connect := func(v byte) []byte {
		return (&packet.Connect{Version: v, CleanStart: true, ClientID: "c", Props: &packet.Properties{TopicAliasMaximum: ptr(uint16(2))},
			Will: &packet.Will{Topic: "a", Payload: []byte("x"), Retain: true}}).Append(nil, v)
	}
	for _, v := range []byte{packet.V311, packet.V5} {
		all := connect(v)
		for _, p := range []packet.Packet{
			&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "a/#", QoS: 2}, {Topic: "$share/g/+", QoS: 1}, {Topic: "app/x"},
				{Topic: "$shared/g/app/x"}}, Props: options("content-mode", "binary")},
			&packet.Publish{Topic: "a/b", QoS: 1, ID: 1, Payload: []byte("p"), Retain: true, Props: &packet.Properties{TopicAlias: ptr(uint16(1))}},
			&packet.Publish{QoS: 2, ID: 1, Props: &packet.Properties{TopicAlias: ptr(uint16(1)), ContentType: ptr("application/cloudevents+json")}},
			&packet.Publish{Topic: "command/x/d/c", QoS: 1, ID: 2, Props: &packet.Properties{ResponseTopic: ptr("r")}},
			&packet.Ack{Type: packet.PUBREL, ID: 1}, &packet.Ack{Type: packet.PUBACK, ID: 1}, &packet.Ack{Type: packet.PUBREC,
				ID: 2}, &packet.Ack{Type: packet.PUBCOMP, ID: 2},
			&packet.Unsubscribe{ID: 2, Topics: []string{"a/#", "app/x"}}, &packet.Pingreq{}, &packet.Disconnect{Code: 4},
		} {
			all = p.Append(all, v)
			f.Add(p.Append(connect(v), v))
		}
		f.Add(all)
	}
	auth := fakeAuth(func(c *access.Credentials) (*access.Grant, error) {
		g := messaging(c.ClientID)
		g.Read, g.Write = []string{"*"}, []string{"*"}
		return g, nil
	})
	l := &Listener{Name: "mqtt", Auth: auth, Limits: DefaultLimits()}
	l.Limits.Linger = 10 * time.Millisecond
	f.Fuzz(func(t *testing.T, input []byte) {
		router := &fakeRouter{got: make(chan submitted, len(input)+10),
			respond: func(*event.Inbound) stage.Outcome { return stage.Outcome{Code: event.NoMatchingSubscribers} }}
		s := newServer(Default(), router, &fakeLogs{joined: make(chan *member, len(input))}, nil)
		ours, theirs := net.Pipe()
		s.accept(l, newGate(s, &l.Limits), theirs)
		go func() {
			ours.Write(input)
			ours.Write((&packet.Disconnect{}).Append(nil, packet.V5)) // lets a healthy connection end
			ours.Close()
		}()
		io.Copy(io.Discard, ours)
		s.running.Wait()
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"app/x", "$share/g/app/x", "$shared//a/", "command/a/b/c", "resume", "18446744073709551616",
		"2026-01-02T03:04:05Z"} {
		f.Add(s)
	}
	grant, _ := alice(nil)
	f.Fuzz(func(t *testing.T, s string) {
		if log, is := parseLogFilter(s); is && log.bad == 0 && log.application == "" && log.topic[len(log.topic)-1] != '/' {
			t.Errorf("no application in %q", s)
		}
		if to, is := parseCommand(grant, s); is && to.device != "" && (to.application == "" || to.command == "") {
			t.Errorf("half a target in %q", s)
		}
		parseStart(s)
	})
}
