package mqtt

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
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

func newPeer(t *testing.T, id string) *peerState {
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
	c.send(&packet.Connect{Version: packet.V5, ClientID: p.id, CleanStart: clean, Props: &packet.Properties{SessionExpiry: &expiry, ReceiveMaximum: ptr(uint16(20))}})
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

// A publisher and subscribers, all with sessions, live through crashes of the server
// after any commit that did happen or might have, and through their own: no message
// is lost, and none of QoS 2 comes twice. Two have subscribed from the beginning, one
// does so on the way, and two share a subscription of QoS 1: each message is to come
// to one of them, whose sessions end now and then. With and without a route.
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
		m := &crashModel{t: t, rt: rt, pub: newPeer(t, "pub"), subs: []*peerState{newPeer(t, "sub1"), newPeer(t, "sub2")},
			group: []*peerState{newPeer(t, "member1"), newPeer(t, "member2")}, later: newPeer(t, "sub3")}
		m.from.Store(math.MaxInt32)
		m.later.suback = func(*packet.Suback) { m.from.CompareAndSwap(math.MaxInt32, m.sent.Load()+1) }
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

	group []*peerState
	later *peerState   // subscribes on the way
	asked bool         // it did
	sent  atomic.Int64 // the last message of pub
	from  atomic.Int64 // the first message after later's SUBACK
}

// peers are all of them, the publisher last.
func (m *crashModel) peers() []*peerState {
	return append(append(slices.Clone(m.subs), m.group...), m.later, m.pub)
}

func subscription1(filter string, qos byte) packet.Packet {
	return &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter, QoS: qos}}}
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
	var granted sync.WaitGroup
	begin := func(p *peerState, filter string, qos byte) {
		if m.life > 0 {
			p.connect(f, true)
			return
		}
		granted.Add(1)
		p.suback = func(*packet.Suback) { granted.Done() }
		p.connect(f, false, subscription1(filter, qos))
	}
	for i, p := range m.subs {
		begin(p, []string{"a/#", "a/+"}[i], 2)
	}
	for _, p := range m.group {
		begin(p, "$share/g/a/#", 1)
	}
	m.later.connect(f, m.life > 0)
	if m.asked {
		m.subscribeLater()
	}
	granted.Wait() // what is published before the SUBACK may be missed
	m.pub.connect(f, m.life > 0)
	m.life++
}

// subscribeLater has the third subscriber ask, again if it heard nothing.
func (m *crashModel) subscribeLater() {
	m.asked = true
	m.later.mu.Lock()
	defer m.later.mu.Unlock()
	if m.from.Load() == math.MaxInt32 {
		m.later.write(subscription1("a/#", 2))
	}
}

// replace ends the session of a member of the group, which comes back with a new one.
func (m *crashModel) replace(f *fixture, st *memStore, p *peerState) {
	p.connect(f, true)
	st.hold(rapid.Bool().Draw(m.rt, "held"))
	m.publish()
	p.leave()
	m.publish()
	st.hold(false)
	granted := make(chan struct{})
	p.suback = func(*packet.Suback) { close(granted) }
	p.open(f, true, false, []packet.Packet{subscription1("$share/g/a/#", 1)})
	<-granted
}

func (m *crashModel) publish() {
	m.sent.Add(1) // before it is sent
	m.sent.Store(int64(m.pub.publish()))
}

// live is one life of the server: some traffic, then a crash that leaves what was
// durable and maybe some commits more.
func (m *crashModel) live(st *memStore, _ int, routed bool) *memStore {
	f := m.start(st, routed)
	defer func() { go f.stop() }() // what it still writes is not in the copy
	m.connect(f)
	for range rapid.IntRange(1, 60).Draw(m.rt, "steps") {
		switch rapid.IntRange(0, 17).Draw(m.rt, "step") {
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
		case 7:
			st.hold(false)
			m.replace(f, st, m.group[rapid.IntRange(0, 1).Draw(m.rt, "who")])
		case 8:
			m.subscribeLater()
		case 9:
			m.later.cut()
			st.hold(false)
			m.later.connect(f, true)
		default:
			m.publish()
		}
	}
	// The server is dead for its clients before the cut is made, so that all that
	// they ever saw is in it.
	for _, p := range m.peers() {
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
	peers := m.peers()
	everybody := m.subs
	if m.from.Load() < math.MaxInt32 {
		everybody = append(everybody, m.later)
	}
	from := func(p *peerState) int {
		if p == m.later {
			return int(m.from.Load())
		}
		return 1
	}
	complete := func() bool {
		for _, p := range peers {
			if !p.idle() {
				return false
			}
		}
		for _, p := range everybody {
			if lacks(from(p), m.pub.last, p) > 0 {
				return false
			}
		}
		return lacks(1, m.pub.last, m.group...) == 0 && len(st.names(store.Queue, ""))+len(st.names(store.Sess, "i")) == 0
	}
	for deadline := time.Now().Add(patience); !complete() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for _, p := range peers {
		if !p.idle() {
			p.mu.Lock()
			m.t.Errorf("%s waits: not acknowledged %v, no PUBCOMP %v, no PUBREL %v", p.id, p.unacked, p.released, p.held)
			p.mu.Unlock()
		}
		p.cut()
	}
	if n := lacks(1, m.pub.last, m.group...); n > 0 {
		m.t.Errorf("no member of the group got message %d", n)
	}
	for _, p := range append(m.subs, m.later) {
		for n := 1; n <= m.pub.last; n++ {
			got := p.got[fmt.Sprint(n)]
			if got == 0 && n >= from(p) || got > 1 && n%2 == 0 {
				m.t.Errorf("%s got message %d of QoS %d %d times", p.id, n, 2-n%2, got)
			}
		}
	}
	for _, left := range append(st.names(store.Queue, ""), st.names(store.Sess, "i")...) {
		m.t.Errorf("the key %q is left in the store after everything was delivered", left)
	}
}
