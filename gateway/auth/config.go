package auth

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config declares what can judge credentials beside the registry. Listeners name
// what they use in their auth list: "oidc.<name>", "properties" and so on.
type Config struct {
	OIDC        map[string]OIDC        `koanf:"oidc"`
	Certificate map[string]Certificate `koanf:"certificate"`
	HTTP        map[string]HTTP        `koanf:"http"`
	Plugin      map[string]Plugin      `koanf:"plugin"`
	Properties  Properties             `koanf:"properties"`
}

// Realm bounds what another authority may vouch for.
type Realm struct {
	// Applications are those whose devices it may name; * at the end stands for any
	// rest. Where there is one only, it need not be named with the device.
	Applications []string `koanf:"applications"`
	// Enroll registers a device that it names and nobody knows yet.
	Enroll bool `koanf:"enroll"`
}

// TLS says how to speak TLS with a service. Empty paths: the system's
// authorities, and no certificate of our own. All are PEM files.
type TLS struct {
	CA          string `koanf:"tls_ca"`
	Certificate string `koanf:"tls_certificate"`
	Key         string `koanf:"tls_key"`
}

// OIDC accepts tokens that an OpenID Connect provider signed: JWT access tokens
// (RFC 9068) and ID tokens.
type OIDC struct {
	Realm `koanf:",squash"`
	TLS   `koanf:",squash"`
	// Issuer is the provider's URL, as tokens spell it in "iss".
	Issuer string `koanf:"issuer"`
	// Audience holds what "aud" may be; one has to be there.
	Audience []string `koanf:"audience"`
	// Algorithms are the signatures that are accepted; only such with public keys.
	Algorithms []string `koanf:"algorithms"`
	// Leeway is how far clocks may differ.
	Leeway time.Duration `koanf:"leeway"`
	// Timeout bounds each request to the provider.
	Timeout time.Duration `koanf:"timeout"`
	// The claims that say who it is; dots lead into objects. A token with a device
	// is a device's; else one with a user is a user of the registry; else the token
	// speaks for its subject alone, and Roles say what that may.
	DeviceClaim      string `koanf:"device_claim"`
	ApplicationClaim string `koanf:"application_claim"`
	UserClaim        string `koanf:"user_claim"`
	// RolesClaim holds a list, or a text with spaces between, such as "scope".
	RolesClaim string `koanf:"roles_claim"`
	// Roles say which applications the holder of a role may read and write. In a
	// role's name {application} stands for any application, which Read and Write
	// may then name so.
	Roles map[string]Role `koanf:"roles"`
}

// Role is what the holders of a role may do.
type Role struct {
	Read  []string `koanf:"read"`
	Write []string `koanf:"write"`
}

// Certificate makes devices of TLS client certificates, which the listener has
// verified against its authorities.
type Certificate struct {
	Realm `koanf:",squash"`
	// Field is where the name stands: cn, dns, uri or email.
	Field string `koanf:"field"`
	// Pattern is what it looks like, with {device} and perhaps {application}.
	Pattern string `koanf:"pattern"`
	// CA is the authority that must be in the certificate's chain, as its subject
	// (RFC 2253) or the SHA-256 of its certificate; empty: any that the listener trusts.
	CA string `koanf:"ca"`
	// Denied are SHA-256 fingerprints or serial numbers, in hexadecimal, of
	// certificates that are refused.
	Denied []string `koanf:"denied"`
	// CRL is a file of certificate revocation lists (RFC 5280), PEM or DER, read
	// again when it changes. Every chain then needs a current list.
	CRL string `koanf:"crl"`
}

// HTTP asks a web service about connections and topics, in the way of EMQX.
type HTTP struct {
	Realm `koanf:",squash"`
	TLS   `koanf:",squash"`
	// URL is asked about connections, and ACLURL, where it is set, about each topic.
	URL    string `koanf:"url"`
	ACLURL string `koanf:"acl_url"`
	// Encoding of the requests: json or form.
	Encoding string `koanf:"encoding"`
	// Headers are sent along.
	Headers map[string]string `koanf:"headers"`
	// Body and ACLBody are the members of the requests; values may hold placeholders.
	// Empty: the usual ones.
	Body    map[string]string `koanf:"body"`
	ACLBody map[string]string `koanf:"acl_body"`
	// Device is which device it is where the answer does not say so, with
	// {clientid} or {username}; empty: none.
	Device string `koanf:"device"`
	// Read and Write are the applications of one that is no device, and of a superuser.
	Read  []string `koanf:"read"`
	Write []string `koanf:"write"`
	// Timeout bounds the whole answer, MaxConcurrent the requests at a time.
	Timeout       time.Duration `koanf:"timeout"`
	MaxConcurrent int           `koanf:"max_concurrent"`
	// CacheTTL and CacheDenyTTL say how long answers hold; 0: each is asked anew.
	CacheTTL     time.Duration `koanf:"cache_ttl"`
	CacheDenyTTL time.Duration `koanf:"cache_deny_ttl"`
	CacheEntries int           `koanf:"cache_entries"`
}

// Plugin has a plugin of the same name judge connections.
type Plugin struct {
	Realm        `koanf:",squash"`
	Timeout      time.Duration `koanf:"timeout"`
	CacheTTL     time.Duration `koanf:"cache_ttl"`
	CacheDenyTTL time.Duration `koanf:"cache_deny_ttl"`
	CacheEntries int           `koanf:"cache_entries"`
}

// Properties lets each message of MQTT 5 carry credentials in user properties.
type Properties struct {
	// Device and Key name the user properties.
	Device string `koanf:"device"`
	Key    string `koanf:"key"`
	// Application is whose devices publish on connections that show no credentials
	// at all; empty: such connections are refused.
	Application string `koanf:"application"`
	// CacheTTL is how long a pair that was right is not looked up again.
	CacheTTL     time.Duration `koanf:"cache_ttl"`
	CacheEntries int           `koanf:"cache_entries"`
}

// Default returns the settings without any provider.
func Default() Config {
	return Config{Properties: Properties{Device: "device_id", Key: "access_key", CacheTTL: time.Minute, CacheEntries: 100_000}}
}

// DefaultOIDC returns what holds for a provider where nothing is set.
func DefaultOIDC() OIDC {
	return OIDC{Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, Leeway: 30 * time.Second, Timeout: 5 * time.Second,
		RolesClaim: "scope"}
}

// DefaultCertificate returns what holds for a certificate rule where nothing is set.
func DefaultCertificate() Certificate { return Certificate{Field: "cn", Pattern: "{device}"} }

// DefaultHTTP returns what holds for a call-out where nothing is set.
func DefaultHTTP() HTTP {
	return HTTP{
		Encoding: "json", Device: "{clientid}", Timeout: 5 * time.Second, MaxConcurrent: 64,
		CacheTTL: time.Minute, CacheDenyTTL: 5 * time.Second, CacheEntries: 100_000,
	}
}

// usualBody and usualACLBody are what is sent where nothing else is set.
func usualBody() map[string]string {
	return map[string]string{"username": "{username}", "clientid": "{clientid}", "password": "{password}",
		"peerhost": "{peerhost}", "protocol": "{protocol}", "listener": "{listener}", "cert_common_name": "{cert_common_name}"}
}

func usualACLBody() map[string]string {
	return map[string]string{"username": "{username}", "clientid": "{clientid}", "application": "{application}",
		"device": "{device}", "action": "{action}", "topic": "{topic}", "qos": "{qos}", "retain": "{retain}"}
}

// DefaultPlugin returns what holds for a plugin's verdicts where nothing is set.
func DefaultPlugin() Plugin {
	return Plugin{Timeout: 5 * time.Second, CacheTTL: time.Minute, CacheDenyTTL: 5 * time.Second, CacheEntries: 100_000}
}

// Validate returns everything that is impossible, each problem beginning with
// the key that it concerns.
func (c Config) Validate() error {
	var p problems
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		c.OIDC[name].validate(&p, p.provider("oidc", name))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Certificate)) {
		c.Certificate[name].validate(&p, p.provider("certificate", name))
	}
	for _, name := range slices.Sorted(maps.Keys(c.HTTP)) {
		c.HTTP[name].validate(&p, p.provider("http", name))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Plugin)) {
		g, key := c.Plugin[name], p.provider("plugin", name)
		p.realm(key, g.Realm, false)
		p.timeout(key, g.Timeout)
		p.cache(key, g.CacheEntries, g.CacheTTL, g.CacheDenyTTL)
	}
	if c.Properties.Device == "" || c.Properties.Key == "" || c.Properties.Device == c.Properties.Key {
		p.add("properties", "device and key must name two different user properties")
	}
	p.cache("properties", c.Properties.CacheEntries, c.Properties.CacheTTL)
	return errors.Join(p...)
}

func (o OIDC) validate(p *problems, key string) {
	p.realm(key, o.Realm, o.DeviceClaim == "")
	p.tls(key, o.TLS)
	p.url(key+".issuer", o.Issuer)
	p.timeout(key, o.Timeout)
	if len(o.Audience) == 0 {
		p.add(key+".audience", "is empty; name the audience of this gateway's tokens, else those for any other service would open it")
	}
	if len(o.Algorithms) == 0 {
		p.add(key+".algorithms", "is empty; RS256 is what every provider has")
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(strings.Fields(publicKeyAlgorithms), a) {
			p.add(key+".algorithms", "does not take %q; use some of %s", a, publicKeyAlgorithms)
		}
	}
	if o.Leeway < 0 || o.Leeway > 10*time.Minute {
		p.add(key+".leeway", "is %v; use 0s to 10m", o.Leeway)
	}
	for _, role := range slices.Sorted(maps.Keys(o.Roles)) {
		pat, err := newPattern(role, "application")
		if err != nil {
			p.add(key+".roles", "%q: %v", role, err)
			continue
		}
		p.rights(key+".roles", role, "read", o.Roles[role].Read, pat)
		p.rights(key+".roles", role, "write", o.Roles[role].Write, pat)
	}
}

func (c Certificate) validate(p *problems, key string) {
	p.realm(key, c.Realm, false)
	if !slices.Contains([]string{"cn", "dns", "uri", "email"}, c.Field) {
		p.add(key+".field", "is %q; use cn, dns, uri or email", c.Field)
	}
	pat, err := newPattern(c.Pattern, "device", "application")
	switch {
	case err != nil:
		p.add(key+".pattern", "%q: %v", c.Pattern, err)
	case !pat.has("device"):
		p.add(key+".pattern", "is %q; it must hold {device}", c.Pattern)
	}
	for _, d := range c.Denied {
		if normalHex(d) == "" {
			p.add(key+".denied", "%q is no fingerprint and no serial number in hexadecimal", d)
		}
	}
}

func (h HTTP) validate(p *problems, key string) {
	p.realm(key, h.Realm, h.Device == "")
	p.tls(key, h.TLS)
	p.url(key+".url", h.URL)
	if h.ACLURL != "" {
		p.url(key+".acl_url", h.ACLURL)
	}
	if h.Encoding != "json" && h.Encoding != "form" {
		p.add(key+".encoding", "is %q; use json or form", h.Encoding)
	}
	p.template(key+".body", h.Body, connectPlaceholders)
	p.template(key+".acl_body", h.ACLBody, aclPlaceholders)
	p.template(key+".device", map[string]string{"device": h.Device}, "clientid username")
	p.timeout(key, h.Timeout)
	if h.MaxConcurrent < 1 || h.MaxConcurrent > 10_000 {
		p.add(key+".max_concurrent", "is %d; use 1 to 10000", h.MaxConcurrent)
	}
	p.cache(key, h.CacheEntries, h.CacheTTL, h.CacheDenyTTL)
}

// problems collects what is wrong.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

// provider returns the key of a provider, and checks its name.
func (p *problems) provider(kind, name string) string {
	bare := name != ""
	for _, c := range []byte(name) {
		bare = bare && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if !bare {
		p.add(kind, "%q: a provider's name is made of a-z, 0-9, - and _", name)
		return fmt.Sprintf("%s.%q", kind, name)
	}
	return kind + "." + name
}

func (p *problems) realm(key string, r Realm, optional bool) {
	if len(r.Applications) == 0 && !optional {
		p.add(key+".applications", `is empty; name the applications whose devices it may vouch for, or "*"`)
	}
}

func (p *problems) url(key, s string) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" {
		p.add(key, "must be an http or https URL without user, password and fragment") // which may be secret: not shown
	}
}

func (p *problems) tls(key string, t TLS) {
	if (t.Certificate == "") != (t.Key == "") {
		p.add(key, "tls_certificate and tls_key belong together")
	}
}

func (p *problems) timeout(key string, d time.Duration) {
	if d < 10*time.Millisecond || d > time.Minute {
		p.add(key+".timeout", "is %v; use 10ms to 1m", d)
	}
}

func (p *problems) cache(key string, entries int, ttls ...time.Duration) {
	if entries < 1 || entries > 10_000_000 {
		p.add(key+".cache_entries", "is %d; use 1 to 10000000", entries)
	}
	for _, d := range ttls {
		if d < 0 || d > 24*time.Hour {
			p.add(key+".cache_ttl", "is %v; use 0s to 24h", d)
		}
	}
}

// rights checks the applications of a role: a placeholder that stands for nothing
// would leave "*" of "{aplication}*", which is every application.
func (p *problems) rights(key, role, list string, applications []string, pat *pattern) {
	for _, a := range applications {
		if rest := strings.ReplaceAll(a, "{application}", ""); strings.ContainsAny(rest, "{}") {
			p.add(key, "%q: %s names %q; only {application} may stand in braces there", role, list, a)
		} else if rest != a && !pat.has("application") {
			p.add(key, "%q: %s names %q, but no {application} stands in the role's name; put it there, or name the applications", role, list, a)
		}
	}
}

// template checks that only known placeholders are used.
func (p *problems) template(key string, values map[string]string, known string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		expand(values[name], func(placeholder string) string {
			if !slices.Contains(strings.Fields(known), placeholder) {
				p.add(key, "{%s} is unknown; there are {%s}", placeholder, strings.ReplaceAll(known, " ", "}, {"))
			}
			return ""
		})
	}
}
