package mqtt

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store/pebble"
)

// TestPowerCuts cuts the power of the real store's disk at random moments under
// traffic, most of them while syncs wait. What was acknowledged is not lost, QoS 2 comes once, sessions with their
// subscriptions are present, also those that began in the moments before, retained
// messages are there, and each delayed will comes once.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	cuts := 12
	if os.Getenv("TRIBUTARY_SOAK") != "" {
		cuts = 300
	}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 0))
	disk := pebble.NewDisk()
	pub, subs := newPeer(t, "pub"), []*peerState{newPeer(t, "sub1"), newPeer(t, "sub2")}
	pub.topic = func(int) string { return "a/b" }
	peers := append([]*peerState{pub}, subs...)
	var arrived []*newcomer
	told := [2]int{}
	for life := 0; life <= cuts && !t.Failed(); life++ {
		f, st := powered(t, disk)
		granted := make(chan *packet.Suback, len(subs))
		pub.connect(f, life > 0)
		away := rnd.IntN(2 * len(subs)) // what comes for this one is queued
		for i, s := range subs {
			switch {
			case life == 0:
				s.suback = func(a *packet.Suback) { granted <- a }
				s.connect(f, false, &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "a/#", QoS: 2}, {Topic: "will/#", QoS: 2}}})
				<-granted
			case i != away || life == cuts:
				s.connect(f, true)
			}
		}
		for _, n := range arrived {
			told[0], told[1] = told[0]+count(n.present), told[1]+count(n.subscribed)
			n.check(f)
		}
		if life == cuts {
			settled(f, cuts, pub, subs)
		} else {
			disk, arrived = cutUnderTraffic(f, disk, life, rnd, peers)
		}
		for _, p := range peers {
			p.cut()
		}
		f.stop()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d new sessions and %d new subscriptions were acknowledged before a cut", told[0], told[1])
}

func count(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

func powered(t *testing.T, disk *pebble.Disk) (*fixture, *pebble.Store) {
	t.Helper()
	st, err := disk.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return start(t, nil, func(_ *settings, f *fixture) { f.store = st }), st
}

// cutUnderTraffic returns what a cut in the middle of a burst leaves of the disk.
func cutUnderTraffic(f *fixture, disk *pebble.Disk, life int, rnd *rand.Rand, peers []*peerState) (*pebble.Disk, []*newcomer) {
	name := fmt.Sprint(life)
	c, _ := f.kept("dying"+name, func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: "will/" + name, QoS: 2, Payload: []byte("will " + name),
			Props: &packet.Properties{WillDelay: ptr(uint32(1))}}
	})
	c.send(&packet.Publish{Topic: "r/" + name, Payload: []byte(name), QoS: 1, ID: 1, Retain: true})
	expect[*packet.Ack](c)
	c.nc.Close()
	var arrived []*newcomer
	for range rnd.IntN(300) {
		if rnd.IntN(20) == 0 {
			disk.Hold(rnd.IntN(4) > 0) // what is told from here on without waiting for a sync is lost in the cut
		}
		peers[0].publish()
		switch rnd.IntN(10) {
		case 0:
			arrived = append(arrived, arrive(f, fmt.Sprint("new", life, ".", len(arrived))))
		case 1: // at a moment of its own
			if n := len(arrived); n > 0 {
				arrived[rnd.IntN(n)].subscribe()
			}
		}
		if rnd.IntN(5) == 0 { // between bursts, so that much is under way when a hold begins
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond) // spreads the moment, and waits for nothing
		}
	}
	for _, p := range peers { // what the old server says from here on reaches nobody
		p.mu.Lock()
		p.deaf = true
		p.mu.Unlock()
	}
	for _, n := range arrived {
		n.leave()
	}
	return disk.Cut([]int{0, 0, 50, 100}[rnd.IntN(4)], rnd), arrived
}

// newcomer is a client whose first connection is cut off. What it was told before is
// for ever.
type newcomer struct {
	id    string
	c     *client
	asked bool // for its subscription
	ended chan struct{}

	mu                        sync.Mutex
	deaf, present, subscribed bool
}

// arrive connects a client that has no session yet, and waits for nothing.
func arrive(f *fixture, id string) *newcomer {
	c := f.dial(packet.V5)
	n := &newcomer{id: id, c: c, ended: make(chan struct{})}
	c.send(&packet.Connect{Version: packet.V5, ClientID: id, Props: &packet.Properties{SessionExpiry: ptr(uint32(3600))}})
	p := newPeer(f.t, id)
	go func() {
		defer close(n.ended)
		for x := p.next(c); x != nil; x = p.next(c) {
			n.mu.Lock()
			switch x.(type) {
			case *packet.Connack:
				n.present = !n.deaf
			case *packet.Suback:
				n.subscribed = !n.deaf
			}
			n.mu.Unlock()
		}
	}()
	return n
}

func (n *newcomer) subscribe() {
	if !n.asked {
		n.c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: n.id, QoS: 1}}})
		n.asked = true
	}
}

func (n *newcomer) leave() {
	n.mu.Lock()
	n.deaf = true
	n.mu.Unlock()
	n.c.nc.Close()
	<-n.ended
}

// check has the client come again after the cut, and leave for good.
func (n *newcomer) check(f *fixture) {
	c, ack := f.kept(n.id, nil)
	defer c.nc.Close()
	if n.present && !ack.SessionPresent {
		f.t.Errorf("%s: the session that CONNACK said there is was lost", n.id)
	}
	asks := f.v5("asks")
	defer asks.nc.Close()
	asks.send(&packet.Publish{Topic: n.id, QoS: 1, ID: 1})
	if reason := expect[*packet.Ack](asks).Code; reason != 0 && n.subscribed {
		f.t.Errorf("%s: the subscription that SUBACK said there is was lost: PUBACK %#x", n.id, reason)
	}
	c.send(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(0))}})
}

// settled waits until everything has come, and counts it.
func settled(f *fixture, cuts int, pub *peerState, subs []*peerState) {
	f.eventually("the end of all flights", func() bool {
		for _, s := range subs {
			if !s.idle() || lacks(1, pub.last, s) != 0 {
				return false
			}
			s.mu.Lock()
			wills := 0
			for life := range cuts {
				wills += min(1, s.got[fmt.Sprint("will ", life)])
			}
			s.mu.Unlock()
			if wills < cuts {
				return false
			}
		}
		return pub.idle()
	})
	for _, s := range subs {
		s.mu.Lock()
		for n := 2; n <= pub.last; n += 2 {
			if got := s.got[fmt.Sprint(n)]; got != 1 {
				f.t.Errorf("%s got message %d of QoS 2 %d times", s.id, n, got)
			}
		}
		for life := range cuts {
			if got := s.got[fmt.Sprint("will ", life)]; got != 1 {
				f.t.Errorf("%s got will %d %d times", s.id, life, got)
			}
		}
		s.mu.Unlock()
	}
	c := f.v5("reader")
	c.subscribe(1, "r/#")
	retained := map[string]bool{}
	for range cuts {
		p := expect[*packet.Publish](c)
		retained[p.Topic] = p.Topic == "r/"+string(p.Payload)
	}
	if len(retained) != cuts {
		f.t.Errorf("%d retained messages, want %d: %v", len(retained), cuts, retained)
	}
	f.t.Logf("%d cuts during %d messages", cuts, pub.last)
}
