package transport

import (
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

// tlsState is what was made of the files as they were once.
type tlsState struct {
	config  *tls.Config
	expires time.Time
	seen    [3]fileState
}

// fileState tells whether a file changed.
type fileState struct {
	modified time.Time
	size     int64
}

// lookEvery is how often files are looked at, at most; it happens with handshakes,
// and when metrics are asked for.
const lookEvery = time.Second

func loadCertificates(cfg TLS, alpn []string, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, alpn: alpn, log: log}
	s, err := c.load()
	if err != nil {
		return nil, err
	}
	c.current.Store(s)
	c.looked.Store(time.Now().UnixNano())
	return c, nil
}

// now is what the files say, unless they say nothing that can be used.
func (c *certificates) now() *tlsState {
	if now := time.Now().UnixNano(); now-c.looked.Load() > int64(lookEvery) && c.looking.TryLock() {
		c.looked.Store(now)
		c.reload()
		c.looking.Unlock()
	}
	return c.current.Load()
}

// reload reads the files again where one has changed. What cannot be used leaves
// the former certificate in force: better an old one than none.
func (c *certificates) reload() {
	old := c.current.Load()
	if c.states() == old.seen {
		return
	}
	s, err := c.load()
	if err != nil {
		c.log.Error("the changed TLS files cannot be used; the former certificate stays in force", "error", err)
		failed := *old
		failed.seen = c.states() // told once, not with every handshake
		c.current.Store(&failed)
		return
	}
	c.current.Store(s)
	c.log.Info("TLS certificate reloaded", "file", c.cfg.Certificate, "expires", s.expires)
}

func (c *certificates) states() (s [3]fileState) {
	for i, name := range []string{c.cfg.Certificate, c.cfg.Key, c.cfg.ClientCA} {
		if info, err := os.Stat(name); name != "" && err == nil {
			s[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	return s
}

func (c *certificates) load() (*tlsState, error) {
	s := &tlsState{seen: c.states()}
	pair, err := tls.LoadX509KeyPair(c.cfg.Certificate, c.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("reading tls.certificate %s and tls.key %s: %w", c.cfg.Certificate, c.cfg.Key, err)
	}
	leaf := pair.Leaf
	s.expires = leaf.NotAfter
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
	text, err := os.ReadFile(c.cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading tls.client_ca: %w", err)
	}
	s.config.ClientCAs = x509.NewCertPool()
	if !s.config.ClientCAs.AppendCertsFromPEM(text) {
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
