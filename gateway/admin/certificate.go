package admin

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a TLS certificate that is read again when its files change. A
// new one that cannot be used leaves the old one in use.
type certificate struct {
	certificate, key string // files
	log              *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	stamp  [2]time.Time // when the files were changed that are loaded
	fault  string       // of the ones that were tried last; empty: none
}

// get implements tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var stamp [2]time.Time
	for i, file := range []string{c.certificate, c.key} {
		if info, err := os.Stat(file); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	if c.loaded != nil && stamp == c.stamp {
		return c.loaded, nil
	}
	// What cannot be used is tried each time: what mends it, such as chmod, need not
	// change the time of a file.
	next, err := tls.LoadX509KeyPair(c.certificate, c.key)
	switch {
	case err == nil:
		c.loaded, c.stamp, c.fault = &next, stamp, ""
	case c.loaded == nil:
		return nil, fmt.Errorf("reading the certificate %s with the key %s: %w", c.certificate, c.key, err)
	case err.Error() != c.fault: // told once, not with every handshake
		c.fault = err.Error()
		c.log.Error("the new certificate of the admin endpoint cannot be used; the old one stays", "certificate", c.certificate, "error", err)
	}
	return c.loaded, nil
}
