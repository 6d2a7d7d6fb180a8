package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/sdk-plugin/event"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

func newAuthority(t *testing.T, name string, now time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, now: now}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)}
	a.cert = a.create(template, template)
	return a
}

func (a *authority) create(template, parent *x509.Certificate) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issue returns the chain of a client certificate.
func (a *authority) issue(change func(*x509.Certificate)) []*x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(0x3a7b01), NotBefore: a.now.Add(-time.Minute), NotAfter: a.now.Add(time.Hour)}
	change(template)
	return []*x509.Certificate{a.create(template, a.cert), a.cert}
}

// revoke writes a revocation list.
func (a *authority) revoke(file string, next time.Time, serials ...int64) {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: a.now, NextUpdate: next}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s),
			RevocationTime: a.now})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func commonName(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = name }
}

// subject makes attributes of a subject, in their order.
func subject(attributes ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, a := range attributes {
			name, value, _ := strings.Cut(a, "=")
			oid := map[string]asn1.ObjectIdentifier{"CN": commonNameType, "O": {2, 5, 4, 10}}[name]
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: value})
		}
	}
}

func fleet(change func(*Certificate)) Config {
	c := DefaultCertificate()
	c.Applications = []string{"demo"}
	change(&c)
	cfg := Default()
	cfg.Certificate = map[string]Certificate{"fleet": c}
	return cfg
}

func TestCertificates(t *testing.T) {
	now := newClock().now()
	ca := newAuthority(t, "Fleet CA", now)
	uri := func(s string) func(*x509.Certificate) {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return func(c *x509.Certificate) { c.URIs = []*url.URL{u} }
	}
	for _, tt := range []struct {
		name   string
		change func(*Certificate)
		issue  func(*x509.Certificate)
		want   event.Code
	}{
		{"common name", func(*Certificate) {}, commonName("d1"), event.Success},
		{"both names", func(c *Certificate) { c.Pattern = "device/{application}/{device}" }, commonName("device/demo/d1"), event.Success},
		{"domain", func(c *Certificate) { c.Field, c.Pattern = "dns", "{device}.fleet.example.com" },
			func(c *x509.Certificate) { c.DNSNames = []string{"x.example.org", "d1.fleet.example.com"} }, event.Success},
		{"address", func(c *Certificate) { c.Field, c.Pattern = "email", "{device}@{application}" },
			func(c *x509.Certificate) { c.EmailAddresses = []string{"d1@demo"} }, event.Success},
		{"URI", func(c *Certificate) { c.Field, c.Pattern = "uri", "spiffe://example.com/{application}/{device}" },
			uri("spiffe://example.com/demo/d1"), event.Success},
		{"authority by its subject", func(c *Certificate) { c.CA = "CN=Fleet CA,O=Example" }, commonName("d1"), event.Success},
		{"authority by its fingerprint", func(c *Certificate) {
			sum := sha256.Sum256(ca.cert.Raw)
			c.CA = hex.EncodeToString(sum[:])
		}, commonName("d1"), event.Success},
		{"another authority", func(c *Certificate) { c.CA = "CN=Other CA" }, commonName("d1"), event.NotAuthorized},
		{"another application", func(c *Certificate) { c.Pattern = "{application}/{device}" }, commonName("secret/d1"),
			event.BadUserNameOrPassword},
		{"unknown device", func(*Certificate) {}, commonName("d2"), event.BadUserNameOrPassword},
		{"disabled device", func(*Certificate) {}, commonName("off"), event.NotAuthorized},
		{"denied by serial number", func(c *Certificate) { c.Denied = []string{"3A:7B:01"} }, commonName("d1"), event.NotAuthorized},
		{"other serial denied", func(c *Certificate) { c.Denied = []string{"3a7b02"} }, commonName("d1"), event.Success},
		{"expired", func(*Certificate) {}, func(c *x509.Certificate) {
			c.Subject.CommonName, c.NotAfter = "d1", now
		}, event.BadUserNameOrPassword},
		{"name of another form", func(c *Certificate) { c.Pattern = "device-{device}" }, commonName("d1"), event.NotAuthorized},
		{"name that widens: #", func(*Certificate) {}, commonName("#"), event.NotAuthorized},
		{"name that widens: +", func(*Certificate) {}, commonName("d+"), event.NotAuthorized},
		{"name that widens: /", func(*Certificate) {}, commonName("d1/x"), event.NotAuthorized},
		{"no name", func(*Certificate) {}, commonName(""), event.NotAuthorized},
		{"CVE-2026-33248 several common names, last", func(*Certificate) {}, subject("CN=other", "CN=d1"), event.NotAuthorized},
		{"CVE-2026-33248 several common names, first", func(*Certificate) {}, subject("CN=d1", "CN=other"), event.NotAuthorized},
		{"CVE-2026-33248 a common name in another attribute", func(*Certificate) {}, subject("O=d1", "O=CN=d1"), event.NotAuthorized},
		{"CVE-2026-33248 a common name among others", func(*Certificate) {}, subject("O=other", "CN=d1", "O=more"), event.Success},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, fleet(tt.change), nil)
			c := client("", "")
			c.Certificates = ca.issue(tt.issue)
			g, err := w.chain("certificate.fleet", "password").Connect(t.Context(), c)
			if code(err) != tt.want {
				t.Fatalf("%v, code %#x, want %#x", err, code(err), tt.want)
			}
			if err == nil && (g.Device != "d1" || g.Method != "certificate.fleet" || len(g.Credential) != 64 ||
				!g.Expires.Equal(now.Add(time.Hour))) {
				t.Errorf("%+v", g)
			}
		})
	}
}

func TestPattern(t *testing.T) {
	for _, tt := range []struct{ pattern, s, device, application string }{
		{"{device}", "d1", "d1", ""},
		{"{device}.{application}.example.com", "d1.demo.example.com", "d1", "demo"},
		{"{device}.example.com", "a.b.example.com", "a.b", ""},
		{"{device}.example.com", "d1.example.com.example.com", "", ""},
		{"{device}.example.com", "d1.example.org", "", ""},
		{"x-{device}", "y-d1", "", ""},
		{"{application}/{device}", "demo/d1/x", "", ""},
		{"{device}", "", "", ""},
		{"{device}", "a\x00b", "", ""},
		{"{device}", "a*", "", ""},
		{"{device}", "{device}", "", ""},
		{"{device}-end", "d-end-end", "", ""}, // one reading only
	} {
		p, err := newPattern(tt.pattern, "device", "application")
		if err != nil {
			t.Fatal(err)
		}
		found, ok := p.match(tt.s)
		if ok != (tt.device != "") || ok && (found["device"] != tt.device || found["application"] != tt.application) {
			t.Errorf("%q in %q: %v, %v", tt.pattern, tt.s, found, ok)
		}
	}
	for _, bad := range []string{"{", "}", "{x}", "{device}{application}", "{device} {device}"} {
		if _, err := newPattern(bad, "device", "application"); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// FuzzPattern looks for names that could widen a right.
func FuzzPattern(f *testing.F) {
	f.Add("{device}.{application}.example.com", "d1.demo.example.com")
	f.Add("{device}", "#")
	f.Fuzz(func(t *testing.T, form, s string) {
		p, err := newPattern(form, "device", "application")
		if err != nil {
			return
		}
		found, ok := p.match(s)
		if !ok {
			return
		}
		for _, v := range found {
			if !plainName(v) {
				t.Errorf("%q in %q: %q", form, s, found)
			}
		}
		if back := expand(form, func(name string) string { return found[name] }); back != s {
			t.Errorf("%q in %q: %q makes %q", form, s, found, back)
		}
	})
}

func TestEnrolment(t *testing.T) {
	w := newWorld(t, fleet(func(c *Certificate) { c.Enroll = true }), nil)
	ca := newAuthority(t, "Fleet CA", w.clock.now())
	chain := w.chain("certificate.fleet")
	c := client("", "")
	c.Certificates = ca.issue(commonName("new-1"))
	for range 2 {
		if g, err := chain.Connect(t.Context(), c); err != nil || g.Device != "new-1" {
			t.Fatalf("%+v, %v", g, err)
		}
	}
	if len(w.dir.enrolled) != 1 {
		t.Errorf("registered: %q", w.dir.enrolled)
	}
	w.dir.devices["demo/new-1"] = true // disabling stays
	if _, err := chain.Connect(t.Context(), c); code(err) != event.NotAuthorized {
		t.Errorf("disabled: %v", err)
	}
}

func TestRegisteredCertificate(t *testing.T) {
	w := newWorld(t, Default(), nil)
	ca := newAuthority(t, "CA", w.clock.now())
	c := client("", "")
	c.Certificates = ca.issue(commonName("anything"))
	chain := w.chain("certificate")
	if _, err := chain.Connect(t.Context(), c); code(err) != event.BadUserNameOrPassword {
		t.Errorf("unknown: %v", err)
	}
	w.dir.prints[sha256.Sum256(c.Certificates[0].Raw)] = "d1"
	if g, err := chain.Connect(t.Context(), c); err != nil || g.Device != "d1" || !g.Expires.Equal(w.clock.now().Add(time.Hour)) {
		t.Errorf("%+v, %v", g, err)
	}
	w.clock.advance(time.Hour) // the next request of a connection that stays open
	if _, err := chain.Connect(t.Context(), c); code(err) != event.BadUserNameOrPassword {
		t.Errorf("expired: %v", err)
	}
}

func TestRevocationLists(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.crl")
	w := newWorld(t, fleet(func(c *Certificate) { c.CRL = file }), nil)
	now := w.clock.now()
	ca, other := newAuthority(t, "Fleet CA", now), newAuthority(t, "Other CA", now)
	impostor := newAuthority(t, "Fleet CA", now)
	c := client("", "")
	c.Certificates = ca.issue(commonName("d1"))
	chain := w.chain("certificate.fleet", "password")
	touched := 0
	check := func(what string, want event.Code) {
		t.Helper()
		touched++ // as the clock of the file system may be coarse
		at := now.Add(time.Duration(touched) * time.Second)
		os.Chtimes(file, at, at)
		if _, err := chain.Connect(t.Context(), c); code(err) != want {
			t.Errorf("%s: %v, code %#x, want %#x", what, err, code(err), want)
		}
	}
	check("no file", event.ServerUnavailable)
	other.revoke(file, now.Add(time.Hour))
	check("a list of another authority", event.ServerUnavailable)
	impostor.revoke(file, now.Add(time.Hour))
	check("a list that another key signed", event.ServerUnavailable)
	ca.revoke(file, now.Add(time.Hour), 7)
	check("not on the list", event.Success)
	ca.revoke(file, now.Add(time.Hour), 7, 0x3a7b01)
	check("on the list", event.NotAuthorized)
	ca.revoke(file, now)
	check("an old list", event.ServerUnavailable)
	os.WriteFile(file, []byte("nonsense"), 0o600)
	check("nonsense", event.ServerUnavailable)
	content, _ := os.ReadFile(file)
	if lists, err := parseRevocations(content); err == nil {
		t.Errorf("%d lists in nonsense", len(lists))
	}
}

// A list that could not be read is read once that is repaired, though neither its
// time nor its size changed, and what was wrong is told once.
func TestRevocationListBecomesReadable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.crl")
	w := newWorld(t, fleet(func(c *Certificate) { c.CRL = file }), nil)
	now := w.clock.now()
	ca := newAuthority(t, "Fleet CA", now)
	ca.revoke(file, now.Add(time.Hour), 7)
	mend := unreadable(t, file, now)
	c := client("", "")
	c.Certificates = ca.issue(commonName("d1"))
	chain := w.chain("certificate.fleet")
	told := 0
	look := func() { w.lookAround(func(access.Change) { told++ }) }
	for range 2 {
		if _, err := chain.Connect(t.Context(), c); code(err) != event.ServerUnavailable {
			t.Errorf("a list that cannot be read: %v", err)
		}
		look()
	}
	if n := strings.Count(w.log.String(), "until the revocation lists are mended"); n != 1 || told != 0 {
		t.Errorf("the fault is told %d times, news %d times:\n%s", n, told, w.log)
	}
	mend()
	for range 2 {
		if _, err := chain.Connect(t.Context(), c); err != nil {
			t.Errorf("a list that can be read: %v", err)
		}
		look()
	}
	if told != 1 {
		t.Errorf("it is told %d times", told)
	}
}

// unreadable has nobody read a file, not even root, until mend is called: in its place
// is a directory of the same time and size.
func unreadable(t *testing.T, file string, at time.Time) (mend func()) {
	t.Helper()
	content, err := os.ReadFile(file)
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(err, os.Remove(file), os.Mkdir(file, 0o700))
	size := 0
	for i := 0; size < len(content); i++ {
		must(os.Mkdir(filepath.Join(file, fmt.Sprint("larger-", i)), 0o700))
		info, err := os.Stat(file)
		must(err)
		size = int(info.Size())
	}
	must(os.Chtimes(file, at, at))
	content = append(content, bytes.Repeat([]byte("\n"), size-len(content))...)
	return func() {
		t.Helper()
		must(os.RemoveAll(file), os.WriteFile(file, content, 0o600), os.Chtimes(file, at, at))
	}
}

// A certificate that is revoked ends what it opened: whoever renews grants is told
// so, once for each new list, and the renewal refuses.
func TestRevocationReachesGrants(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.crl")
	w := newWorld(t, fleet(func(c *Certificate) { c.CRL = file }), nil)
	now := w.clock.now()
	ca, impostor := newAuthority(t, "Fleet CA", now), newAuthority(t, "Fleet CA", now)
	chain := w.chain("certificate.fleet", "password")
	ca.revoke(file, now.Add(time.Hour), 7)
	connect := func(c *access.Credentials) *access.Grant {
		t.Helper()
		g, err := chain.Connect(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	bad, good := client("", ""), client("", "")
	bad.Certificates = ca.issue(commonName("d1"))
	good.Certificates = ca.issue(func(c *x509.Certificate) { c.Subject.CommonName, c.SerialNumber = "d1", big.NewInt(8) })
	first, second, other := connect(bad), connect(good), connect(client("d1@demo", "right"))
	told := 0
	look := func() {
		t.Helper()
		told = 0
		w.lookAround(func(c access.Change) {
			if told++; !c.Touches(first) || c.Touches(other) {
				t.Errorf("%+v", c)
			}
		})
	}
	touched := 0
	check := func(what string, times int, want event.Code) {
		t.Helper()
		touched++
		at := now.Add(time.Duration(touched) * time.Second)
		os.Chtimes(file, at, at)
		if look(); told != times {
			t.Errorf("%s: told %d times, want %d", what, told, times)
		}
		if look(); told != 0 {
			t.Errorf("%s: told again", what)
		}
		if _, err := chain.Renew(first); code(err) != want {
			t.Errorf("%s: %v, code %#x, want %#x", what, err, code(err), want)
		}
		for _, g := range []*access.Grant{second, other} {
			if same, err := chain.Renew(g); same != g || err != nil {
				t.Errorf("%s: another grant became %+v, %v", what, same, err)
			}
		}
	}
	check("a good list", 1, event.Success)
	impostor.revoke(file, now.Add(time.Hour), 0x3a7b01)
	check("a list that another key signed", 1, event.Success)
	os.WriteFile(file, []byte("nonsense"), 0o600)
	check("nonsense", 0, event.Success)
	ca.revoke(file, now.Add(time.Hour), 7, 0x3a7b01)
	check("revoked", 1, event.NotAuthorized)
	os.Remove(file)
	check("no file", 0, event.NotAuthorized)

	// Run does so when a login reads the file first, too.
	ca.revoke(file, now.Add(time.Hour), 7, 0x3a7b01, 9)
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan access.Change), make(chan error)
	go func() { done <- w.Run(ctx, func(c access.Change) { changes <- c }) }()
	connect(good)
	if c := <-changes; c != (access.Change{Method: "certificate.fleet"}) {
		t.Errorf("%+v", c)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzRevocations(f *testing.F) {
	f.Add([]byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"))
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, err := parseRevocations(b)
		if err == nil && len(lists) == 0 || slices.ContainsFunc(lists, func(l revocationList) bool { return l.RevocationList == nil }) {
			t.Errorf("%d lists without error", len(lists))
		}
	})
}
