package transport

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/pires/go-proxyproto"
)

// Conn is a connection with what its transport knows of the client.
type Conn struct {
	net.Conn
	remote net.Addr
	secure bool
	chain  []*x509.Certificate
	early  []byte // bytes that were read already
	most   int    // bytes that may yet be read; below zero: any number
}

// RemoteAddr is the client's address, also behind a proxy.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Secure says whether the connection is encrypted.
func (c *Conn) Secure() bool { return c.secure }

// Certificates is the client's verified certificate with its chain, its own first.
func (c *Conn) Certificates() []*x509.Certificate { return c.chain }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.most >= 0 {
		if c.most == 0 {
			return 0, errTooMuch
		}
		b = b[:min(len(b), c.most)]
		n, err := c.read(b)
		c.most -= n
		return n, err
	}
	return c.read(b)
}

func (c *Conn) read(b []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.early)
	if c.early = c.early[n:]; len(c.early) == 0 {
		c.early = nil
	}
	return n, nil
}

// CloseWrite tells the peer that nothing more comes.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// maxProxyHeader bounds an announcement. Version 2 could have 64 KiB, of which
// addresses and the usual fields need a fraction.
const maxProxyHeader = 4 << 10

// announced reads the announcement of a trusted proxy.
func (l *Listener) announced(nc net.Conn) (*Conn, error) {
	c := &Conn{Conn: nc, remote: nc.RemoteAddr(), most: -1}
	if len(l.trusted) == 0 {
		return c, nil
	}
	addr, trusted := addrOf(c.remote), false
	for _, r := range l.trusted {
		trusted = trusted || r.Contains(addr)
	}
	if !trusted {
		if l.cfg.Proxy.Required {
			return nil, fmt.Errorf("%v is not in proxy.trusted", addr)
		}
		return c, nil // an announcement of a stranger is no MQTT, which ends it
	}
	in := bufio.NewReaderSize(nc, maxProxyHeader)
	awaitLine(in)
	header, err := proxyproto.Read(in)
	switch {
	case errors.Is(err, proxyproto.ErrNoProxyProtocol) && !l.cfg.Proxy.Required:
	case err != nil:
		return nil, fmt.Errorf("reading the announcement: %w", err)
	case header.Command.IsLocal() && header.Version == 2: // the proxy's own, such as a health check
	case header.SourceAddr == nil: // a client's all the same, who must not pass for the proxy
		return nil, errors.New("the announcement names no address")
	default:
		c.remote = header.SourceAddr
	}
	rest, _ := in.Peek(in.Buffered()) // what is there can be had
	c.early = bytes.Clone(rest)
	return c, nil
}

// awaitLine waits until an announcement of version 1 is in the buffer whole, or is
// known to be none. TCP may cut it anywhere; proxyproto.Read takes only what is there.
func awaitLine(in *bufio.Reader) {
	const begin, longest = "PROXY ", 107 // section 2.1 of the specification
	for n := 1; n <= longest; n++ {
		b, err := in.Peek(n)
		if err != nil || b[n-1] == '\n' || n <= len(begin) && b[n-1] != begin[n-1] {
			return
		}
	}
}

// What a client may send until its handshake is done: crypto/tls would keep 64 KiB
// of a ClientHello, and 256 KiB of certificates, for each of many strangers.
const (
	maxHandshake                = 16 << 10
	maxHandshakeWithCertificate = 64 << 10
)

var errTooMuch = errors.New("the TLS handshake of the client is too long")

// encrypted does the TLS handshake.
func (l *Listener) encrypted(c *Conn) (*Conn, error) {
	c.most = maxHandshake
	if l.cfg.TLS.ClientCertificate != None {
		c.most = maxHandshakeWithCertificate
	}
	t := tls.Server(c, l.certs.now().config)
	if err := t.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	c.most = -1
	out := &Conn{Conn: t, remote: c.remote, secure: true, most: -1}
	if chains := t.ConnectionState().VerifiedChains; len(chains) > 0 {
		out.chain = chains[0]
	}
	return out, nil
}
