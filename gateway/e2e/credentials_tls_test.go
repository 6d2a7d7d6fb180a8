package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// issuer is a certificate authority that writes what it makes into a directory.
type issuer struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newIssuer(t *testing.T, name string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &issuer{t: t, dir: t.TempDir(), key: key, next: 2}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte(name)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.write("ca.pem", "CERTIFICATE", der)
	return ca
}

func (ca *issuer) write(name, kind string, der []byte) string {
	ca.t.Helper()
	file := filepath.Join(ca.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	return file
}

// issue makes a certificate for a name, until then.
func (ca *issuer) issue(name string, until time.Time) tls.Certificate {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(ca.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature}
	ca.next++
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	ca.write(name+".pem", "CERTIFICATE", der)
	ca.write(name+".key", "PRIVATE KEY", private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// revoke puts a revocation list of serial numbers into place.
func (ca *issuer) revoke(serials ...int64) {
	ca.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(ca.next), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	ca.next++
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s),
			RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, ca.cert, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	ca.write("list.pem", "X509 CRL", der)
}

func TestCredentialsCertificates(t *testing.T) {
	ca, other := newIssuer(t, "Fleet CA"), newIssuer(t, "Other CA")
	hour := time.Now().Add(time.Hour)
	ca.issue("gateway", hour)
	ca.revoke(1000)
	file := func(name string) string { return filepath.Join(ca.dir, name) }
	g := guarded(t, `"certificate", "certificate.fleet", "password"`, `
[auth.certificate.fleet]
pattern = "fleet-{device}"
applications = ["plant"]
crl = "`+file("list.pem")+`"
enroll = true
[listeners.mqtt.tcp.tls]
certificate = "`+file("gateway.pem")+`"
key = "`+file("gateway.key")+`"
client_ca = "`+file("ca.pem")+`"
client_certificate = "optional"
`)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	dialled := 0
	dial := func(shown ...tls.Certificate) *client {
		t.Helper()
		nc, err := tls.Dial("tcp", g.mqtt, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(shown) == 0 {
					return &tls.Certificate{}, nil
				}
				return &shown[0], nil // also one that the gateway did not ask for
			}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		c := &client{t: t, nc: nc, in: bufio.NewReader(nc), version: packet.V5}
		dialled++ // a client id belongs to who has it
		p := attempt{clientID: "c" + strconv.Itoa(dialled)}.connect(packet.V5)
		if err := c.write(&p); err != nil {
			t.Log("writing:", err) // the gateway has closed already
		}
		return c
	}
	check := func(what string, want byte, shown ...tls.Certificate) *client {
		t.Helper()
		c := dial(shown...)
		if ack := expect[*packet.Connack](c); ack.Code != want {
			t.Errorf("%s: CONNACK %#x %s, want %#x", what, ack.Code, reason(ack.Props), want)
		}
		return c
	}
	check("device by its name", accepted, ca.issue("fleet-d1", hour))
	check("new device", accepted, ca.issue("fleet-new", hour))
	g.api("GET", "/applications/plant/devices/new", nil, nil)
	check("disabled device", notAuthorized, ca.issue("fleet-off", hour))
	check("name that widens", badCredentials, ca.issue("fleet-+", hour))
	check("no certificate", notAuthorized)
	for what, shown := range map[string]tls.Certificate{
		"of another authority": other.issue("fleet-d1", hour), "expired": ca.issue("fleet-d1", time.Now().Add(-time.Minute)),
	} {
		if p, err := dial(shown).read(); err == nil { // TLS itself refuses it
			t.Errorf("%s: got %T", what, p)
		}
	}
	brief := check("certificate that ends soon", accepted, ca.issue("fleet-d1", time.Now().Add(2*time.Second)))
	brief.ended(notAuthorized)
	late := ca.issue("fleet-late", hour)
	living, another := check("before it is revoked", accepted, late), check("not revoked", accepted, ca.issue("fleet-more", hour))
	leaf, err := x509.ParseCertificate(late.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	ca.revoke(leaf.SerialNumber.Int64())
	living.ended(notAuthorized) // without anybody having done anything
	check("revoked", notAuthorized, late)
	another.send(&packet.Pingreq{})
	expect[*packet.Pingresp](another)
	os.Remove(file("list.pem"))
	check("no revocation list", unavailable, ca.issue("fleet-d1", hour))

	// One that the registry has, by its fingerprint.
	own := ca.issue("anything", hour)
	check("not registered", badCredentials, own)
	g.api("PUT", "/applications/field", map[string]any{"name": "field"}, nil)
	const d2 = "/applications/field/devices/d2"
	g.api("PUT", d2, map[string]any{"application": "field", "name": "d2", "publish": []string{"#"}, "subscribe": []string{"#"}}, nil)
	m := g.credential(d2, "certificate", map[string]any{"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: own.Certificate[0]}))})
	live := check("registered", accepted, own)
	g.api("DELETE", d2+"/credentials/"+m.ID, nil, nil)
	live.ended(notAuthorized)
	check("not registered any more", badCredentials, own)
}
