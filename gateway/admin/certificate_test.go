package admin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issueTo writes a self-signed certificate, stamped with a time of its own.
func issueTo(t *testing.T, certificate, key, name string, stamp time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
}

// A certificate that is replaced is used without a restart; one that cannot be
// used leaves the old one.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	start := time.Now().Add(-time.Hour)
	issueTo(t, certificate, key, "first", start)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	s := New(Config{Address: ln.Addr().String(), Certificate: certificate, Key: key}, Parts{}, slog.New(slog.NewTextHandler(&logs, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	name := func(version uint16) (string, error) {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	if got, err := name(tls.VersionTLS12); got != "first" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := name(tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	issueTo(t, certificate, key, "second", start.Add(time.Minute))
	if got, err := name(tls.VersionTLS13); got != "second" {
		t.Errorf("after a change: %q, %v", got, err)
	}
	if err := os.WriteFile(key, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := name(tls.VersionTLS13); got != "second" {
			t.Errorf("after a bad change: %q, %v", got, err)
		}
	}
	// Nobody can read a directory. The key then is there with the same time, as after
	// chmod.
	stamp := start.Add(2 * time.Minute)
	issueTo(t, certificate, key, "third", stamp)
	private, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(key), os.Mkdir(key, 0o700), os.Chtimes(key, stamp, stamp)); err != nil {
		t.Fatal(err)
	}
	if got, err := name(tls.VersionTLS13); got != "second" {
		t.Errorf("with a key that cannot be read: %q, %v", got, err)
	}
	if err := errors.Join(os.Remove(key), os.WriteFile(key, private, 0o600), os.Chtimes(key, stamp, stamp)); err != nil {
		t.Fatal(err)
	}
	if got, err := name(tls.VersionTLS13); got != "third" {
		t.Errorf("with the key that can be read now: %q, %v", got, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(logs.String(), "the old one stays"); n != 2 {
		t.Errorf("two bad changes are told %d times:\n%s", n, logs.String())
	}
}

func TestCertificateThatIsNotThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Certificate: "nope.pem", Key: "nope.pem"}, Parts{}, slog.New(slog.DiscardHandler))
	if err := s.Serve(context.Background(), ln); err == nil || !strings.Contains(err.Error(), "nope.pem") {
		t.Errorf("got %v", err)
	}
}
