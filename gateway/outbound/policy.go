package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"tributary.io/gateway/outbound/place"
)

// Rules are what the operator allows one plugin: the hosts and private_networks of
// its grant.
type Rules struct {
	Hosts           []string
	PrivateNetworks []string
}

// policy is Rules made ready. Each plugin has a client of its own, so that no
// plugin is given a connection that another was allowed to open.
type policy struct {
	hosts    []place.Host
	networks []netip.Prefix
	client   *http.Client
}

// errPlace means that a call goes to a place that is not allowed. A retry would not help.
var errPlace = errors.New("the address is not public and not granted")

func newPolicy(cfg *Config, rules Rules) (*policy, error) {
	p := &policy{}
	for _, text := range rules.Hosts {
		h, err := place.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("hosts: %w", err)
		}
		p.hosts = append(p.hosts, h)
		if a, ok := h.Address(); ok { // named by its address: that is explicit enough
			p.networks = append(p.networks, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	for _, text := range rules.PrivateNetworks {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("private_networks: %w", err)
		}
		p.networks = append(p.networks, n)
	}
	dialer := &net.Dialer{Timeout: cfg.Timeout, KeepAlive: 30 * time.Second, Control: p.control}
	p.client = &http.Client{
		Transport: &http.Transport{ // Proxy stays nil: a proxy would look up names for us
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           cfg.Concurrency,
			MaxIdleConnsPerHost:    cfg.PerHost,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    cfg.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect is an answer: to follow it could lead past the list of hosts.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p, nil
}

// control looks at the address that a connection is about to be made to, after
// the name was resolved, so that no name can lead to a forbidden one.
func (p *policy) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errPlace, err)
	}
	if !p.reachable(at.Addr()) {
		return errPlace
	}
	return nil
}

func (p *policy) reachable(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	return public(a) || slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// public says whether an address belongs to the open internet. An address that stands for an
// IPv4 address is judged like that one.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(a) {
		b := a.As16()
		return public(netip.AddrFrom4([4]byte(b[12:])))
	}
	return !slices.ContainsFunc(reserved(), func(n netip.Prefix) bool { return n.Contains(a) })
}

// reserved are the ranges of the IANA special-purpose registries that netip has no
// word for.
func reserved() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4",
		"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}
