package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// secured is a configuration with TLS, and who issues its certificates.
func secured(t *testing.T, clients string) (Config, *authority, string) {
	t.Helper()
	dir, ca := t.TempDir(), newAuthority(t, "CA")
	cfg := Default()
	_, cfg.TLS.Certificate, cfg.TLS.Key = ca.issue(dir, "server", time.Now().Add(time.Hour))
	if cfg.TLS.ClientCertificate = clients; clients != None {
		cfg.TLS.ClientCA = ca.file(dir, "clients.pem")
	}
	return cfg, ca, dir
}

func TestVersionsOfTLS(t *testing.T) {
	for _, tt := range []struct {
		least     string
		client    uint16
		shakes    bool
		certainly uint16
	}{
		{"1.2", tls.VersionTLS10, false, 0},
		{"1.2", tls.VersionTLS11, false, 0},
		{"1.2", tls.VersionTLS12, true, tls.VersionTLS12},
		{"1.2", tls.VersionTLS13, true, tls.VersionTLS13},
		{"1.3", tls.VersionTLS12, false, 0},
		{"1.3", tls.VersionTLS13, true, tls.VersionTLS13},
	} {
		t.Run(tt.least+" and "+tls.VersionName(tt.client), func(t *testing.T) {
			cfg, ca, _ := secured(t, None)
			cfg.TLS.MinVersion = tt.least
			s := serve(t, cfg, Options{})
			c := tls.Client(s.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tt.client})
			err := works(c)
			if (err == nil) != tt.shakes || c.ConnectionState().Version != tt.certainly {
				t.Fatalf("%v, %s", err, tls.VersionName(c.ConnectionState().Version))
			}
			if tt.shakes {
				if m := s.next(); !m.secure || m.shown != "" || m.remote != c.LocalAddr().String() {
					t.Errorf("the protocol is told %+v", m)
				}
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	ca := newAuthority(t, "CA")
	dir := t.TempDir()
	right, _, _ := ca.issue(dir, "right", hour)
	forClients, _, _ := ca.issue(dir, "for-clients", hour, x509.ExtKeyUsageClientAuth)
	forServers, _, _ := ca.issue(dir, "for-servers", hour, x509.ExtKeyUsageServerAuth)
	expired, _, _ := ca.issue(dir, "expired", time.Now().Add(-time.Minute))
	foreign, _, _ := newAuthority(t, "CA").issue(dir, "foreign", hour) // of the same name
	stolen := tls.Certificate{Certificate: right.Certificate, PrivateKey: foreign.PrivateKey}
	_, serverCert, serverKey := ca.issue(dir, "server", hour)
	for _, tt := range []struct {
		name                     string
		shown                    *tls.Certificate
		none, optional, required bool
		is                       string
	}{
		{"nothing", nil, true, true, false, ""},
		{"right", &right, true, true, true, "right"},
		{"for clients", &forClients, true, true, true, "for-clients"},
		{"for servers only", &forServers, true, false, false, ""},
		{"expired", &expired, true, false, false, ""},
		{"of another authority of that name", &foreign, true, false, false, ""},
		{"without its key", &stolen, true, false, false, ""},
	} {
		for _, asked := range []struct {
			how   string
			ready bool
		}{{None, tt.none}, {Optional, tt.optional}, {Required, tt.required}} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(tt.name+" "+asked.how+" "+tls.VersionName(version), func(t *testing.T) {
					cfg := Default()
					cfg.TLS.Certificate, cfg.TLS.Key, cfg.TLS.ClientCertificate = serverCert, serverKey, asked.how
					if asked.how != None {
						cfg.TLS.ClientCA = ca.file(dir, "ca.pem")
					}
					s := serve(t, cfg, Options{})
					c := tls.Client(s.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", MaxVersion: version,
						GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
							if tt.shown == nil {
								return &tls.Certificate{}, nil
							}
							return tt.shown, nil
						}})
					if err := works(c); (err == nil) != asked.ready {
						t.Fatalf("it works: %v, want %v; the log:\n%s", err, asked.ready, s.log)
					}
					if !asked.ready {
						eventually(t, "counting it", func() bool { return s.metric("tributary_transport_refused_connections_total", "tls") == 1 })
						if len(s.met) > 0 {
							t.Error("the protocol was told of it")
						}
						return
					}
					want := tt.is
					if asked.how == None {
						want = ""
					}
					if m := s.next(); m.shown != want {
						t.Errorf("the protocol is told of the certificate %q, want %q", m.shown, want)
					}
				})
			}
		}
	}
}

// Files that change count for the next connection; live ones go on.
func TestCertificatesAreReloaded(t *testing.T) {
	cfg, ca, dir := secured(t, Optional)
	s := serve(t, cfg, Options{})
	l := s.ln.(*Listener)
	dial := func(shown ...tls.Certificate) (*tls.Conn, error) {
		t.Helper()
		l.certs.looked.Store(0) // as if a while had passed
		c := tls.Client(s.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &append(shown, tls.Certificate{})[0], nil
			}})
		return c, works(c)
	}
	presented := func() string {
		t.Helper()
		c, err := dial()
		if err != nil {
			t.Fatalf("%v; the log:\n%s", err, s.log)
		}
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	replace := func(name string, until time.Time) {
		t.Helper()
		_, cert, key := ca.issue(dir, name, until)
		for from, to := range map[string]string{cert: cfg.TLS.Certificate, key: cfg.TLS.Key} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	live, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	replace("second", time.Now().Add(2*time.Hour))
	if got := presented(); got != "second" {
		t.Errorf("after the change the certificate is that of %s", got)
	}
	if err := works(live); err != nil {
		t.Errorf("the connection that was there: %v", err)
	}
	if in := time.Until(time.Unix(int64(s.metric("tributary_transport_certificate_expiry_seconds", "")), 0)); in < 119*time.Minute ||
		in > 2*time.Hour {
		t.Errorf("the metric says that it expires in %v", in)
	}

	good, err := os.ReadFile(cfg.TLS.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"", "no PEM", string(good[:len(good)/2])} {
		put(t, cfg.TLS.Certificate, []byte(broken))
		if got := presented(); got != "second" {
			t.Errorf("a broken file: the certificate is that of %s", got)
		}
	}
	os.Remove(cfg.TLS.Certificate)
	if got := presented(); got != "second" {
		t.Errorf("no file: the certificate is that of %s", got)
	}
	if n := strings.Count(s.log.String(), "cannot be used"); n != 4 {
		t.Errorf("%d complaints about 4 broken states; the log:\n%s", n, s.log)
	}
	replace("third", time.Now().Add(time.Hour))
	if got := presented(); got != "third" {
		t.Errorf("after the repair the certificate is that of %s", got)
	}

	// Other authorities for clients: what was right is so no longer, tickets or not.
	mine, _, _ := ca.issue(dir, "mine", time.Now().Add(time.Hour))
	if _, err := dial(mine); err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t, "other")
	theirs, _, _ := other.issue(dir, "theirs", time.Now().Add(time.Hour))
	if _, err := dial(theirs); err == nil {
		t.Error("a certificate of an authority that is not there yet was accepted")
	}
	other.file(dir, "clients.pem")
	if _, err := dial(theirs); err != nil {
		t.Errorf("of the new authority: %v", err)
	}
	if _, err := dial(mine); err == nil {
		t.Error("a certificate of the former authority was accepted")
	}
}

// The files are read before anything is served.
func TestFilesThatCannotBeUsed(t *testing.T) {
	cfg, ca, dir := secured(t, Required)
	_, _, otherKey := ca.issue(dir, "other", time.Now().Add(time.Hour))
	empty := filepath.Join(dir, "empty")
	put(t, empty, nil)
	for _, tt := range []struct {
		name    string
		change  func(*TLS)
		problem string
	}{
		{"no certificate", func(c *TLS) { c.Certificate = filepath.Join(dir, "nope") }, "reading tls.certificate"},
		{"no key", func(c *TLS) { c.Key = filepath.Join(dir, "nope") }, "tls.key"},
		{"another key", func(c *TLS) { c.Key = otherKey }, "private key does not match"},
		{"no authorities", func(c *TLS) { c.ClientCA = filepath.Join(dir, "nope") }, "reading tls.client_ca"},
		{"empty authorities", func(c *TLS) { c.ClientCA = empty }, "has no certificate in PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := cfg
			tt.change(&bad.TLS)
			if err := Check(bad, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("Check: %v", err)
			}
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer inner.Close()
			if ln, err := Wrap(inner, bad, Options{Timeout: patience}, slog.New(slog.DiscardHandler)); err == nil {
				ln.Close()
				t.Error("it listens")
			}
		})
	}
	if err := Check(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	cfg, ca, dir := secured(t, None)
	var log text
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if Check(cfg, logger); log.String() != "" {
		t.Errorf("nothing is to be said, but: %s", &log)
	}
	if err := os.Chmod(cfg.TLS.Key, 0o640); err != nil {
		t.Fatal(err)
	}
	if Check(cfg, logger); !strings.Contains(log.String(), "chmod 600") {
		t.Errorf("a key that others may read: %s", &log)
	}
	_, cfg.TLS.Certificate, cfg.TLS.Key = ca.issue(dir, "old", time.Now().Add(-time.Second))
	if Check(cfg, logger); !strings.Contains(log.String(), "has expired") {
		t.Errorf("an expired certificate: %s", &log)
	}
}

// A handshake that stalls holds up nobody, is ended in time, and one address may
// have only so many.
func TestStalledHandshakes(t *testing.T) {
	cfg, ca, _ := secured(t, None)
	s := serve(t, cfg, Options{Timeout: patience, Pending: 10, PendingPerAddress: 3})
	const pending = "tributary_transport_pending_connections"
	var stalled []net.Conn
	for i, first := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01"} {
		nc := s.dial()
		nc.Write([]byte(first))
		stalled = append(stalled, nc)
		eventually(t, "pending", func() bool { return s.metric(pending, "") == float64(i+1) })
	}
	if _, err := s.dial().Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one too many: %v", err)
	}
	if n := s.metric("tributary_transport_refused_connections_total", "address"); n != 1 {
		t.Errorf("%v refused for their address", n)
	}
	stalled[0].Close()
	eventually(t, "a place", func() bool { return s.metric(pending, "") == 2 })
	c := tls.Client(s.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1"})
	if err := works(c); err != nil {
		t.Errorf("beside them: %v", err)
	}
	s.ln.Close() // ends them, too
	if err := ended(stalled[1]); err != nil {
		t.Errorf("a stalled connection of a closed listener: %v", err)
	}
	if err := works(c); err != nil {
		t.Errorf("a connection that was accepted: %v", err)
	}
}

// A ClientHello is kept until it is whole; a stranger's may not be large.
func TestLongHandshake(t *testing.T) {
	cfg, _, _ := secured(t, None)
	s := serve(t, cfg, Options{})
	nc := s.dial()
	record := append([]byte{0x16, 3, 1, 0x10, 0}, make([]byte, 0x1000)...)
	copy(record[5:], []byte{1, 0, 0xFF, 0xFF}) // a ClientHello of 64 KiB
	for sent := 0; ; sent += len(record) {
		if _, err := nc.Write(record); err != nil {
			break // it was ended
		}
		if sent > 64<<20 {
			t.Fatal("it was never refused")
		}
		copy(record[5:], make([]byte, 4))
	}
	eventually(t, "the log", func() bool { return strings.Contains(s.log.String(), errTooMuch.Error()) })
}

func TestTimeout(t *testing.T) {
	cfg, _, _ := secured(t, None)
	cfg.WebSocket.Enabled = true
	plain := Default()
	plain.WebSocket.Enabled = true
	announced := Default()
	announced.Proxy.Trusted = []string{"127.0.0.1"}
	for _, tt := range []struct {
		name  string
		cfg   Config
		first string
	}{
		{"TLS", cfg, "\x16"},
		{"an upgrade without a word", plain, ""},
		{"an upgrade without an end", plain, "GET /mqtt HTTP/1.1\r\nHost: x\r\n"},
		{"PROXY without a word", announced, ""},
		{"PROXY without an end", announced, "PROXY TCP4 192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.cfg, Options{Timeout: 200 * time.Millisecond})
			nc := s.dial()
			nc.Write([]byte(tt.first))
			if err := ended(nc); err != nil {
				t.Errorf("%v", err)
			}
			eventually(t, "nothing pending", func() bool { return s.metric("tributary_transport_pending_connections", "") == 0 })
		})
	}
}

// Plain TCP is handed on untouched: the listener above writes to it in its own way.
func TestNothingToDo(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	if ln, err := Wrap(inner, Default(), Options{}, slog.New(slog.DiscardHandler)); err != nil || ln != inner {
		t.Errorf("%v, %v", ln, err)
	}
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: in vain", what)
		}
	}
}

// ended waits for the other side to end a connection.
func ended(nc net.Conn) error {
	if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
		return err
	}
	return nil
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
