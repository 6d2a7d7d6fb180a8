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

// keysAge is how long the keys of a provider are used before it is asked again,
// so that a key that it withdrew ends. Where it does not answer then, they go on.
const keysAge = time.Hour

// fetchBurst requests to a provider may follow each other, and after them one in
// fetchInterval: tokens with made-up key ids must not make a flood of requests.
const (
	fetchBurst    = 5
	fetchInterval = 10 * time.Second
)

// provider knows the keys of an OpenID Connect provider. It asks when the first
// token comes, so that it may be down when the gateway starts, and again when a
// token names a key that is not there.
type provider struct {
	name    string
	cfg     OIDC
	client  *http.Client
	now     func() time.Time
	log     *slog.Logger
	latency metric.Histogram
	// algorithms are what a token may be signed with.
	algorithms []jose.SignatureAlgorithm

	current atomic.Pointer[keySet] // nil: none yet

	turn    chan struct{} // held by who asks the provider; guards the rest
	url     string        // of the keys; empty: not discovered
	allowed float64       // requests
	counted time.Time     // when allowed was reckoned
	failure error         // of the last request
}

// keySet is the keys as they once were fetched.
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

// keys returns keys that are not too old, where the provider gives them.
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

// errOften says that the provider was asked often enough lately.
var errOften = errors.New("the provider is not asked again yet")

// fetch returns keys that are newer than those that were not enough. An error
// other than errOften says that the provider did not answer.
func (p *provider) fetch(ctx context.Context, than *keySet) (*keySet, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if k := p.current.Load(); k != than {
		return k, nil // somebody else fetched them while we waited
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
	// The answer serves everybody, so it does not end with who asked first.
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

// ask fetches the keys, after their place where that is not known.
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
		p.url = "" // perhaps it moved
		return nil, err
	}
	return parseKeys(body)
}

// discover returns where the provider has its keys (OpenID Connect Discovery 1.0
// section 4).
func (p *provider) discover(ctx context.Context) (string, error) {
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	var other *oidc.IssuerMismatchError
	if errors.As(err, &other) { // section 4.3
		return "", fmt.Errorf("the provider calls itself %.200q; spell issuer exactly so", other.Discovered)
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

// get returns the body of an answer.
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

// parseKeys reads a JSON Web Key Set (RFC 7517 section 5). Keys of unknown kinds,
// secret keys and those for encryption are left out.
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

// errSignature says that none of the provider's keys signed a token.
var errSignature = errors.New("no key of the provider signed this token")

// tokenKeys is the provider's keys for one token. It implements oidc.KeySet.
type tokenKeys struct {
	*provider
	// failure is why the provider does not tell its keys; the verifier's error does
	// not let this be told from a wrong token.
	failure error
}

// VerifySignature returns the payload of a token that one of the keys signed.
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

// try returns the payload when a key signed the token, errSignature when the key
// that it names did not, and errUnknown when there is no such key.
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
