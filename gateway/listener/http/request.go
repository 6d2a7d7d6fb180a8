package http

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// improper checks what needs no credentials.
func (s *Server) improper(r *http.Request) (status int, why string) {
	headers := 0
	for _, values := range r.Header {
		headers += len(values)
	}
	switch {
	case r.ProtoMajor != 1 || r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return http.StatusNotImplemented, "this method is not served"
	case headers > s.cfg.MaxHeaders:
		return http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request has more than %d headers", s.cfg.MaxHeaders)
	case len(r.RequestURI) > s.cfg.MaxPathBytes:
		return http.StatusRequestURITooLong, fmt.Sprintf("path and query are longer than %d bytes", s.cfg.MaxPathBytes)
	case r.URL.IsAbs() || !strings.HasPrefix(r.URL.Path, "/") || strings.ContainsRune(r.URL.Path, 0):
		return http.StatusBadRequest, "the path must begin with a slash"
	case !utf8.ValidString(r.URL.RawQuery): // a plugin could not read it
		return http.StatusBadRequest, "the query is not UTF-8; percent-encode its bytes"
	case !event.ValidString(r.Header.Get("Content-Type")):
		return http.StatusBadRequest, "the Content-Type is not UTF-8, or holds control characters, which no attribute of an event may"
	}
	return 0, ""
}

func (s *Server) tooLarge() (status int, why string) {
	return http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", s.cfg.MaxBodyBytes)
}

// public says whether a request needs no credentials. The path counts as the plugin
// sees it, still encoded; one with dot segments, which somebody may resolve to another
// path, is not public.
func (s *Server) public(r *http.Request) bool {
	at := r.URL.EscapedPath()
	if strings.Contains(at, "/.") || strings.Contains(at, "//") || strings.Contains(at, "%2e") || strings.Contains(at, "%2E") {
		return false
	}
	return slices.ContainsFunc(s.cfg.Public, func(p string) bool {
		return strings.HasPrefix(at, p) && (strings.HasSuffix(p, "/") || len(at) == len(p) || at[len(p)] == '/')
	})
}

// application decides whose request this is and whether the grant allows it.
func (s *Server) application(g *access.Grant, method string) (name string, status int, why string) {
	write := method != http.MethodGet && method != http.MethodHead
	list := g.Read
	if write {
		list = g.Write
	}
	switch name = s.cfg.Application; {
	case g.Device != "" && (name == "" || name == g.Application):
		return g.Application, 0, ""
	case g.Device != "":
		return "", http.StatusForbidden, "the device belongs to another application"
	case name == "" && len(list) == 1 && list[0] != "*":
		return list[0], 0, ""
	case name == "":
		return "", http.StatusForbidden, "the credentials are for no application, or for several: set application for this listener"
	case write && g.MayWrite(name) || !write && g.MayRead(name):
		return name, 0, ""
	}
	return "", http.StatusForbidden, "no right to do this in the application"
}

// inbound makes the event of a request, without its body.
func (s *Server) inbound(r *http.Request, g *access.Grant, application string, now time.Time) *event.Inbound {
	return &event.Inbound{
		Event: event.Event{
			ID: s.ids.Next(now), Source: stage.Source(application, g.Device), Type: event.TypeRequest, Subject: r.URL.EscapedPath(), Time: now.UTC(),
			Application: application, Device: g.Device, Sender: g.Device, DataContentType: r.Header.Get("Content-Type"),
		},
		Transport: event.Transport{
			Protocol: "http", Method: method(r), Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
			Username: g.Principal, Peer: r.RemoteAddr, Properties: headers(r),
		},
	}
}

// method is what the plugin hears. A request with HEAD is one with GET whose body the
// listener leaves out (RFC 9110 section 9.3.2).
func method(r *http.Request) string {
	if r.Method == http.MethodHead {
		return http.MethodGet
	}
	return r.Method
}

// secrets are the headers that no plugin sees, since they prove who asks.
func secret(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Cookie":
		return true
	}
	return false
}

// headers returns the headers of a request by name, without those that prove who
// asks. net/http does not keep the order of different names.
func headers(r *http.Request) []event.Property {
	list := make([]event.Property, 0, len(r.Header)+1)
	list = append(list, event.Property{Name: "host", Value: r.Host})
	for name, values := range r.Header {
		if secret(name) {
			continue
		}
		for _, v := range values {
			list = append(list, event.Property{Name: strings.ToLower(name), Value: strings.ToValidUTF8(v, "\uFFFD")})
		}
	}
	slices.SortStableFunc(list[1:], func(a, b event.Property) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// peer is the client's address.
func peer(r *http.Request) netip.AddrPort {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr) // zero where it is no IP connection
	return addr
}
