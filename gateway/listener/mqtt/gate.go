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

// originsMax is how many addresses without a connection a gate remembers. Beyond it, any of them may
// be forgotten.
const originsMax = 1 << 16

// gate counts the connections of one listener. A connection passes it in four steps: enter when it
// is accepted, arrive when its address is known, through when it has its CONNACK, leave when it
// ends.
//
// A server may not send anything before CONNECT, and reading a CONNECT is all the work that a
// stranger can cause. The limits on connections without CONNECT therefore close without an answer.
// All other limits let the CONNECT in, judge no credentials, and answer with the reason: 0x89 if the
// gateway is full, so that the client tries again later; 0x97 if the address has its share; 0x9F if
// it connects too often.
type gate struct {
	server *Server
	limits *Limits

	backoff *admission.Backoff

	mu         sync.Mutex
	open       int // connections, without those that will be turned away
	connecting int // connections without CONNACK, with those that will be turned away
	origins    map[netip.Prefix]*origin
}

// origin is what a gate knows of one address. All addresses of an IPv6 /64 count as one, because one
// subscriber gets a /64.
type origin struct {
	key              netip.Prefix
	open, connecting int
	paid             time.Time // when the connection rate that was used up is paid for
}

// visit is a connection's way through its gate. The gate's mu guards it until arrive has returned;
// then it belongs to the reader.
type visit struct {
	gate       *gate
	origin     *origin
	connecting bool
	turned     *packet.Error // why it is turned away as soon as its CONNECT has come
}

func newGate(s *Server, l *Limits) *gate {
	return &gate{server: s, limits: l, backoff: admission.NewBackoff(l.logins()), origins: make(map[netip.Prefix]*origin)}
}

// reject counts a connection that is turned away.
func (d *gate) reject(l limit) {
	d.server.count.rejected.Add(1)
	d.server.limited(l)
}

// enter counts a connection that was accepted. It returns false if the connection is to be closed at
// once. crowded says that the gateway has too many connections.
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

// turnAwayLocked notes why a connection is to be turned away. It then no longer counts as open.
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

// arrive counts a connection of an address. An error says that the connection is to be closed at
// once.
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

// through notes that a connection got its CONNACK.
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

// leave stops counting a connection.
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

// originLocked returns the entry of an address, a new one if there is none.
func (d *gate) originLocked(addr net.Addr, now time.Time) *origin {
	key := admission.NetworkOf(addr)
	o := d.origins[key]
	if o == nil {
		n := 0
		for _, other := range d.origins { // a few at random: over time, all of them
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

// dropIfIdleLocked forgets an origin without connections that owes nothing of its rate. If the gate
// remembers too many, it also forgets one that does.
func (d *gate) dropIfIdleLocked(o *origin, now time.Time) {
	if o.open > 0 || o.connecting > 0 {
		return
	}
	if !o.paid.After(now) || len(d.origins) > originsMax {
		delete(d.origins, o.key)
	}
}

// logins returns the limits on failed logins.
func (l *Limits) logins() admission.Limits {
	return admission.Limits{Failures: l.LoginFailures, DelayMax: l.LoginDelayMax}
}

// login returns how long the credentials of a CONNECT have to wait before they are judged, or why
// they are not judged.
func (v *visit) login(now time.Time) (wait time.Duration, fault *packet.Error) {
	wait, ok := v.gate.backoff.Wait(v.origin.key, now)
	if !ok {
		v.gate.server.limited(limitLogins)
		return 0, &packet.Error{Code: packet.CodeConnectionRateExceeded, Reason: "too many failed logins from this address; try again later"}
	}
	return wait, nil
}

// loginEnded counts a failed login if err says that the credentials were refused.
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
