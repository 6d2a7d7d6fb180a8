package mqtt

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store/pebble"
)

// TestPowerCuts cuts the power of the real store's disk at random moments under
// traffic, most of them while syncs wait. What was acknowledged is not lost, QoS 2 comes once, sessions with their
// subscriptions are present, retained messages are there, and each delayed will
// comes once.
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
		if life == cuts {
			settled(f, cuts, pub, subs)
		} else {
			disk = cutUnderTraffic(f, disk, life, rnd, peers)
		}
		for _, p := range peers {
			p.cut()
		}
		f.stop()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
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
func cutUnderTraffic(f *fixture, disk *pebble.Disk, life int, rnd *rand.Rand, peers []*peerState) *pebble.Disk {
	name := fmt.Sprint(life)
	c, _ := f.kept("dying"+name, func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: "will/" + name, QoS: 2, Payload: []byte("will " + name), Props: &packet.Properties{WillDelay: ptr(uint32(1))}}
	})
	c.send(&packet.Publish{Topic: "r/" + name, Payload: []byte(name), QoS: 1, ID: 1, Retain: true})
	expect[*packet.Ack](c)
	c.nc.Close()
	for range rnd.IntN(300) {
		if rnd.IntN(20) == 0 {
			disk.Hold(rnd.IntN(4) > 0) // what is told from here on without waiting for a sync is lost in the cut
		}
		peers[0].publish()
		if rnd.IntN(5) == 0 { // between bursts, so that much is under way when a hold begins
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond) // spreads the moment, and waits for nothing
		}
	}
	for _, p := range peers { // what the old server says from here on reaches nobody
		p.mu.Lock()
		p.deaf = true
		p.mu.Unlock()
	}
	return disk.Cut([]int{0, 0, 50, 100}[rnd.IntN(4)], rnd)
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
