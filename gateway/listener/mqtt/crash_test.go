package mqtt

import (
	"fmt"
	"math"
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
