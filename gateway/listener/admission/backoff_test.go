package admission

import (
	"net/netip"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := NewBackoff(Limits{Failures: 3, DelayMax: time.Second})
	mallory, other := Network(netip.MustParseAddr("192.0.2.1")), Network(netip.MustParseAddr("192.0.2.2"))
	now := time.Unix(1000, 0)
	for range 3 {
		if wait, ok := b.Wait(mallory, now); wait != 0 || !ok {
			t.Fatal(wait, ok)
		}
		b.Failed(mallory, now)
	}
	var last time.Duration
	refused := false
	for range 20 {
		wait, ok := b.Wait(mallory, now)
		if refused = !ok; refused {
			break
		}
		if wait < last || wait > time.Second {
			t.Errorf("a wait of %v after one of %v", wait, last)
		}
		last = wait
		b.Failed(mallory, now)
	}
	if !refused || last == 0 {
		t.Errorf("logins are judged for ever; the last wait is %v", last)
	}
	if wait, ok := b.Wait(other, now); wait != 0 || !ok {
		t.Errorf("another address waits %v, %v", wait, ok)
	}
	now = now.Add(time.Hour)
	if wait, ok := b.Wait(mallory, now); wait != 0 || !ok {
		t.Errorf("after an hour: %v, %v", wait, ok)
	}
	none := NewBackoff(Limits{DelayMax: time.Second})
	for range 100 {
		none.Failed(mallory, now)
	}
	if wait, ok := none.Wait(mallory, now); wait != 0 || !ok || len(none.addresses) != 0 {
		t.Errorf("without a bound: %v, %v", wait, ok)
	}
}

func TestBackoffIsBounded(t *testing.T) {
	b := NewBackoff(Limits{Failures: 1, DelayMax: time.Hour})
	now := time.Unix(1000, 0)
	for i := range 3 * addressesMax {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		b.Failed(Network(a), now)
	}
	if n := len(b.addresses); n > addressesMax {
		t.Errorf("%d addresses are remembered, at most %d", n, addressesMax)
	}
}

func TestNetwork(t *testing.T) {
	for _, c := range []struct{ address, want string }{
		{"192.0.2.1", "192.0.2.1/32"}, {"::ffff:192.0.2.1", "192.0.2.1/32"},
		{"2001:db8::1", "2001:db8::/64"}, {"2001:db8::ffff:1%eth0", "2001:db8::/64"},
	} {
		if got := Network(netip.MustParseAddr(c.address)).String(); got != c.want {
			t.Errorf("%s is of %s, want %s", c.address, got, c.want)
		}
	}
}
