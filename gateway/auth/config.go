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

// Config declares the authentication methods beside those of the registry. Listeners name the
// methods that they use in their auth list: "oidc.<name>", "properties" and so on.
type Config struct {
	OIDC        map[string]OIDC        `koanf:"oidc"`
	Certificate map[string]Certificate `koanf:"certificate"`
	HTTP        map[string]HTTP        `koanf:"http"`
	Plugin      map[string]Plugin      `koanf:"plugin"`
	Properties  Properties             `koanf:"properties"`
}

// Realm says which devices another authority may vouch for.
type Realm struct {
	// Applications are those whose devices it may vouch for, as patterns (see
	// access.MatchName). If this is one name without *, the authority need not name the
	// application of a device.
	Applications []string `koanf:"applications"`
	// Enroll registers a device that the authority vouches for and the registry does not have.
	Enroll bool `koanf:"enroll"`
}

// TLS has the PEM files for TLS with a service. An empty CA means the certificate authorities
// of the system, empty Certificate and Key that the gateway presents no certificate.
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
	// Audience holds the accepted values of "aud". A token needs one of them.
	Audience []string `koanf:"audience"`
	// Algorithms are the accepted signature algorithms, only such with public keys.
	Algorithms []string `koanf:"algorithms"`
	// Leeway is by how much the clocks of provider and gateway may differ.
	Leeway time.Duration `koanf:"leeway"`
	// Timeout bounds each request to the provider.
	Timeout time.Duration `koanf:"timeout"`
	// DeviceClaim, ApplicationClaim and UserClaim name the claims that identify the
	// client; a dot in a name leads into an object. A token with a device claim is that of
	// a device, else one with a user claim is that of a user of the registry. Any other token
	// is that of its subject, whose rights come from Roles.
	DeviceClaim      string `koanf:"device_claim"`
	ApplicationClaim string `koanf:"application_claim"`
	UserClaim        string `koanf:"user_claim"`
	// RolesClaim names a claim that is a list, or text separated by spaces such as "scope".
	RolesClaim string `koanf:"roles_claim"`
	// Roles has the rights by role. {application} in the name of a role stands for any
	// application, and Read and Write can then contain {application} too.
	Roles map[string]Role `koanf:"roles"`
}

// Role is the applications whose log a role may read, and whose devices it may command.
type Role struct {
	Read  []string `koanf:"read"`
	Write []string `koanf:"write"`
}

// Certificate identifies devices by a name in their TLS client certificates. The listener has
// verified these against its authorities.
type Certificate struct {
	Realm `koanf:",squash"`
	// Field is the field of the certificate that has the name: cn, dns, uri or email.
	Field string `koanf:"field"`
	// Pattern is the form of the name, with {device} and optionally {application}.
	Pattern string `koanf:"pattern"`
	// CA is the authority that must be in the chain of the certificate: its subject (RFC
	// 2253), or the SHA-256 of its certificate. Empty means any that the listener trusts.
	CA string `koanf:"ca"`
	// Denied are certificates that are refused: SHA-256 fingerprints or serial numbers, in
	// hexadecimal.
	Denied []string `koanf:"denied"`
	// CRL is a file of certificate revocation lists (RFC 5280) in PEM or DER. It is read
	// again when it changes. Every certificate then needs a current list of its authority.
	CRL string `koanf:"crl"`
}

// HTTP asks a web service about connections and topics, with the protocol of EMQX.
type HTTP struct {
	Realm `koanf:",squash"`
	TLS   `koanf:",squash"`
	// URL is asked about connections. ACLURL is asked about each topic if it is set.
	URL    string `koanf:"url"`
	ACLURL string `koanf:"acl_url"`
	// Encoding is that of the requests: json or form.
	Encoding string `koanf:"encoding"`
	// Headers are sent with each request.
	Headers map[string]string `koanf:"headers"`
	// Body and ACLBody are the members of the requests about connections and topics. Their
	// values can have placeholders. If one is empty, it has a default.
	Body    map[string]string `koanf:"body"`
	ACLBody map[string]string `koanf:"acl_body"`
	// Device is the device if the response does not name one. It can contain {clientid} and
	// {username}. Empty means that the client is no device.
	Device string `koanf:"device"`
	// Read and Write are the rights of a client that is no device, and of a superuser.
	Read  []string `koanf:"read"`
	Write []string `koanf:"write"`
	// Timeout bounds each request, MaxConcurrent the number of requests at a time.
	Timeout       time.Duration `koanf:"timeout"`
	MaxConcurrent int           `koanf:"max_concurrent"`
	// CacheTTL and CacheDenyTTL are how long answers are cached; 0: not at all.
	CacheTTL     time.Duration `koanf:"cache_ttl"`
	CacheDenyTTL time.Duration `koanf:"cache_deny_ttl"`
	CacheEntries int           `koanf:"cache_entries"`
}

// Plugin has the plugin of the same name check the credentials of connections.
type Plugin struct {
	Realm        `koanf:",squash"`
	Timeout      time.Duration `koanf:"timeout"`
	CacheTTL     time.Duration `koanf:"cache_ttl"`
	CacheDenyTTL time.Duration `koanf:"cache_deny_ttl"`
	CacheEntries int           `koanf:"cache_entries"`
}

// Properties has each MQTT 5.0 message carry credentials in user properties.
type Properties struct {
	// Device and Key name the user properties.
	Device string `koanf:"device"`
	Key    string `koanf:"key"`
	// Application is that of the devices that publish on connections without credentials.
	// If it is empty, such connections are refused.
	Application string `koanf:"application"`
	// CacheTTL is how long accepted credentials are cached.
	CacheTTL     time.Duration `koanf:"cache_ttl"`
	CacheEntries int           `koanf:"cache_entries"`
}

// Default returns the settings without any provider.
func Default() Config {
	return Config{Properties: Properties{Device: "device_id", Key: "access_key", CacheTTL: time.Minute, CacheEntries: 100_000}}
}

// DefaultOIDC returns the defaults of an OpenID Connect provider.
func DefaultOIDC() OIDC {
	return OIDC{Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, Leeway: 30 * time.Second, Timeout: 5 * time.Second,
		RolesClaim: "scope"}
}

// DefaultCertificate returns the defaults of a certificate rule.
func DefaultCertificate() Certificate { return Certificate{Field: "cn", Pattern: "{device}"} }

// DefaultHTTP returns the defaults of a web service.
func DefaultHTTP() HTTP {
	return HTTP{
		Encoding: "json", Device: "{clientid}", Timeout: 5 * time.Second, MaxConcurrent: 64,
		CacheTTL: time.Minute, CacheDenyTTL: 5 * time.Second, CacheEntries: 100_000,
	}
}

// defaultBody and defaultACLBody are the members of requests if the settings name none.
func defaultBody() map[string]string {
	return map[string]string{"username": "{username}", "clientid": "{clientid}", "password": "{password}",
		"peerhost": "{peerhost}", "protocol": "{protocol}", "listener": "{listener}", "cert_common_name": "{cert_common_name}"}
}

func defaultACLBody() map[string]string {
	return map[string]string{"username": "{username}", "clientid": "{clientid}", "application": "{application}",
		"device": "{device}", "action": "{action}", "topic": "{topic}", "qos": "{qos}", "retain": "{retain}"}
}

// DefaultPlugin returns the defaults of a plugin that checks credentials.
func DefaultPlugin() Plugin {
	return Plugin{Timeout: 5 * time.Second, CacheTTL: time.Minute, CacheDenyTTL: 5 * time.Second, CacheEntries: 100_000}
}

// Validate returns every impossible setting as an error that begins with the setting's key.
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

// problems collects impossible settings.
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
		p.add(key, "must be an http or https URL without user, password and fragment") // the URL may contain a secret: it is not shown
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

// rights checks the applications of a role. An unknown placeholder would be replaced by
// nothing: "{aplication}*" would become "*", which is every application.
func (p *problems) rights(key, role, list string, applications []string, pat *pattern) {
	for _, a := range applications {
		if rest := strings.ReplaceAll(a, "{application}", ""); strings.ContainsAny(rest, "{}") {
			p.add(key, "%q: %s names %q; only {application} may stand in braces there", role, list, a)
		} else if rest != a && !pat.has("application") {
			p.add(key, "%q: %s names %q, but no {application} stands in the role's name; put it there, or name the applications", role, list, a)
		}
	}
}

// template checks that values have known placeholders only.
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
