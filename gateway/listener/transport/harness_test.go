package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what has to happen.
const patience = 60 * time.Second

// met is what a protocol is told of a connection.
type met struct {
	remote string
	secure bool
	shown  string // common name of the client's certificate
}

// service is a listener whose protocol sends back what it gets.
type service struct {
	t    *testing.T
	ln   net.Listener
	addr string
	met  chan met
	log  *text
	logs *slog.Logger
}

// text is a log.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *text) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func serve(t *testing.T, cfg Config, opts Options) *service {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if opts.Timeout == 0 {
		opts.Timeout = patience
	}
	opts.Name = "mqtt.test"
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, addr: inner.Addr().String(), met: make(chan met, 100), log: &text{}}
	s.logs = slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if s.ln, err = Wrap(inner, cfg, opts, s.logs); err != nil {
		inner.Close()
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := s.ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { s.echo(nc) })
		}
	})
	t.Cleanup(func() {
		s.ln.Close()
		running.Wait()
	})
	return s
}

// echo sends back what comes until the client ends, as the listeners do it.
func (s *service) echo(nc net.Conn) {
	defer nc.Close()
	m := met{remote: nc.RemoteAddr().String()}
	if c, ok := nc.(interface{ Secure() bool }); ok {
		m.secure = c.Secure()
	}
	if c, ok := nc.(interface{ Certificates() []*x509.Certificate }); ok && len(c.Certificates()) > 0 {
		m.shown = c.Certificates()[0].Subject.CommonName
	}
	s.met <- m
	nc.SetDeadline(time.Now().Add(patience))
	io.Copy(nc, struct{ io.Reader }{nc})
	nc.(interface{ CloseWrite() error }).CloseWrite()
}

func (s *service) dial() net.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return nc
}

// next is the next connection that got through.
func (s *service) next() met {
	s.t.Helper()
	select {
	case m := <-s.met:
		return m
	case <-time.After(patience):
		s.t.Fatalf("no connection got through; the log:\n%s", s.log)
		return met{}
	}
}

// works says whether a connection carries bytes both ways.
func works(nc io.ReadWriter) error {
	if _, err := nc.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(nc, make([]byte, 5))
	return err
}

// metric is the value of a metric with a label by.
func (s *service) metric(name, by string) float64 {
	for _, m := range s.ln.(*Listener).Metrics() {
		if m.Name == name && (by == "" || m.Labels[len(m.Labels)-1].Value == by) {
			return m.Value
		}
	}
	return -1
}

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial = struct { // unique over all authorities of the tests
	mu   sync.Mutex
	next int64
}{next: 1}

func nextSerial() *big.Int {
	serial.mu.Lock()
	defer serial.mu.Unlock()
	serial.next++
	return big.NewInt(serial.next)
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: nextSerial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for a name and 127.0.0.1, and its files in dir, of
// which it returns the names.
func (a *authority) issue(dir, name string, until time.Time, usage ...x509.ExtKeyUsage) (pair tls.Certificate, cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: nextSerial(), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter:    until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	put(a.t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(a.t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, cert, key
}

// file writes the authority's own certificate.
func (a *authority) file(dir, name string) string {
	file := filepath.Join(dir, name)
	put(a.t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	return file
}

func put(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
