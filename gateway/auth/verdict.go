package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"tributary.io/gateway/access"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// verdictMethod has a plugin check the credentials of connections.
type verdictMethod struct {
	auth   *Auth
	name   string // plugin.<plugin>
	plugin string
	cfg    Plugin
	judges Judge
	took   metric.Histogram
	cached *cache[verdict]
}

// verdict is what a plugin decided.
type verdict struct {
	effect event.Effect // *event.Allow or *event.Deny
	holds  func() bool  // reports whether the state that it depends on is unchanged
}

func newVerdicts(a *Auth, name string, cfg Plugin, judge Judge) *verdictMethod {
	return &verdictMethod{auth: a, name: "plugin." + name, plugin: name, cfg: cfg, judges: judge,
		cached: newCache[verdict](cfg.CacheEntries, a.now)}
}

func (m *verdictMethod) latency() *metric.Histogram { return &m.took }
func (m *verdictMethod) cacheHits() uint64          { return m.cached.hits.Load() }

// changed deletes all verdicts: a plugin's decision can depend on anything.
func (m *verdictMethod) changed(access.Change) {
	m.cached.drop(func(verdict) bool { return true })
}

func (m *verdictMethod) judge(ctx context.Context, c *access.Credentials) (*decision, error) {
	if m.judges == nil {
		return nil, errors.New("there is no plugin to ask")
	}
	in := connectEvent(c, m.auth.now())
	if len(c.Properties) > 0 { // the verdict may depend on them, and they are no part of the cache's key
		v, err := m.ask(ctx, in)
		if err != nil {
			return nil, err
		}
		return m.decide(ctx, v.effect, c)
	}
	key := m.auth.digests.sum(string(in.Event.Data), in.Transport.Protocol)
	v, ok, mark := m.cached.get(key)
	if !ok || !v.holds() {
		var err error
		if v, err = m.ask(ctx, in); err != nil {
			return nil, err
		}
		m.cached.put(key, mark, v, m.until(v.effect))
	}
	return m.decide(ctx, v.effect, c)
}

func (m *verdictMethod) ask(ctx context.Context, in *event.Inbound) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	begin := time.Now()
	effect, holds, err := m.judges.Judge(ctx, m.plugin, in)
	m.took.Observe(time.Since(begin))
	if err != nil {
		return verdict{}, fmt.Errorf("asking the plugin %s about a connection: %w", m.plugin, err)
	}
	return verdict{effect, holds}, nil
}

func (m *verdictMethod) until(effect event.Effect) time.Time {
	if a, ok := effect.(*event.Allow); ok {
		return earlier(m.auth.now().Add(m.cfg.CacheTTL), a.Expires)
	}
	return m.auth.now().Add(m.cfg.CacheDenyTTL)
}

// decide turns a verdict into a decision. If the plugin gives topic filters, they replace
// those of the registry.
func (m *verdictMethod) decide(ctx context.Context, effect event.Effect, c *access.Credentials) (*decision, error) {
	a, ok := effect.(*event.Allow)
	if !ok {
		if d, denied := effect.(*event.Deny); denied {
			return nil, denial(d)
		}
		return nil, fmt.Errorf("the plugin %s answered with neither allow nor deny", m.plugin)
	}
	if !a.Expires.IsZero() && !m.auth.now().Before(a.Expires) {
		return nil, refusedCredentials()
	}
	d := &decision{username: c.Username, credential: m.name + "/" + a.Identity, expires: a.Expires}
	if a.Device == "" {
		if a.Identity == "" {
			return nil, fmt.Errorf("the plugin %s allowed nobody: neither device nor identity", m.plugin)
		}
		d.grant = stranger(m.name, a.Identity)
		return d, nil
	}
	g, err := m.auth.vouch(ctx, d.credential, &m.cfg.Realm, a.Application, a.Device)
	if err != nil {
		return nil, err
	}
	d.grant = g
	d.once = a.Once
	if len(a.Publish)+len(a.Subscribe) > 0 {
		d.fixed, d.publish, d.subscribe = true, a.Publish, a.Subscribe
	}
	return d, nil
}

// denial is a refusal as the client gets it, without the plugin's reason, which may tell too much.
func denial(d *event.Deny) *stage.Error {
	e := notAuthorized("the connection is not allowed")
	switch d.Code {
	case event.BadUserNameOrPassword:
		e = refusedCredentials()
	case event.ServerUnavailable, event.Banned, event.QuotaExceeded:
		e.Code = d.Code
	}
	e.Name = d.Name
	return e
}

// connectData is the data of a connect event.
type connectData struct {
	Listener       string           `json:"listener"`
	ClientID       string           `json:"clientId"`
	Username       string           `json:"username,omitempty"`
	Password       *string          `json:"password,omitempty"`       // if it is UTF-8
	PasswordBase64 []byte           `json:"passwordBase64,omitempty"` // otherwise
	PeerHost       string           `json:"peerHost"`
	Secure         bool             `json:"secure"`
	Certificate    *certificateData `json:"certificate,omitempty"` // of TLS, verified
}

type certificateData struct {
	Subject     string   `json:"subject"`
	CommonName  string   `json:"commonName"`
	Issuer      string   `json:"issuer"`
	DNSNames    []string `json:"dnsNames,omitempty"`
	Fingerprint string   `json:"fingerprint"` // SHA-256
	Serial      string   `json:"serial"`      // hexadecimal
}

// connectEvent returns the event with the credentials for a plugin. It must be neither stored
// nor logged.
func connectEvent(c *access.Credentials, now time.Time) *event.Inbound {
	d := connectData{Listener: c.Listener, ClientID: c.ClientID, Username: c.Username,
		PeerHost: c.Peer.Addr().Unmap().String(), Secure: c.Secure}
	if c.HasPassword {
		if s := string(c.Password); utf8.ValidString(s) {
			d.Password = &s
		} else {
			d.PasswordBase64 = c.Password
		}
	}
	if len(c.Certificates) > 0 {
		leaf := c.Certificates[0]
		sum := sha256.Sum256(leaf.Raw)
		d.Certificate = &certificateData{leaf.Subject.String(), leaf.Subject.CommonName, leaf.Issuer.String(),
			leaf.DNSNames, hex.EncodeToString(sum[:]), leaf.SerialNumber.Text(16)}
	}
	data, _ := json.Marshal(d) // strings can always be encoded
	var id [16]byte
	rand.Read(id[:]) // never returns an error
	return &event.Inbound{
		Event: event.Event{ID: hex.EncodeToString(id[:]), Source: "/listeners/" + c.Listener, Type: event.TypeConnect,
			Time: now.UTC(), DataContentType: "application/json", Data: data, Text: true},
		Transport: event.Transport{Protocol: c.Protocol, ClientID: c.ClientID, Username: c.Username,
			Peer: c.Peer.String(), Properties: c.Properties},
	}
}
