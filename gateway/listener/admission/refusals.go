package admission

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

const (
	// refusalInterval is how far apart two lines about one address and name are at least.
	refusalInterval = time.Minute
	// refusalsMax bounds the addresses and names that are remembered. Beyond it all others
	// share one line.
	refusalsMax = 4096
)

// Refusals tells the operator which logins are refused and why: one line at most in a
// minute for each address and user name. No line holds what may be a credential. It is safe
// for concurrent use.
type Refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	lines map[refused]*refusals
	swept time.Time // when old lines were forgotten last
}

// refused is what is counted together.
type refused struct {
	from     netip.Prefix
	username string // as it is logged, so that it is bounded
}

// refusals are those since the last line.
type refusals struct {
	told time.Time
	n    int
}

// NewRefusals returns one that has told nothing yet.
func NewRefusals(log *slog.Logger) *Refusals {
	return &Refusals{log: log, lines: map[refused]*refusals{}}
}

// Tell logs that a listener refused credentials: at level info if they are not accepted
// (why is a *stage.Error), and at level warn if that could not be decided. The client hears
// less than the log.
func (r *Refusals) Tell(c *access.Credentials, why error, now time.Time) {
	code := event.ServerUnavailable
	if e := (*stage.Error)(nil); errors.As(why, &e) {
		code = e.Code
	}
	key := refused{Network(c.Peer.Addr()), c.LoggedUsername()}
	n := r.count(key, now)
	if n == 0 {
		return
	}
	args := []any{"listener", c.Listener, "peer", c.Peer.Addr().String(), "client", c.ClientID, "username", key.username,
		"code", fmt.Sprintf("%#x", byte(code)), "reason", why}
	if n > 1 {
		args = append(args, "refusals", n) // of this address and name since the last line
	}
	if code == event.ServerUnavailable {
		r.log.Warn("login refused: the authentication could not decide", args...)
	} else {
		r.log.Info("login refused", args...)
	}
}

// count counts a refusal, and returns how many the log should tell of now; 0 is none.
func (r *Refusals) count(key refused, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.lines[key]
	if x == nil && len(r.lines) >= refusalsMax {
		r.sweepLocked(now)
	}
	if x == nil && len(r.lines) >= refusalsMax {
		key = refused{}
		x = r.lines[key]
	}
	if x == nil {
		r.lines[key] = &refusals{told: now}
		return 1
	}
	x.n++
	if now.Sub(x.told) < refusalInterval {
		return 0
	}
	n := x.n
	x.told, x.n = now, 0
	return n
}

// sweepLocked forgets what the log told of long ago, once in an interval: it looks at all.
func (r *Refusals) sweepLocked(now time.Time) {
	if now.Sub(r.swept) < refusalInterval {
		return
	}
	r.swept = now
	for key, x := range r.lines {
		if now.Sub(x.told) >= refusalInterval {
			delete(r.lines, key)
		}
	}
}
