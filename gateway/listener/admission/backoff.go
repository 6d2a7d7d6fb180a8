// Package admission holds what every listener does alike about strangers: it slows down
// addresses from which logins fail. It knows no protocol.
package admission

import (
	"math"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits are the settings of a Backoff.
type Limits struct {
	// Failures is how many logins of one address may fail before further ones are judged
	// one by one and ever more slowly. 0: any number.
	Failures int
	// DelayMax is how far apart they are at most; one failure is forgotten in that time.
	DelayMax time.Duration
}

// addressesMax bounds the addresses that are remembered. Beyond it any of them is forgotten.
const addressesMax = 1 << 16

// firstDelay is how far apart logins are after the first failure too many; each
// further one doubles it up to DelayMax.
const firstDelay = 100 * time.Millisecond

// Backoff slows down addresses from which logins fail. It is safe for concurrent use.
type Backoff struct {
	limits Limits

	mu        sync.Mutex
	addresses map[netip.Prefix]*address
}

// address is what is known of one; of an IPv6 one, of its /64.
type address struct {
	failures float64   // of logins
	counted  time.Time // when failures was so
	next     time.Time // when the next login may be judged
}

// NewBackoff returns one that remembers nothing yet.
func NewBackoff(l Limits) *Backoff {
	return &Backoff{limits: l, addresses: map[netip.Prefix]*address{}}
}

// Wait says how long a login of an address has to wait before its credentials are judged. It
// is false if that is longer than DelayMax: then they are not judged at all.
func (b *Backoff) Wait(from netip.Prefix, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.addresses[from]
	if a == nil || b.limits.Failures == 0 {
		return 0, true
	}
	a.decay(now, b.limits.DelayMax)
	over := int(math.Ceil(a.failures)) - b.limits.Failures
	if over < 0 {
		return 0, true
	}
	at := now
	if a.next.After(now) {
		at = a.next
	}
	if wait = at.Sub(now); wait > b.limits.DelayMax {
		return 0, false
	}
	a.next = at.Add(min(firstDelay<<min(over, 20), b.limits.DelayMax))
	return wait, true
}

// Failed counts a login that failed.
func (b *Backoff) Failed(from netip.Prefix, now time.Time) {
	if b.limits.Failures == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.addresses[from]
	if a == nil {
		b.forget(now)
		a = &address{counted: now}
		b.addresses[from] = a
	}
	a.decay(now, b.limits.DelayMax)
	a.failures = min(a.failures+1, float64(b.limits.Failures+20))
}

// forget drops some addresses, taken at random, that nothing is remembered of any more; and,
// if too many are remembered, others.
func (b *Backoff) forget(now time.Time) {
	n := 0
	for key, a := range b.addresses {
		a.decay(now, b.limits.DelayMax)
		if a.failures == 0 && !a.next.After(now) || len(b.addresses) >= addressesMax {
			delete(b.addresses, key)
		}
		if n++; n == 5 {
			break
		}
	}
}

// decay forgets failures as time passes.
func (a *address) decay(now time.Time, each time.Duration) {
	if a.failures > 0 && each > 0 {
		a.failures = max(0, a.failures-float64(now.Sub(a.counted))/float64(each))
	}
	a.counted = now
}

// Network is what counts as one peer: an IPv4 address, or of an IPv6 one the /64 that one
// subscriber has.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64) // 64 is never too long for IPv6
		return p
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// NetworkOf is the Network of a connection's address; those that are none of the internet
// share one.
func NetworkOf(addr net.Addr) netip.Prefix {
	a, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Prefix{}
	}
	return Network(a.Addr())
}
