package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"tributary.io/gateway/metric"
)

// keysAge is how long the keys of a provider are used before they are fetched again, so that
// a key that the provider withdrew ends. If the provider does not answer, the old keys stay.
const keysAge = time.Hour

// fetchBurst requests to a provider may follow each other, then one in each fetchInterval:
// tokens with invented key ids must not cause a flood of requests.
const (
	fetchBurst    = 5
	fetchInterval = 10 * time.Second
)

// provider holds the keys of an OpenID Connect provider. It fetches them when the first token
// comes, so that the provider may be down when the gateway starts, and again when a token
// names an unknown key.
type provider struct {
	name    string
	cfg     OIDC
	client  *http.Client
	now     func() time.Time
	log     *slog.Logger
	latency metric.Histogram
	// algorithms are the accepted signature algorithms.
	algorithms []jose.SignatureAlgorithm

	current atomic.Pointer[keySet] // nil: none yet

	turn    chan struct{} // a lock that ctx can interrupt; guards the fields below
	url     string        // of the keys; empty: not discovered
	allowed float64       // number of requests that may follow at once
	counted time.Time     // when allowed was computed
	failure error         // of the last request
}

// keySet is the keys of one fetch.
type keySet struct {
	keys    []jose.JSONWebKey
	fetched time.Time
}

func newProvider(name string, cfg OIDC, client *http.Client, now func() time.Time, log *slog.Logger) *provider {
	client.Transport = bounded{client.Transport}
	p := &provider{name: name, cfg: cfg, client: client, now: now, log: log, turn: make(chan struct{}, 1), allowed: fetchBurst, counted: now()}
	for _, a := range cfg.Algorithms {
		p.algorithms = append(p.algorithms, jose.SignatureAlgorithm(a))
	}
	return p
}

// keys returns keys that are no older than keysAge, or old ones if the provider does not answer.
func (p *provider) keys(ctx context.Context) (*keySet, error) {
	k := p.current.Load()
	if k != nil && p.now().Sub(k.fetched) < keysAge {
		return k, nil
	}
	newer, err := p.fetch(ctx, k)
	if err != nil && k != nil {
		return k, nil
	}
	return newer, err
}

// errOften says that the provider may not be asked again yet.
var errOften = errors.New("the provider is not asked again yet")

// fetch returns newer keys than the given ones, which may be nil. An error other than errOften
// says that the provider did not answer.
func (p *provider) fetch(ctx context.Context, than *keySet) (*keySet, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if k := p.current.Load(); k != than {
		return k, nil // another goroutine fetched them meanwhile
	}
	now := p.now()
	p.allowed = min(fetchBurst, p.allowed+now.Sub(p.counted).Seconds()/fetchInterval.Seconds())
	p.counted = now
	if p.allowed < 1 {
		if p.failure != nil {
			return nil, p.failure
		}
		return nil, errOften
	}
	p.allowed--
	begin := time.Now()
	// The answer serves all clients, so it must not end with the first one's connection.
	keys, err := p.ask(context.WithoutCancel(ctx))
	p.latency.Observe(time.Since(begin))
	if err != nil {
		err = fmt.Errorf("asking the identity provider %s for its keys: %w", p.cfg.Issuer, err)
	} else if p.failure != nil {
		p.log.Info("the identity provider answers again", "method", p.name)
	}
	p.failure = err
	if err != nil {
		return nil, err
	}
	k := &keySet{keys: keys, fetched: now}
	p.current.Store(k)
	return k, nil
}

// ask fetches the keys, and before that their URL if it is unknown.
func (p *provider) ask(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	if p.url == "" {
		url, err := p.discover(ctx)
		if err != nil {
			return nil, err
		}
		p.url = url
	}
	body, err := p.get(ctx, p.url)
	if err != nil {
		p.url = "" // the URL may have changed
		return nil, err
	}
	return parseKeys(body)
}

// discover returns the URL of the provider's keys (OpenID Connect Discovery 1.0 section 4).
func (p *provider) discover(ctx context.Context) (string, error) {
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	var other *oidc.IssuerMismatchError
	if errors.As(err, &other) { // section 4.3
		return "", fmt.Errorf("the provider calls itself %.200q; set issuer to exactly this", other.Discovered)
	}
	if err != nil {
		return "", err
	}
	var meta struct {
		Keys string `json:"jwks_uri"`
	}
	if err := found.Claims(&meta); err != nil {
		return "", err
	}
	u, err := url.Parse(meta.Keys)
	if err != nil || u.Host == "" || u.Scheme != "https" && !strings.HasPrefix(p.cfg.Issuer, "http://") {
		return "", fmt.Errorf("the provider's jwks_uri %.200q is no https URL", meta.Keys)
	}
	return meta.Keys, nil
}

// get returns the body of a response.
func (p *provider) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// parseKeys parses a JSON Web Key Set (RFC 7517 section 5). It leaves out keys of unknown
// types, secret keys, and keys for encryption.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the answer is no JSON Web Key Set")
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && k.Valid() && k.IsPublic() && k.Use != "enc" {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// errSignature says that no key of the provider signed a token.
var errSignature = errors.New("no key of the provider signed this token")

// tokenKeys is the provider's keys for verifying one token. It implements oidc.KeySet.
type tokenKeys struct {
	*provider
	// failure is the error of fetching keys. In the verifier's error it could not be told
	// from a wrong token.
	failure error
}

// VerifySignature returns the payload of a token if one of the keys signed it.
func (t *tokenKeys) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, t.algorithms)
	if err != nil {
		return nil, err
	}
	keys, err := t.keys(ctx)
	if err != nil {
		t.failure = err
		return nil, err
	}
	payload, err := keys.try(jws)
	if !errors.Is(err, errUnknown) {
		return payload, err
	}
	newer, err := t.fetch(ctx, keys)
	switch {
	case errors.Is(err, errOften):
		return nil, errSignature
	case err != nil:
		t.failure = err
		return nil, err
	}
	return newer.try(jws)
}

// errUnknown says that a newer key may be needed.
var errUnknown = errors.New("no key has this id")

// try returns the payload if a key signed the token, errSignature if the key that the token
// names did not, and errUnknown if there is no such key.
func (k *keySet) try(jws *jose.JSONWebSignature) ([]byte, error) {
	h, result := jws.Signatures[0].Header, errUnknown // a compact token has one
	for i := range k.keys {
		key := &k.keys[i]
		if h.KeyID != "" && key.KeyID != h.KeyID || key.Algorithm != "" && key.Algorithm != h.Algorithm {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
		if h.KeyID != "" {
			result = errSignature
		}
	}
	return nil, result
}
