package mqtt

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// peerState is what a correct client with a session remembers over its own and the
// server's crashes.
type peerState struct {
	t  testing.TB
	id string

	ended  chan struct{}        // the last connection's; nil before the first
	suback func(*packet.Suback) // is called for one

	mu   sync.Mutex
	nc   net.Conn
	deaf bool // what comes on this connection is lost

	// Of what it sends.
	last     int
	unacked  []*packet.Publish        // in order
	released []uint16                 // PUBREC came, PUBCOMP not
	done     map[string]bool          // by payload: PUBACK or PUBREC came
	sent     map[uint16]string        // payload by identifier
	ids      map[uint16]struct{}      // in use
	topic    func(payload int) string // of its messages

	// Of what it gets.
	held map[uint16]string // QoS 2, until PUBREL
	got  map[string]int    // by payload
}

func newPeer(t testing.TB, id string) *peerState {
	return &peerState{t: t, id: id, done: map[string]bool{}, sent: map[uint16]string{},
		ids: map[uint16]struct{}{}, held: map[uint16]string{}, got: map[string]int{}}
}

// connect opens a connection, resends what it has to, and handles what comes until
// the connection ends.
func (p *peerState) connect(f *fixture, expectSession bool, after ...packet.Packet) {
	p.cut()
	p.open(f, false, expectSession, after)
}

func (p *peerState) open(f *fixture, clean, expectSession bool, after []packet.Packet) {
	c := f.dial(packet.V5)
	expiry := uint32(3600)
	c.send(&packet.Connect{Version: packet.V5, ClientID: p.id, CleanStart: clean,
		Props: &packet.Properties{SessionExpiry: &expiry, ReceiveMaximum: ptr(uint16(20))}})
	ack, ok := p.next(c).(*packet.Connack)
	if !ok || ack.Code != 0 {
		p.t.Errorf("%s: %+v, want CONNACK", p.id, ack)
		return
	}
	if ack.SessionPresent != expectSession {
		p.t.Errorf("%s: session present is %v", p.id, ack.SessionPresent)
	}
	p.mu.Lock()
	p.nc, p.deaf = c.nc, false
	for _, x := range p.unacked {
		x.Dup = true
		p.write(x)
	}
	for _, id := range p.released {
		p.write(&packet.Ack{Type: packet.PUBREL, ID: id})
	}
	for _, x := range after {
		p.write(x)
	}
	p.mu.Unlock()
	ended := make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		defer c.nc.Close()
		for {
			x := p.next(c)
			if x == nil {
				return
			}
			p.handle(x)
		}
	}()
}

// next is the next packet, nil at the end of the connection however it comes.
func (p *peerState) next(c *client) packet.Packet {
	for {
		first, size, header, err := packet.Header(c.buf[:c.n], packet.MaxSize)
		if err != nil {
			p.t.Errorf("%s: %v", p.id, err)
			return nil
		}
		if header > 0 && c.n >= header+size {
			body := append([]byte(nil), c.buf[header:header+size]...)
			c.n = copy(c.buf, c.buf[header+size:c.n])
			x, err := packet.Decode(packet.V5, first, body)
			if err != nil {
				p.t.Errorf("%s: %v", p.id, err)
			}
			return x
		}
		c.nc.SetReadDeadline(time.Now().Add(patience))
		n, err := c.nc.Read(c.buf[c.n:])
		c.n += n
		if n == 0 && err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				p.t.Errorf("%s: nothing came", p.id)
			}
			return nil
		}
	}
}

// write sends a packet; a connection that is gone is found out by the reader. The
// caller holds mu.
func (p *peerState) write(x packet.Packet) {
	p.nc.SetWriteDeadline(time.Now().Add(patience))
	p.nc.Write(x.Append(nil, packet.V5))
}

func (p *peerState) handle(x packet.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaf {
		return
	}
	switch x := x.(type) {
	case *packet.Suback:
		p.suback(x)
	case *packet.Ack:
		p.handleAck(x)
	case *packet.Publish:
		payload := string(x.Payload)
		switch x.QoS {
		case 1:
			p.got[payload]++
			p.write(&packet.Ack{Type: packet.PUBACK, ID: x.ID})
		case 2:
			if _, twice := p.held[x.ID]; !twice {
				p.held[x.ID] = payload
				p.got[payload]++
			}
			p.write(&packet.Ack{Type: packet.PUBREC, ID: x.ID})
		}
	}
}

func (p *peerState) handleAck(x *packet.Ack) {
	switch x.Type {
	case packet.PUBACK, packet.PUBREC:
		if x.Code >= 0x80 {
			p.t.Errorf("%s: refused with %#x", p.id, x.Code)
		}
		for i, u := range p.unacked {
			if u.ID == x.ID {
				p.done[string(u.Payload)] = true
				p.unacked = append(p.unacked[:i:i], p.unacked[i+1:]...)
				if x.Type == packet.PUBREC {
					p.released = append(p.released, x.ID)
				} else {
					delete(p.ids, x.ID)
				}
				break
			}
		}
		if x.Type == packet.PUBREC {
			p.write(&packet.Ack{Type: packet.PUBREL, ID: x.ID})
		}
	case packet.PUBREL:
		delete(p.held, x.ID)
		p.write(&packet.Ack{Type: packet.PUBCOMP, ID: x.ID})
	case packet.PUBCOMP:
		for i, id := range p.released {
			if id == x.ID {
				p.released = append(p.released[:i:i], p.released[i+1:]...)
				break
			}
		}
		delete(p.ids, x.ID)
	}
}

// publish sends a new message, of QoS 2 if its number is even, unless too many are
// under way. Identifiers are used again as early as is allowed.
func (p *peerState) publish() (last int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) > 20 {
		return p.last
	}
	id := uint16(1)
	for _, used := p.ids[id]; used; _, used = p.ids[id] {
		id++
	}
	p.last++
	x := &packet.Publish{Topic: p.topic(p.last), ID: id, QoS: 2 - byte(p.last%2), Payload: fmt.Append(nil, p.last)}
	p.ids[id] = struct{}{}
	p.unacked = append(p.unacked, x)
	if p.nc != nil {
		p.write(x)
	}
	return p.last
}

// cut ends the connection; what came before it is handled when cut returns.
func (p *peerState) cut() {
	if p.ended == nil {
		return
	}
	p.mu.Lock()
	p.nc.Close()
	p.mu.Unlock()
	<-p.ended
}

// leave ends the session.
func (p *peerState) leave() {
	p.mu.Lock()
	p.write(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(0))}})
	p.mu.Unlock()
	<-p.ended
}

// lacks is the first message from a number on that no peer of these has got; 0: none.
func lacks(from, last int, peers ...*peerState) int {
	for n := from; n <= last; n++ {
		got := false
		for _, p := range peers {
			p.mu.Lock()
			got = got || p.got[fmt.Sprint(n)] > 0
			p.mu.Unlock()
		}
		if !got {
			return n
		}
	}
	return 0
}

// idle says whether nothing is owed to the peer or by it.
func (p *peerState) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unacked) == 0 && len(p.released) == 0 && len(p.held) == 0
}
