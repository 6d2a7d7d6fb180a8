// Package transport puts what lies between TCP and a protocol around a listener's
// connections: the PROXY protocol, TLS and WebSocket. Its connections tell the
// peer's address, whether they are encrypted, and the client's verified certificate.
// It imports nothing of ours; config composes its Config, server puts it around
// listeners.
package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Config says what lies between the TCP connections of a listener and its
// protocol. The zero Config stands for nothing.
type Config struct {
	TLS       TLS       `koanf:"tls"`
	WebSocket WebSocket `koanf:"websocket"`
	Proxy     Proxy     `koanf:"proxy"`
}

// TLS says how connections are encrypted, and whether clients prove their identity by a
// certificate. Files are PEM, and read again when they change.
type TLS struct {
	Certificate       string `koanf:"certificate"`        // file with the chain, the server's own first; "": no TLS
	Key               string `koanf:"key"`                // file with its private key
	MinVersion        string `koanf:"min_version"`        // "1.2" or "1.3"
	ClientCA          string `koanf:"client_ca"`          // file with the authorities of client certificates; "": none
	ClientCertificate string `koanf:"client_certificate"` // None, Optional or Required
}

// What is asked of clients, for TLS.ClientCertificate.
const (
	None     = "none"
	Optional = "optional" // one that is shown must be right
	Required = "required"
)

// WebSocket says how the protocol is carried in WebSocket messages, RFC 6455.
type WebSocket struct {
	Enabled bool     `koanf:"enabled"`
	Path    string   `koanf:"path"`    // of the requests that become connections
	Origins []string `koanf:"origins"` // of web pages, "https://host[:port]", that may connect beside those of the same host; "*": all
}

// Proxy names the load balancers that may announce the address of a client by the PROXY
// protocol.
type Proxy struct {
	Trusted  []string `koanf:"trusted"`  // address ranges (CIDR) or addresses of the proxies; none: nobody is believed
	Required bool     `koanf:"required"` // refuses connections without an announcement
}

// Default returns plain TCP.
func Default() Config {
	return Config{
		TLS:       TLS{MinVersion: "1.2", ClientCertificate: None},
		WebSocket: WebSocket{Path: "/mqtt"},
	}
}

// Validate names every setting that cannot work. It reads no files.
func (c *Config) Validate() error {
	return errors.Join(c.TLS.validate(), c.WebSocket.validate(), c.Proxy.validate())
}

func (t *TLS) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t.MinVersion != "1.2" && t.MinVersion != "1.3" {
		fail("tls.min_version is %q; use 1.2 or 1.3", t.MinVersion)
	}
	switch asked := t.ClientCertificate; {
	case asked != None && asked != Optional && asked != Required:
		fail("tls.client_certificate is %q; use none, optional or required", asked)
	case asked != None && t.ClientCA == "":
		fail("tls.client_certificate is %q, but tls.client_ca names no authorities to verify them", asked)
	case asked == None && t.ClientCA != "":
		fail("tls.client_ca is set, but tls.client_certificate is none, so nobody would be asked")
	}
	if t.Certificate == "" && (t.Key != "" || t.ClientCA != "") {
		fail("tls.certificate is empty; TLS needs the certificate and its key")
	}
	if t.Certificate != "" && t.Key == "" {
		fail("tls.key is empty; TLS needs the certificate and its key")
	}
	return errors.Join(errs...)
}

func (w *WebSocket) validate() error {
	var errs []error
	if !strings.HasPrefix(w.Path, "/") || strings.ContainsAny(w.Path, "?# ") {
		errs = append(errs, fmt.Errorf("websocket.path is %q; it must be the path of a URL, such as /mqtt", w.Path))
	}
	for _, o := range w.Origins {
		if scheme, host, ok := strings.Cut(o, "://"); o != "*" && (!ok || scheme == "" || host == "" || strings.ContainsAny(host, "/*")) {
			errs = append(errs, fmt.Errorf("websocket.origins has %q; an origin is https://host or http://host:port, and * stands for all", o))
		}
	}
	return errors.Join(errs...)
}

func (p *Proxy) validate() error {
	_, err := p.ranges()
	if p.Required && len(p.Trusted) == 0 {
		err = errors.Join(err, errors.New("proxy.required is true, but proxy.trusted is empty, so nobody could connect"))
	}
	return err
}

// ranges are the addresses of the trusted proxies.
func (p *Proxy) ranges() (list []netip.Prefix, err error) {
	for _, text := range p.Trusted {
		r, problem := netip.ParsePrefix(text)
		if addr, bad := netip.ParseAddr(text); bad == nil {
			r, problem = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if problem != nil {
			err = errors.Join(err, fmt.Errorf("proxy.trusted has %q, which is no range of addresses such as 10.0.0.0/8", text))
			continue
		}
		list = append(list, r)
	}
	return list, err
}
