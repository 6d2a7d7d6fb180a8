package bench

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/topic"
)

// A fake is a small broker on the loopback address, with faults to order. It routes
// messages to matching subscriptions and checks what it is sent.
type fake struct {
	t  *testing.T
	ln net.Listener

	// Set before the first connection.
	connectCode    byte   // CONNACK of everybody
	subackCode     byte   // SUBACK of everybody
	receiveMaximum uint16 // announced
	ackBatch       int    // answers wait until so many messages of a connection are open
	refuse         byte   // reason code of every second message
	mute           bool   // acknowledges nothing
	hangUp         int    // closes a connection after so many messages
	disconnect     int    // sends DISCONNECT after so many messages

	mu       sync.Mutex
	conns    map[*fakeConn]bool
	connects []packet.Connect
	topics   map[string]int // messages by topic
	payloads []string       // the first of each connection
	maxOpen  int            // most messages of a connection that were open at once
	done     sync.WaitGroup
}

type fakeConn struct {
	nc      net.Conn
	version byte
	filters []packet.Filter
	nextID  uint16
	open    []*packet.Publish // not yet acknowledged
	count   int
}

func newFake(t *testing.T, setup func(*fake)) *fake {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, ln: ln, conns: map[*fakeConn]bool{}, topics: map[string]int{}}
	if setup != nil {
		setup(f)
	}
	f.done.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.done.Go(func() { f.serve(&fakeConn{nc: nc}) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for c := range f.conns {
			c.nc.Close()
		}
		f.mu.Unlock()
		f.done.Wait()
	})
	return f
}

func (f *fake) serve(c *fakeConn) {
	defer c.nc.Close()
	f.mu.Lock()
	f.conns[c] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	r := bufio.NewReader(c.nc)
	for {
		p, err := readPacket(r, c.version)
		if err != nil {
			if _, broken := err.(*packet.Error); broken {
				f.t.Errorf("the generator sent a malformed packet: %v", err)
			}
			return
		}
		f.mu.Lock()
		more := f.handle(c, p)
		f.mu.Unlock()
		if !more {
			return
		}
	}
}

func readPacket(r *bufio.Reader, version byte) (packet.Packet, error) {
	for n := 2; ; n++ {
		head, err := r.Peek(n)
		if err != nil {
			return nil, err
		}
		first, size, hn, err := packet.Header(head, 1<<20)
		if err != nil {
			return nil, err
		}
		if hn > 0 {
			frame := make([]byte, hn+size)
			if _, err := io.ReadFull(r, frame); err != nil {
				return nil, err
			}
			return packet.Decode(version, first, frame[hn:])
		}
	}
}

func (f *fake) handle(c *fakeConn, p packet.Packet) (more bool) {
	if err := packet.FromClient(p); err != nil {
		f.t.Error(err)
	}
	switch p := p.(type) {
	case *packet.Connect:
		c.version = p.Version
		f.connects = append(f.connects, *p)
		ack := &packet.Connack{Code: f.connectCode}
		if f.receiveMaximum > 0 {
			ack.Props = &packet.Properties{ReceiveMaximum: &f.receiveMaximum}
		}
		f.send(c, ack)
		return f.connectCode == 0
	case *packet.Subscribe:
		c.filters = append(c.filters, p.Filters...)
		f.send(c, &packet.Suback{ID: p.ID, Codes: []byte{f.subackCode}})
	case *packet.Publish:
		return f.publish(c, p)
	case *packet.Ack:
		switch p.Type {
		case packet.PUBREL:
			f.send(c, &packet.Ack{Type: packet.PUBCOMP, ID: p.ID})
		case packet.PUBREC:
			f.send(c, &packet.Ack{Type: packet.PUBREL, ID: p.ID})
		}
	case *packet.Pingreq:
		f.send(c, &packet.Pingresp{})
	case *packet.Disconnect:
		return false
	}
	return true
}

func (f *fake) publish(c *fakeConn, p *packet.Publish) (more bool) {
	if c.count == 0 {
		f.payloads = append(f.payloads, string(p.Payload))
	}
	c.count++
	f.topics[p.Topic]++
	f.route(p)
	if p.QoS > 0 {
		for _, o := range c.open {
			if o.ID == p.ID {
				f.t.Errorf("packet identifier %d is in use twice", p.ID)
			}
		}
		c.open = append(c.open, p)
		f.maxOpen = max(f.maxOpen, len(c.open))
	}
	switch c.count {
	case f.hangUp:
		return false
	case f.disconnect:
		f.send(c, &packet.Disconnect{Code: packet.CodeQuotaExceeded, Props: &packet.Properties{ReasonString: new("enough")}})
		return false
	}
	if f.mute || len(c.open) < f.ackBatch {
		return true
	}
	for i, o := range c.open {
		ack := &packet.Ack{Type: packet.PUBACK, ID: o.ID}
		if o.QoS == 2 {
			ack.Type = packet.PUBREC
		}
		if i%2 == 1 && c.version == packet.V5 {
			ack.Code = f.refuse
		}
		f.send(c, ack)
	}
	c.open = c.open[:0]
	return true
}

// route delivers to everybody who subscribes, and of a share to one.
func (f *fake) route(p *packet.Publish) {
	shared := map[string]bool{}
	for c := range f.conns {
		for _, filter := range c.filters {
			group, rest, isShared := topic.SplitShare(filter.Topic)
			if !topic.Match(rest, p.Topic) || isShared && shared[group] {
				continue
			}
			shared[group] = isShared
			c.nextID = c.nextID%60_000 + 1
			// As a gateway does: the message wrapped in another one.
			payload := `{"specversion":"1.0","data":"` + strings.ReplaceAll(string(p.Payload), `"`, `\"`) + `"}`
			out := &packet.Publish{Topic: p.Topic, QoS: min(p.QoS, filter.QoS), Payload: []byte(payload)}
			if out.QoS > 0 {
				out.ID = c.nextID
			}
			f.send(c, out)
		}
	}
}

// send writes one packet. A subscriber that does not read would block the fake.
func (f *fake) send(c *fakeConn, p packet.Packet) { c.nc.Write(p.Append(nil, c.version)) }
