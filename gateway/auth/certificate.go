package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"

	"tributary.io/gateway/access"
)

// commonNameType is CN, X.520.
var commonNameType = asn1.ObjectIdentifier{2, 5, 4, 3}

// certificateMethod identifies devices by a name in their verified client certificates.
type certificateMethod struct {
	auth    *Auth
	name    string // certificate.<name>
	cfg     Certificate
	pattern *pattern
	revoked *revocations // nil: no revocation lists are configured
}

func newCertificates(a *Auth, name string, cfg Certificate) (*certificateMethod, error) {
	p, err := newPattern(cfg.Pattern, "device", "application")
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	m := &certificateMethod{auth: a, name: "certificate." + name, cfg: cfg, pattern: p}
	for i, d := range cfg.Denied {
		m.cfg.Denied = slices.Clone(m.cfg.Denied)
		m.cfg.Denied[i] = normalHex(d)
	}
	if cfg.CRL != "" {
		m.revoked = newRevocations(cfg.CRL, a.now, a.look)
	}
	return m, nil
}

func (m *certificateMethod) judge(ctx context.Context, c *access.Credentials) (*decision, error) {
	if len(c.Certificates) == 0 || !m.issued(c.Certificates) {
		return nil, errOther
	}
	leaf := c.Certificates[0]
	found, ok := m.names(leaf)
	if !ok {
		return nil, errOther
	}
	sum := sha256.Sum256(leaf.Raw)
	fingerprint := hex.EncodeToString(sum[:])
	now := m.auth.now()
	switch {
	case now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter):
		return nil, refusedCredentials()
	case slices.Contains(m.cfg.Denied, normalHex(fingerprint)) || slices.Contains(m.cfg.Denied, normalHex(leaf.SerialNumber.Text(16))):
		return nil, errRevoked()
	}
	d := &decision{credential: fingerprint, expires: leaf.NotAfter}
	var err error
	if m.revoked != nil {
		if d.certificate, err = m.revoked.check(c.Certificates); err != nil {
			return nil, err
		}
	}
	d.grant, err = m.auth.vouch(ctx, m.name+"/"+fingerprint, &m.cfg.Realm, found["application"], found["device"])
	return d, err
}

// issued reports whether the configured authority is in the chain above the client's own
// certificate.
func (m *certificateMethod) issued(chain []*x509.Certificate) bool {
	if m.cfg.CA == "" {
		return true
	}
	want := normalHex(m.cfg.CA)
	return slices.ContainsFunc(chain[1:], func(ca *x509.Certificate) bool {
		sum := sha256.Sum256(ca.Raw)
		return ca.Subject.String() == m.cfg.CA || want != "" && want == normalHex(hex.EncodeToString(sum[:]))
	})
}

// names returns the names in the first value of the configured field that matches the pattern.
func (m *certificateMethod) names(leaf *x509.Certificate) (map[string]string, bool) {
	var values []string
	switch m.cfg.Field {
	case "cn":
		// Programs disagree about which of several common names counts.
		for _, a := range leaf.Subject.Names {
			if name, ok := a.Value.(string); ok && a.Type.Equal(commonNameType) {
				values = append(values, name)
			}
		}
		if len(values) > 1 {
			return nil, false
		}
	case "dns":
		values = leaf.DNSNames
	case "email":
		values = leaf.EmailAddresses
	case "uri":
		for _, u := range leaf.URIs {
			values = append(values, u.String())
		}
	}
	for _, v := range values {
		if found, ok := m.pattern.match(v); ok {
			return found, true
		}
	}
	return nil, false
}
