package mqtt

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"tributary.io/gateway/listener/admission"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// originsMax bounds the addresses that a door remembers without a connection of
// theirs. Beyond it any of them is forgotten.
const originsMax = 1 << 16

// door counts who comes through one listener. A connection passes it in four
// steps: enter when it is accepted, arrive when its address is known, through when
// it has its CONNACK, leave when it ends.
//
// Before CONNECT a server may not say anything, and what it spends on reading one
// is what strangers can make it spend. So the bounds on what has not come through
// CONNECT close without a word; every other one lets the CONNECT in, judges no
// credentials, and answers with the reason: 0x89 where the gateway is full, so that
// the client tries again, 0x97 where its address has its share, and 0x9F
// where it connects too often.
type gate struct {
	server *Server
	limits *Limits

	backoff *admission.Backoff

	mu         sync.Mutex
	open       int // connections but those that are to be turned away
	connecting int // of all, those without CONNACK
	origins    map[netip.Prefix]*origin
}

// origin is what a door knows of one address; of an IPv6 one, of its /64, which
// is what one subscriber gets.
type origin struct {
	key              netip.Prefix
	open, connecting int
	paid             time.Time // when what was used of the connection rate is paid
}

// visit is a connection's way through its door. The door's lock guards it until
// arrive has returned; then it is the reader's.
type visit struct {
	gate       *gate
	origin     *origin
	connecting bool
	turned     *packet.Error // why it is to be turned away, once its CONNECT is there
}

func newGate(s *Server, l *Limits) *gate {
	return &gate{server: s, limits: l, backoff: admission.NewBackoff(l.logins()), origins: make(map[netip.Prefix]*origin)}
}

// reject notes that a connection is not let in.
func (d *gate) reject(l limit) {
	d.server.count.rejected.Add(1)
	d.server.limited(l)
}

// enter counts a connection that was accepted. It is false for one that is to be
// closed at once. crowded says that the gateway has too many.
func (d *gate) enter(v *visit, crowded bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	v.gate = d
	if d.connecting >= d.limits.MaxConnecting {
		d.reject(limitConnecting)
		return false
	}
	v.connecting = true
	d.connecting++
	d.open++
	switch {
	case crowded:
		v.turnAwayLocked(limitConnectionsTotal, packet.CodeServerBusy, "the gateway has no room for more connections; try again later")
	case d.open > d.limits.MaxConnections:
		v.turnAwayLocked(limitConnections, packet.CodeServerBusy, "the listener has no room for more connections; try again later")
	}
	return true
}

// turnAwayLocked notes why a connection is to be turned away; it is no longer counted with
// those that are let in.
func (v *visit) turnAwayLocked(l limit, code byte, reason string) {
	if v.turned == nil {
		v.gate.open--
		v.gate.reject(l)
		v.turned = &packet.Error{Code: code, Reason: reason}
	}
}

var (
	errCrowd = errors.New("too many connections from this address that have not come through CONNECT")
	errBytes = errors.New("too many bytes of CONNECT packets at once")
)

// arrive counts a connection to its address. An error says that it is to be closed
// at once.
func (v *visit) arrive(addr net.Addr, now time.Time) error {
	d := v.gate
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.originLocked(addr, now)
	if most := d.limits.MaxConnectingPerAddress; most > 0 && o.connecting >= most {
		d.reject(limitConnectingPerAddress)
		return errCrowd
	}
	if most := d.limits.MaxConnectionsPerAddress; most > 0 && o.open >= most {
		v.turnAwayLocked(limitConnectionsPerAddress, packet.CodeQuotaExceeded, "the address has as many connections as it may have")
	}
	if rate := d.limits.ConnectRatePerAddress; rate > 0 {
		paid := laterOf(o.paid, now).Add(time.Second / time.Duration(rate))
		if paid.Sub(now) > rateWindow {
			v.turnAwayLocked(limitConnectRate, packet.CodeConnectionRateExceeded, "too many connections a second from this address")
		} else {
			o.paid = paid
		}
	}
	v.origin = o
	o.connecting++
	if v.turned == nil {
		o.open++
	}
	return nil
}

// through notes that a connection has its CONNACK.
func (v *visit) through() {
	d := v.gate
	d.mu.Lock()
	defer d.mu.Unlock()
	v.passLocked()
}

func (v *visit) passLocked() {
	if v.connecting {
		v.connecting = false
		v.gate.connecting--
		if v.origin != nil {
			v.origin.connecting--
		}
	}
}

// leave forgets a connection.
func (v *visit) leave(now time.Time) {
	d := v.gate
	d.mu.Lock()
	defer d.mu.Unlock()
	v.passLocked()
	if v.turned == nil {
		d.open--
	}
	if o := v.origin; o != nil {
		if v.turned == nil {
			o.open--
		}
		d.dropIfIdleLocked(o, now)
	}
}

// originLocked finds or begins the entry of an address. The caller holds mu.
func (d *gate) originLocked(addr net.Addr, now time.Time) *origin {
	key := admission.NetworkOf(addr)
	o := d.origins[key]
	if o == nil {
		n := 0
		for _, other := range d.origins { // some at random: in the long run, all
			if d.dropIfIdleLocked(other, now); n == 4 {
				break
			}
			n++
		}
		o = &origin{key: key}
		d.origins[key] = o
	}
	return o
}

// dropIfIdleLocked drops an origin that has no connection and nothing to be remembered for,
// or, where too many are remembered, any that has no connection. The caller holds mu.
func (d *gate) dropIfIdleLocked(o *origin, now time.Time) {
	if o.open > 0 || o.connecting > 0 {
		return
	}
	if !o.paid.After(now) || len(d.origins) > originsMax {
		delete(d.origins, o.key)
	}
}

// logins are the limits on logins that fail.
func (l *Limits) logins() admission.Limits {
	return admission.Limits{Failures: l.LoginFailures, DelayMax: l.LoginDelayMax}
}

// login says how long to wait before the credentials of a CONNECT are judged, or why they
// are not.
func (v *visit) login(now time.Time) (wait time.Duration, fault *packet.Error) {
	wait, ok := v.gate.backoff.Wait(v.origin.key, now)
	if !ok {
		v.gate.server.limited(limitLogins)
		return 0, &packet.Error{Code: packet.CodeConnectionRateExceeded, Reason: "too many failed logins from this address; try again later"}
	}
	return wait, nil
}

// loginEnded counts a login that failed, if err says that the credentials did not do.
func (v *visit) loginEnded(err error, now time.Time) {
	e := (*stage.Error)(nil)
	if errors.As(err, &e) && (e.Code == event.BadUserNameOrPassword || e.Code == event.NotAuthorized) {
		v.gate.backoff.Failed(v.origin.key, now)
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
