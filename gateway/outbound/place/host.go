// Package place says where HTTP requests of plugins may go: a place is a scheme, a host and a
// port, or a pattern of them.
package place

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Host is a place that HTTP requests may go to: a scheme, a host name or
// address, and a port. The name may be * for any, or *.example.com for every name
// below one. The zero value matches nothing.
type Host struct{ scheme, name, port string }

// ParseHost reads "https://api.example.com", "http://10.0.0.5:8080",
// "https://*.example.com" or "https://*". Without a port it is the scheme's.
func Parse(text string) (Host, error) {
	wrong := fmt.Errorf("%q is no place for HTTP requests: use https://name or http://name:port, where name may be * or *.domain", text)
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
		strings.HasSuffix(text, "#") {
		return Host{}, wrong
	}
	h := Host{scheme: u.Scheme, name: strings.ToLower(u.Hostname()), port: portOf(u)}
	star := strings.TrimPrefix(strings.TrimPrefix(h.name, "*"), ".")
	switch {
	case h.port == "" || h.name == "" || h.name == "*." || strings.Contains(star, "*"):
		return Host{}, wrong
	case strings.HasPrefix(h.name, "*") && h.name != "*" && h.name[1] != '.':
		return Host{}, wrong
	}
	return h, nil
}

// portOf returns a URL's port; "" if the scheme is neither http nor https.
func portOf(u *url.URL) string {
	def := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	if p := u.Port(); p != "" && def != "" {
		return p
	}
	return def
}

// Covers says whether every place that other stands for is one of h's.
func (h Host) Covers(other Host) bool {
	if h.scheme == "" || h.scheme != other.scheme || h.port != other.port {
		return false
	}
	if below, ok := strings.CutPrefix(h.name, "*"); ok {
		return strings.HasSuffix(strings.TrimPrefix(other.name, "*"), below)
	}
	return h.name == other.name
}

// Address returns the host's address, if it is given by its address and not by a name.
func (h Host) Address() (netip.Addr, bool) {
	a, err := netip.ParseAddr(h.name)
	return a.Unmap(), err == nil
}

// maxURL bounds the URL of a request.
const maxURL = 8 << 10

// CheckURL parses the URL of a request. allowed says whether one of the hosts covers it. An
// error means that the URL must not be requested. The error does not hold what follows the
// host, which may be secret.
func CheckURL(text string, hosts []Host) (u *url.URL, allowed bool, err error) {
	if len(text) > maxURL {
		return nil, false, fmt.Errorf("its URL has %d bytes, at most %d are possible", len(text), maxURL)
	}
	u, err = url.Parse(text)
	switch {
	case err != nil:
		return nil, false, errors.New("its URL cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, false, errors.New("its URL does not begin with https:// or http://")
	case u.Hostname() == "" || u.Opaque != "" || u.User != nil || strings.Contains(u.Host, "*"):
		return nil, false, errors.New("its URL has no host, or more than a host and a port before its path")
	}
	place := Host{u.Scheme, strings.ToLower(u.Hostname()), portOf(u)}
	for _, h := range hosts {
		if h.Covers(place) {
			return u, true, nil
		}
	}
	return u, false, nil
}
