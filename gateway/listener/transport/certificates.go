package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificates is the TLS configuration of a listener, made of files that may
// change. It is safe for concurrent use.
type certificates struct {
	cfg  TLS
	alpn []string
	log  *slog.Logger

	current atomic.Pointer[tlsState]
	looking sync.Mutex // one looks for changes at a time
	looked  atomic.Int64
}

// tlsState is the TLS configuration that was read from the files.
type tlsState struct {
	config  *tls.Config
	expires time.Time
	of      *content
}

// content is the files: certificate, key and authorities. What cannot be read is
// its error instead, so that a change of it is one, too.
type content [3]struct {
	text []byte
	err  string
}

func (c *content) equal(other *content) bool {
	for i := range c {
		if !bytes.Equal(c[i].text, other[i].text) || c[i].err != other[i].err {
			return false
		}
	}
	return true
}

// lookEvery is how often files are looked at, at most; it happens with handshakes,
// and when metrics are asked for.
const lookEvery = time.Second

func loadCertificates(cfg TLS, alpn []string, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, alpn: alpn, log: log}
	s, err := c.make(c.read())
	if err != nil {
		return nil, err
	}
	c.current.Store(s)
	c.looked.Store(time.Now().UnixNano())
	return c, nil
}

// now returns the TLS configuration of the files, or the former one if they cannot be used.
func (c *certificates) now() *tlsState {
	if now := time.Now().UnixNano(); now-c.looked.Load() > int64(lookEvery) && c.looking.TryLock() {
		c.looked.Store(now)
		c.reload()
		c.looking.Unlock()
	}
	return c.current.Load()
}

// reload reads the files again if one has changed. If they cannot be used, the former
// certificate stays in force: an old one is better than none.
func (c *certificates) reload() {
	old, files := c.current.Load(), c.read()
	if files.equal(old.of) {
		return
	}
	s, err := c.make(files)
	if err != nil {
		c.log.Error("the changed TLS files cannot be used; the former certificate stays in force", "error", err)
		failed := *old
		failed.of = files // told once, not with every handshake
		c.current.Store(&failed)
		return
	}
	c.current.Store(s)
	c.log.Info("TLS certificate reloaded", "file", c.cfg.Certificate, "expires", s.expires)
}

func (c *certificates) read() *content {
	of := new(content)
	for i, name := range []string{c.cfg.Certificate, c.cfg.Key, c.cfg.ClientCA} {
		if name == "" {
			continue
		}
		var err error
		if of[i].text, err = os.ReadFile(name); err != nil {
			of[i].err = err.Error()
		}
	}
	return of
}

// make makes a TLS configuration of files.
func (c *certificates) make(of *content) (*tlsState, error) {
	s := &tlsState{of: of}
	for i, key := range []string{"tls.certificate", "tls.key", "tls.client_ca"} {
		if of[i].err != "" {
			return nil, fmt.Errorf("reading %s: %s", key, of[i].err)
		}
	}
	pair, err := tls.X509KeyPair(of[0].text, of[1].text)
	if err != nil {
		return nil, fmt.Errorf("reading tls.certificate %s and tls.key %s: %w", c.cfg.Certificate, c.cfg.Key, err)
	}
	s.expires = pair.Leaf.NotAfter
	if info, err := os.Stat(c.cfg.Key); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.log.Warn("others than its owner may read the private key; restrict it with: chmod 600", "file", c.cfg.Key)
	}
	if time.Now().After(s.expires) {
		c.log.Warn("the TLS certificate has expired; clients will refuse it", "file", c.cfg.Certificate, "expired", s.expires)
	}
	s.config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: c.alpn}
	if c.cfg.MinVersion == "1.3" {
		s.config.MinVersion = tls.VersionTLS13
	}
	if c.cfg.ClientCertificate == None {
		return s, nil
	}
	s.config.ClientCAs = x509.NewCertPool()
	if !s.config.ClientCAs.AppendCertsFromPEM(of[2].text) {
		return nil, errors.New("tls.client_ca " + c.cfg.ClientCA + " has no certificate in PEM")
	}
	s.config.ClientAuth = tls.RequireAndVerifyClientCert
	if c.cfg.ClientCertificate == Optional {
		s.config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	// A ticket would carry a verified certificate past a change of the authorities.
	s.config.SessionTicketsDisabled = true
	return s, nil
}
