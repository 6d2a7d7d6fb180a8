package mqtt

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

func newRateTable() *rateTable {
	return &rateTable{start: time.Now(), entries: make(map[string]*buckets)}
}

func rated(device string, own, all access.Rates) *access.Grant {
	return &access.Grant{Principal: device, Application: "a", Device: device, Rates: own, ApplicationRates: all}
}

// Connections of a device share its bucket, devices that of their application.
func TestRatesAreShared(t *testing.T) {
	table, l := newRateTable(), &Limits{}
	var one, two, other meter
	own, all := access.Rates{Messages: 10}, access.Rates{Bytes: 1000}
	one.use(table, rated("d", own, all), l)
	two.use(table, rated("d", own, all), l)
	other.use(table, rated("e", own, all), l)
	for i := range 20 { // what the window allows at once
		if wait, over := one.charge(0, 10, time.Hour); wait > 0 || over != nil {
			t.Fatalf("message %d waits %v", i, wait)
		}
	}
	if wait, _ := two.charge(0, 10, time.Hour); wait != 100*time.Millisecond {
		t.Errorf("the other connection waits %v", wait)
	}
	if wait, _ := other.charge(0, 10, time.Hour); wait != 0 {
		t.Errorf("the other device waits %v", wait)
	}
	if wait, _ := other.charge(0, 2000, time.Hour); wait != 220*time.Millisecond {
		t.Errorf("the application's bytes let it wait %v", wait)
	}
	if _, over := one.charge(0, 1, 50*time.Millisecond); over == nil || over.limit != limitApplicationRate {
		t.Errorf("nobody owes too much: %+v", over)
	}
	if wait, _ := one.charge(int64(3*time.Second), 1, time.Hour); wait != 0 {
		t.Errorf("after a pause it waits %v", wait)
	}
}

// A new connection is no way out of a debt; when it is paid, nothing is kept.
func TestRatesAreRemembered(t *testing.T) {
	table, l := newRateTable(), &Limits{}
	var m meter
	g := rated("d", access.Rates{Messages: 1000}, access.Rates{Messages: 1e9})
	m.use(table, g, l)
	m.charge(table.now(), 1, time.Hour)
	m.parts[0].messages.charge(table.now(), int64(50*time.Millisecond))
	m.close(table)
	m.use(table, g, l)
	if owed := m.parts[0].messages.paid.Load(); owed == 0 {
		t.Error("the debt is forgotten")
	}
	m.close(table)
	waitFor(t, func() bool {
		table.mu.Lock()
		defer table.mu.Unlock()
		return len(table.entries) == 0
	})
	m.use(table, rated("d", access.Rates{}, access.Rates{}), l)
	if len(table.entries) != 0 || m.parts != nil {
		t.Error("who has no rate is in the table")
	}
}

// A listener's rates hold where a grant has none; a new grant brings its own.
func TestRatesOfListener(t *testing.T) {
	table, l := newRateTable(), &Limits{MessageRate: 5, ByteRate: 7}
	var m meter
	m.use(table, rated("d", access.Rates{Messages: 50}, access.Rates{}), l)
	if p := m.parts[0]; p.message != 2e7 || p.byte != 1e9/7. {
		t.Errorf("%+v", p)
	}
	m.use(table, &access.Grant{Principal: "user:u"}, l)
	if p := m.parts[0]; p.message != 2e8 || p.key != "principal/user:u" {
		t.Errorf("%+v", p)
	}
	if len(table.entries) != 1 {
		t.Errorf("%d entries", len(table.entries))
	}
}

func TestRatesConcurrently(t *testing.T) {
	table, l := newRateTable(), &Limits{}
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			var m meter
			for n := range 200 {
				m.use(table, rated(fmt.Sprint("d", n%3), access.Rates{Messages: 1e6}, access.Rates{Messages: 1e6}), l)
				m.charge(table.now(), i, time.Second)
			}
			m.close(table)
		})
	}
	workers.Wait()
	waitFor(t, func() bool {
		table.mu.Lock()
		defer table.mu.Unlock()
		return len(table.entries) == 0
	})
}

// What a gate remembers of strangers is bounded, and goes when it means nothing.
func TestGateForgets(t *testing.T) {
	l := DefaultLimits()
	l.ConnectRatePerAddress, l.LoginDelayMax = 1, time.Minute
	s := newServer(Default(), &fakeRouter{}, &fakeLogs{}, nil)
	d := newGate(s, &l)
	now := time.Now()
	come := func(addr net.Addr) {
		var v visit
		d.enter(&v, false)
		if err := v.arrive(addr, now); err != nil {
			t.Fatal(err)
		}
		v.loginEnded(&stage.Error{Code: event.BadUserNameOrPassword}, now)
		v.leave(now)
	}
	for i := range originsMax + 1000 {
		come(&net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)), Port: 1})
	}
	if n := len(d.origins); n > originsMax+1 || n < originsMax/2 {
		t.Errorf("%d addresses are remembered", n)
	}
	for _, o := range d.origins {
		d.dropIfIdleLocked(o, now.Add(2*time.Minute))
	}
	if n := len(d.origins); n != 0 || d.open != 0 || d.connecting != 0 {
		t.Errorf("%d addresses are remembered when nothing is to be remembered, %d connections, %d before CONNECT", n, d.open, d.connecting)
	}
	// One subscriber of IPv6 is one origin.
	come(&net.TCPAddr{IP: net.ParseIP("2001:db8::1")})
	come(&net.TCPAddr{IP: net.ParseIP("2001:db8::2:1")})
	come(&net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1")})
	come(&net.TCPAddr{IP: net.ParseIP("10.0.0.1")})
	if len(d.origins) != 2 {
		t.Errorf("%d origins of 2", len(d.origins))
	}
}

// What rates cost a PUBLISH: none, a device's, and with its application's.
func BenchmarkRates(b *testing.B) {
	s := &Server{rates: *newRateTable()}
	c := &conn{server: s, listener: &Listener{}}
	p := &packet.Publish{Topic: "t", Payload: make([]byte, 200)}
	fast := access.Rates{Messages: 1e9, Bytes: 1e12}
	for _, bench := range []struct {
		name  string
		grant *access.Grant
	}{
		{"none", rated("d", access.Rates{}, access.Rates{})},
		{"device", rated("d", fast, access.Rates{})},
		{"device+application", rated("d", fast, fast)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.withinRate(bench.grant, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
