package admission

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/loglimit"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Refusals tells the operator which logins are refused and why: at most one line a minute for
// each address and user name. No line holds what may be a credential. It is safe for
// concurrent use.
type Refusals struct {
	log   *slog.Logger
	limit loglimit.Limit[refused]
}

// refused is what a line is about.
type refused struct {
	from     netip.Prefix
	username string // as it is logged, so that it is bounded
}

// NewRefusals returns one that has told nothing yet.
func NewRefusals(log *slog.Logger) *Refusals { return &Refusals{log: log} }

// Tell logs that a listener refused credentials: at level info if they are not accepted
// (why is a *stage.Error), and at level warn if that could not be decided. The client hears
// less than the log.
func (r *Refusals) Tell(c *access.Credentials, why error, now time.Time) {
	code := event.ServerUnavailable
	if e := (*stage.Error)(nil); errors.As(why, &e) {
		code = e.Code
	}
	key := refused{Network(c.Peer.Addr()), c.LoggedUsername()}
	n := r.limit.Count(key, now)
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
