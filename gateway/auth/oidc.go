package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4/jwt"

	"tributary.io/gateway/access"
	"tributary.io/gateway/metric"
)

// publicKeyAlgorithms are the signature algorithms without a shared secret (RFC 7518 section
// 3.1, RFC 8037).
const publicKeyAlgorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"

// maxToken bounds the bytes of a token, and so the work of decoding what a stranger sends.
const maxToken = 16 << 10

// oidcMethod checks tokens of one OpenID Connect provider.
type oidcMethod struct {
	auth     *Auth
	name     string // oidc.<name>
	cfg      OIDC
	roles    []role
	provider *provider
	config   oidc.Config
}

// role is a pattern of role names with their rights.
type role struct {
	*pattern
	Role
}

func newOIDC(a *Auth, name string, cfg OIDC) (*oidcMethod, error) {
	client, err := newClient(cfg.TLS, cfg.Timeout, 2)
	if err != nil {
		return nil, err
	}
	m := &oidcMethod{auth: a, name: "oidc." + name, cfg: cfg}
	m.provider = newProvider(m.name, cfg, client, a.now, a.log)
	m.config = oidc.Config{
		SupportedSigningAlgs: cfg.Algorithms, // others are refused before verifying
		SkipClientIDCheck:    true,           // go-oidc knows one audience only; verify checks several
		SkipExpiryCheck:      true,           // go-oidc has its own leeway for some times, and none for others
	}
	for name, r := range cfg.Roles {
		p, err := newPattern(name, "application")
		if err != nil {
			return nil, fmt.Errorf("roles: %q: %w", name, err)
		}
		m.roles = append(m.roles, role{p, r})
	}
	return m, nil
}

func (m *oidcMethod) latency() *metric.Histogram { return &m.provider.latency }

// judge takes a token as the user name or as the password. A token as the user name excludes
// a password; beside a token as the password, the user name is ignored.
func (m *oidcMethod) judge(ctx context.Context, c *access.Credentials) (*decision, error) {
	user, password := isToken(c.Username), c.HasPassword && isToken(string(c.Password))
	switch {
	case user && c.HasPassword && len(c.Password) > 0:
		return nil, badCredentials("a token as the user name takes no password beside it")
	case user:
		return m.token(ctx, c.Username)
	case password:
		return m.token(ctx, string(c.Password))
	}
	return nil, errOther
}

// isToken reports whether a text looks like a token and is short enough.
func isToken(s string) bool { return len(s) <= maxToken && access.IsToken(s) }

// token checks one token.
func (m *oidcMethod) token(ctx context.Context, raw string) (*decision, error) {
	t, claims, err := m.verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	d := &decision{credential: m.name + "/" + t.Subject, expires: m.until(t.Expiry)}
	if plainName(t.Subject) {
		d.username = t.Subject
	}
	if m.cfg.DeviceClaim != "" {
		if device, ok := claim(claims, m.cfg.DeviceClaim).(string); ok && device != "" {
			application, _ := claim(claims, m.cfg.ApplicationClaim).(string)
			d.grant, err = m.auth.vouch(ctx, d.credential, &m.cfg.Realm, application, device)
			return d, err
		}
	}
	if m.cfg.UserClaim != "" {
		if user, ok := claim(claims, m.cfg.UserClaim).(string); ok && user != "" {
			d.grant, err = m.auth.dir.VouchUser(user)
			return d, err
		}
	}
	d.grant = stranger(m.name, t.Subject)
	d.grant.Read, d.grant.Write = m.rights(texts(claim(claims, m.cfg.RolesClaim)))
	return d, nil
}

// longest is how long a token is accepted at most, whatever its expiry.
const longest = 366 * 24 * time.Hour

// until returns when a connection with a token of this expiry ends.
func (m *oidcMethod) until(expiry time.Time) time.Time {
	return earlier(expiry.Add(m.cfg.Leeway), m.auth.now().Add(longest))
}

// verify checks signature, issuer, audience and times of a token. The refusal does not say
// what is wrong.
func (m *oidcMethod) verify(ctx context.Context, raw string) (*oidc.IDToken, map[string]any, error) {
	keys := &tokenKeys{provider: m.provider}
	t, err := oidc.NewVerifier(m.cfg.Issuer, keys, &m.config).Verify(ctx, raw)
	if keys.failure != nil {
		return nil, nil, keys.failure
	}
	// go-oidc has no setting for a leeway of all times, nor for one of several audiences.
	// Package jwt would accept a token without an expiry.
	var std jwt.Claims
	var all map[string]any
	if err != nil || t.Claims(&std) != nil || t.Claims(&all) != nil || t.Subject == "" || std.Expiry == nil ||
		std.ValidateWithLeeway(jwt.Expected{AnyAudience: m.cfg.Audience, Time: m.auth.now()}, m.cfg.Leeway) != nil {
		return nil, nil, refusedCredentials()
	}
	return t, all, nil
}

// rights returns the rights of roles.
func (m *oidcMethod) rights(names []string) (read, write []string) {
	add := func(into *[]string, applications []string, found map[string]string) {
		for _, a := range applications {
			a = expand(a, func(name string) string { return found[name] })
			if a != "" && !slices.Contains(*into, a) {
				*into = append(*into, a)
			}
		}
	}
	for _, name := range names {
		for _, r := range m.roles {
			if found, ok := r.match(name); ok {
				add(&read, r.Read, found)
				add(&write, r.Write, found)
			}
		}
	}
	slices.Sort(read)
	slices.Sort(write)
	return read, write
}

// claim returns the claim at a path whose parts are joined by dots, or nil. A claim whose own
// name contains dots, such as a URL, takes precedence.
func claim(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	first, rest, more := strings.Cut(path, ".")
	inner, _ := claims[first].(map[string]any)
	if !more || inner == nil {
		return nil
	}
	return claim(inner, rest)
}

// texts returns the items of a claim that is a list of strings, or a string with spaces
// between the items (RFC 8693 section 4.2).
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
