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

// publicKeyAlgorithms are the signatures that a provider can make and we can check
// without sharing a secret with it (RFC 7518 section 3.1, RFC 8037).
const publicKeyAlgorithms = "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"

// maxToken bounds a token, so that nobody has us decode more.
const maxToken = 16 << 10

// oidcMethod judges tokens of one OpenID Connect provider.
type oidcMethod struct {
	auth     *Auth
	name     string // oidc.<name>
	cfg      OIDC
	roles    []role
	provider *provider
	config   oidc.Config
}

// role is a pattern of role names with what their holders may do.
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
		SupportedSigningAlgs: cfg.Algorithms, // no other is even looked at
		SkipClientIDCheck:    true,           // it knows one audience only
		SkipExpiryCheck:      true,           // it has its own leeway for some times, and none for others
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

// judge takes a token as the user name or as the password, and not as both. What
// the other one says is not looked at.
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

// isToken says whether a text may be a token that is worth decoding.
func isToken(s string) bool { return len(s) <= maxToken && access.IsToken(s) }

// token judges one token.
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

// longest is for how long a token is taken at most, whatever it says.
const longest = 366 * 24 * time.Hour

// until says until when a token with an expiry is good for a connection.
func (m *oidcMethod) until(expiry time.Time) time.Time {
	return earlier(expiry.Add(m.cfg.Leeway), m.auth.now().Add(longest))
}

// verify checks signature, issuer, audience and times of a token. Whatever is
// wrong with it is one refusal.
func (m *oidcMethod) verify(ctx context.Context, raw string) (*oidc.IDToken, map[string]any, error) {
	keys := &tokenKeys{provider: m.provider}
	t, err := oidc.NewVerifier(m.cfg.Issuer, keys, &m.config).Verify(ctx, raw)
	if keys.failure != nil {
		return nil, nil, keys.failure
	}
	// What go-oidc has no setting for: all times with our leeway, one of several
	// audiences. A token without an expiry is not taken, which jwt would do.
	var std jwt.Claims
	var all map[string]any
	if err != nil || t.Claims(&std) != nil || t.Claims(&all) != nil || t.Subject == "" || std.Expiry == nil ||
		std.ValidateWithLeeway(jwt.Expected{AnyAudience: m.cfg.Audience, Time: m.auth.now()}, m.cfg.Leeway) != nil {
		return nil, nil, refusedCredentials()
	}
	return t, all, nil
}

// rights gathers what the roles of a token's holder allow.
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

// claim returns the claim at a path whose parts are joined by dots. A claim whose
// own name holds dots, such as a URL, comes first.
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

// texts reads a claim that is a list of texts, or one text with spaces between
// them (RFC 8693 section 4.2).
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
