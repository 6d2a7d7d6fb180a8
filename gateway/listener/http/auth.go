package http

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/admission"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// authenticate judges the credentials of a request, each time anew: what is slow to judge,
// such as a password, the authenticator remembers.
func (s *Server) authenticate(ctx context.Context, r *http.Request, now time.Time) (*access.Grant, error) {
	c, err := s.credentials(r)
	if err != nil {
		return nil, err
	}
	from := admission.Network(c.Peer.Addr())
	if c.HasPassword { // who presents nothing guesses nothing
		if err := s.slowed(ctx, from, now); err != nil {
			return nil, err
		}
	}
	g, err := s.auth.Connect(ctx, c)
	if err != nil {
		if !errors.Is(err, context.Canceled) { // nobody waits for the answer any more
			s.refusals.Tell(c, err, time.Now())
		}
		if e := (*stage.Error)(nil); c.HasPassword && errors.As(err, &e) && (e.Code == event.BadUserNameOrPassword ||
			e.Code == event.NotAuthorized) {
			s.logins.Failed(from, time.Now())
		}
		return nil, fmt.Errorf("judging the credentials of a request: %w", err)
	}
	return g, nil
}

// errTooMany answers a request from an address with too many failed logins.
var errTooMany = errors.New("too many failed logins from this address; try again later")

// slowed has a login wait where logins of its address failed.
func (s *Server) slowed(ctx context.Context, from netip.Prefix, now time.Time) error {
	wait, ok := s.logins.Wait(from, now)
	if !ok {
		return errTooMany
	}
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// credentials reads what a request proves itself with.
func (s *Server) credentials(r *http.Request) (*access.Credentials, error) {
	c := &access.Credentials{Listener: s.name, Protocol: "http", Peer: peer(r)}
	if conn, ok := r.Context().Value(connKey{}).(interface{ Secure() bool }); ok {
		c.Secure = conn.Secure()
	}
	if conn, ok := r.Context().Value(connKey{}).(interface{ Certificates() []*x509.Certificate }); ok {
		c.Certificates = conn.Certificates()
	}
	given := r.Header.Values("Authorization")
	if len(given) > 1 {
		return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "there is more than one Authorization header"}
	}
	c.Properties = headers(r)
	if len(given) == 0 || given[0] == "" {
		if s.cfg.Application != "" { // as an MQTT client says whose anonymous it is
			c.Username, c.HasUsername = "@"+s.cfg.Application, true
		}
		return c, nil
	}
	if user, password, ok := r.BasicAuth(); ok {
		c.Username, c.HasUsername, c.Password, c.HasPassword = user, true, []byte(password), true
		return c, nil
	}
	token := given[0]
	if scheme, rest, found := strings.Cut(token, " "); found {
		switch strings.ToLower(scheme) {
		case "bearer", "token":
			token = strings.TrimLeft(rest, " ")
		default:
			return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the Authorization scheme must be Basic, Bearer or Token"}
		}
	}
	c.Password, c.HasPassword = []byte(token), true
	c.Properties = append(c.Properties, event.Property{Name: "authorization", Value: token})
	return c, nil
}

// refuseCredentials answers a request whose credentials were not accepted.
func (s *Server) refuseCredentials(w http.ResponseWriter, r *http.Request, err error) int {
	if errors.Is(err, errTooMany) {
		w.Header().Set("Retry-After", strconv.Itoa(1+int(s.cfg.LoginDelayMax/time.Second)))
		return refuse(w, http.StatusTooManyRequests, err.Error())
	}
	var denied *stage.Error
	if !errors.As(err, &denied) {
		if r.Context().Err() != nil {
			return statusGone
		}
		w.Header().Set("Retry-After", "1")
		return refuse(w, http.StatusServiceUnavailable, "the gateway cannot judge credentials at the moment; try again")
	}
	status := statusOf(denied.Code)
	if status == http.StatusForbidden && r.Header.Get("Authorization") == "" {
		status = http.StatusUnauthorized // credentials may help
	}
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Basic realm="tributary", charset="UTF-8"`)
		w.Header().Add("WWW-Authenticate", `Bearer realm="tributary"`)
		return refuseAs(w, status, "credentials are missing or wrong", denied.Name)
	}
	return refuseAs(w, status, denied.Reason, denied.Name)
}
