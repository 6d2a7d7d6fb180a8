package mqtt

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// peerState is what a correct client with a session remembers over its own and the
// server's crashes.
type peerState struct {
	t  *testing.T
	id string

	ended      chan struct{} // the last connection's; nil before the first
	subscribed chan struct{} // a SUBACK came

	mu sync.Mutex
	nc net.Conn

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

func newPeer(t *testing.T, id string) *peerState {
	return &peerState{t: t, id: id, subscribed: make(chan struct{}), done: map[string]bool{}, sent: map[uint16]string{},
		ids: map[uint16]struct{}{}, held: map[uint16]string{}, got: map[string]int{}}
}

// connect opens a connection, resends what it has to, and handles what comes until
// the connection ends.
func (p *peerState) connect(f *fixture, expectSession bool, after ...packet.Packet) {
	p.cut()
	c := f.dial(packet.V5)
	expiry := uint32(3600)
	c.send(&packet.Connect{Version: packet.V5, ClientID: p.id, Props: &packet.Properties{SessionExpiry: &expiry, ReceiveMaximum: ptr(uint16(20))}})
	ack, ok := p.next(c).(*packet.Connack)
	if !ok || ack.Code != 0 {
		p.t.Errorf("%s: %+v, want CONNACK", p.id, ack)
		return
	}
	if ack.SessionPresent != expectSession {
		p.t.Errorf("%s: session present is %v", p.id, ack.SessionPresent)
	}
	p.mu.Lock()
	p.nc = c.nc
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
	switch x := x.(type) {
	case *packet.Suback:
		close(p.subscribed)
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
func (p *peerState) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) > 20 {
		return
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

// idle says whether nothing is owed to the peer or by it.
func (p *peerState) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unacked) == 0 && len(p.released) == 0 && len(p.held) == 0
}

// A publisher and two subscribers, all with sessions, live through crashes of the
// server after any commit that did happen or might have, and through their own: no
// message is lost, and none of QoS 2 comes twice. With and without a route.
func TestCrashesAgainstModel(t *testing.T) {
	runs := 25
	if os.Getenv("TRIBUTARY_SOAK") != "" {
		runs = math.MaxInt
	}
	rapid.Check(t, func(rt *rapid.T) {
		if runs--; runs < 0 || t.Failed() {
			return
		}
		routed := rapid.Bool().Draw(rt, "routed")
		st := newMemStore()
		m := &crashModel{t: t, rt: rt, pub: newPeer(t, "pub"), subs: []*peerState{newPeer(t, "sub1"), newPeer(t, "sub2")}}
		m.pub.topic = func(n int) string { return []string{"a/b", "a/c"}[n%3%2] }
		for life := range rapid.IntRange(2, 4).Draw(rt, "lives") {
			st = m.live(st, life, routed)
			if t.Failed() {
				return
			}
		}
		m.settle(st, routed)
	})
}

type crashModel struct {
	t    *testing.T
	rt   *rapid.T
	pub  *peerState
	subs []*peerState
	life int
}

func (m *crashModel) start(st *memStore, routed bool) *fixture {
	return start(m.t, nil, func(s *settings, f *fixture) {
		f.store = st
		f.router.unrouted = !routed
		f.router.respond = func(*event.Inbound) stage.Outcome { return stage.Outcome{} }
		f.router.got = make(chan submitted, 1000)
	})
}

func (m *crashModel) connect(f *fixture) {
	for i, s := range m.subs {
		var first []packet.Packet
		if m.life == 0 {
			first = []packet.Packet{&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: []string{"a/#", "a/+"}[i], QoS: 2}}}}
		}
		s.connect(f, m.life > 0, first...)
	}
	if m.life == 0 { // what is published before the SUBACK may be missed
		for _, s := range m.subs {
			<-s.subscribed
		}
	}
	m.pub.connect(f, m.life > 0)
	m.life++
}

// live is one life of the server: some traffic, then a crash that leaves what was
// durable and maybe some commits more.
func (m *crashModel) live(st *memStore, _ int, routed bool) *memStore {
	f := m.start(st, routed)
	defer func() { go f.stop() }() // what it still writes is not in the copy
	m.connect(f)
	for range rapid.IntRange(1, 60).Draw(m.rt, "steps") {
		switch rapid.IntRange(0, 14).Draw(m.rt, "step") {
		case 0:
			st.hold(true)
		case 1, 2:
			st.hold(false)
		case 3:
			s := m.subs[rapid.IntRange(0, 1).Draw(m.rt, "who")]
			s.cut()
			st.hold(false)
			s.connect(f, true)
		case 4:
			m.subs[rapid.IntRange(0, 1).Draw(m.rt, "who")].cut()
		case 5:
			m.pub.cut()
			st.hold(false)
			m.pub.connect(f, true)
		case 6:
			time.Sleep(time.Millisecond)
		default:
			m.pub.publish()
		}
	}
	// The server is dead for its clients before the cut is made, so that all that
	// they ever saw is in it.
	for _, p := range append(m.subs, m.pub) {
		p.cut()
	}
	st.mu.Lock()
	durable, all := st.durable, len(st.commits)
	st.mu.Unlock()
	return st.cut(rapid.IntRange(durable, all).Draw(m.rt, "commits that survive"))
}

// settle lets everything arrive, and counts.
func (m *crashModel) settle(st *memStore, routed bool) {
	f := m.start(st, routed)
	defer func() { go f.stop() }()
	m.connect(f)
	peers := append(m.subs, m.pub)
	complete := func() bool {
		for _, p := range peers {
			if !p.idle() {
				return false
			}
		}
		for _, s := range m.subs {
			s.mu.Lock()
			n := len(s.got)
			s.mu.Unlock()
			if n < m.pub.last {
				return false
			}
		}
		return len(st.names(store.Queue, ""))+len(st.names(store.Sess, "i")) == 0
	}
	for deadline := time.Now().Add(patience); !complete() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for _, p := range peers {
		p.cut()
	}
	for _, s := range m.subs {
		s.mu.Lock()
		for n := 1; n <= m.pub.last; n++ {
			got := s.got[fmt.Sprint(n)]
			if got == 0 || got > 1 && n%2 == 0 {
				m.t.Errorf("%s got message %d of QoS %d %d times", s.id, n, 2-n%2, got)
			}
		}
		s.mu.Unlock()
	}
	for _, left := range append(st.names(store.Queue, ""), st.names(store.Sess, "i")...) {
		m.t.Errorf("the key %q is left in the store after everything was delivered", left)
	}
}
