package admin

import (
	"net/netip"
	"sync"
	"time"
)

// An address may present so many wrong tokens in a window. Right ones are always
// taken, so that nobody can lock out others behind the same address; tokens have
// 190 random bits, so what is throttled is noise and not a search.
const (
	throttleFailures  = 10
	throttleWindow    = time.Minute
	throttleAddresses = 1024 // beyond, all others are counted as one
)

// throttle counts failed authentications by address.
type throttle struct {
	now func() time.Time

	mu   sync.Mutex
	seen map[netip.Addr]failures
}

type failures struct {
	since time.Time
	count int
}

func newThrottle() *throttle { return &throttle{now: time.Now, seen: map[netip.Addr]failures{}} }

// failed counts a failure and returns for how many seconds the address has to
// wait, 0: it has not.
func (t *throttle) failed(peer netip.Addr) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if _, known := t.seen[peer]; !known && len(t.seen) >= throttleAddresses {
		for addr, f := range t.seen {
			if now.Sub(f.since) >= throttleWindow {
				delete(t.seen, addr)
			}
		}
		if len(t.seen) >= throttleAddresses {
			peer = netip.Addr{}
		}
	}
	f := t.seen[peer]
	if now.Sub(f.since) >= throttleWindow {
		f = failures{since: now}
	}
	f.count++
	t.seen[peer] = f
	if f.count <= throttleFailures {
		return 0
	}
	return int((throttleWindow - now.Sub(f.since) + time.Second - 1) / time.Second)
}
