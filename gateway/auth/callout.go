package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// The placeholders that the bodies of requests may have.
const (
	connectPlaceholders = "username clientid password peerhost peerport protocol listener cert_common_name cert_subject"
	aclPlaceholders     = "username clientid application device action access topic qos retain"
)

// calloutMethod asks a web service, with the protocol of EMQX's HTTP authenticator and
// authorizer: the member "result" of the response is allow, deny or ignore.
type calloutMethod struct {
	auth  *Auth
	name  string // http.<name>
	cfg   HTTP
	hc    *http.Client
	slots chan struct{} // holds one element for each request in progress
	took  metric.Histogram

	connects *cache[*answer]
	topics   *cache[topicAnswer]
}

// topicAnswer is the service's decision about a topic.
type topicAnswer struct {
	grant *access.Grant // of the client that the decision is about
	allow bool
}

func newCallout(a *Auth, name string, cfg HTTP) (*calloutMethod, error) {
	if len(cfg.Body) == 0 {
		cfg.Body = defaultBody()
	}
	if len(cfg.ACLBody) == 0 {
		cfg.ACLBody = defaultACLBody()
	}
	hc, err := newClient(cfg.TLS, cfg.Timeout, cfg.MaxConcurrent)
	if err != nil {
		return nil, err
	}
	return &calloutMethod{auth: a, name: "http." + name, cfg: cfg, hc: hc, slots: make(chan struct{}, cfg.MaxConcurrent),
		connects: newCache[*answer](cfg.CacheEntries, a.now), topics: newCache[topicAnswer](cfg.CacheEntries, a.now)}, nil
}

func (m *calloutMethod) latency() *metric.Histogram { return &m.took }
func (m *calloutMethod) cacheHits() uint64          { return m.connects.hits.Load() + m.topics.hits.Load() }

// changed deletes all answers about connections, since they do not say which client they are
// about, and the answers about topics of the clients that the change touches.
func (m *calloutMethod) changed(change access.Change) {
	m.connects.drop(func(*answer) bool { return true })
	m.topics.drop(func(t topicAnswer) bool { return change.Touches(t.grant) })
}

// judge asks about a connection that presents any credentials.
func (m *calloutMethod) judge(ctx context.Context, c *access.Credentials) (*decision, error) {
	if c.Username == "" && !c.HasPassword && len(c.Certificates) == 0 {
		return nil, errOther
	}
	body := m.body(m.cfg.Body, func(name string) string { return connectValue(c, name) })
	key := m.auth.digests.sum(string(body), c.ClientID, c.Username, string(c.Password))
	a, ok, mark := m.connects.get(key)
	if !ok {
		var err error
		if a, err = m.askConnect(ctx, body); err != nil {
			return nil, err
		}
		ttl := m.cfg.CacheTTL
		if a.Result != "allow" {
			ttl = m.cfg.CacheDenyTTL
		}
		m.connects.put(key, mark, a, earlier(m.auth.now().Add(ttl), a.expires))
	}
	return m.decide(ctx, a, c)
}

// connectValue returns the value of a placeholder in a request about a connection.
func connectValue(c *access.Credentials, name string) string {
	switch name {
	case "username":
		return c.Username
	case "clientid":
		return c.ClientID
	case "password":
		return string(c.Password)
	case "peerhost":
		return c.Peer.Addr().Unmap().String()
	case "peerport":
		return strconv.Itoa(int(c.Peer.Port()))
	case "protocol":
		return c.Protocol
	case "listener":
		return c.Listener
	}
	if len(c.Certificates) == 0 {
		return ""
	}
	if name == "cert_subject" {
		return c.Certificates[0].Subject.String()
	}
	return c.Certificates[0].Subject.CommonName
}

// decide turns an answer into a decision.
func (m *calloutMethod) decide(ctx context.Context, a *answer, c *access.Credentials) (*decision, error) {
	switch {
	case a.Result == "ignore":
		return nil, refusedCredentials()
	case a.Result == "deny":
		return nil, notAuthorized("the connection is not allowed")
	case !a.expires.IsZero() && !m.auth.now().Before(a.expires):
		return nil, refusedCredentials()
	}
	d := &decision{username: c.Username, expires: a.expires, ask: m.cfg.ACLURL != "" && !a.Superuser}
	device := a.Attributes["device"]
	if device == "" {
		device = expand(m.cfg.Device, func(name string) string { return connectValue(c, name) })
	}
	by := m.name + "/" + c.Username
	if device == "" {
		d.grant = stranger(m.name, c.Username)
		d.grant.Read, d.grant.Write = m.cfg.Read, m.cfg.Write
		return d, nil
	}
	d.credential = by
	g, err := m.auth.vouch(ctx, by, &m.cfg.Realm, a.Attributes["application"], device)
	if err != nil {
		return nil, err
	}
	d.grant = g
	switch {
	case a.Superuser:
		d.fixed, d.publish, d.subscribe = true, []string{"#"}, []string{"#"}
		super := *g
		super.Read, super.Write = m.cfg.Read, m.cfg.Write
		d.grant = &super
	case a.rules:
		d.fixed, d.publish, d.subscribe = true, a.publish, a.subscribe
	}
	return d, nil
}

// askConnect asks the service about a connection.
func (m *calloutMethod) askConnect(ctx context.Context, body []byte) (*answer, error) {
	status, content, err := m.post(ctx, m.cfg.URL, body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking %s about a connection: %w", m.name, err)
	case status >= 400 && status < 500: // EMQX also takes it as ignore
		return &answer{Result: "ignore"}, nil
	case status != http.StatusOK && status != http.StatusNoContent:
		return nil, fmt.Errorf("asking %s about a connection: it answered with status %d", m.name, status)
	}
	a, err := parseAnswer(content)
	if err != nil {
		return nil, fmt.Errorf("asking %s about a connection: %w", m.name, err)
	}
	return a, nil
}

// authorize asks about one topic. If there is no valid answer, it refuses.
func (m *calloutMethod) authorize(ctx context.Context, g *access.Grant, act access.Action, topic string, qos byte, retain bool) error {
	body := m.body(m.cfg.ACLBody, func(name string) string { return aclValue(g, name, act, topic, qos, retain) })
	key := m.auth.digests.sum("acl", string(body), g.Principal)
	t, ok, mark := m.topics.get(key)
	if !ok {
		var err error
		if t.allow, err = m.askTopic(ctx, body); err != nil {
			m.auth.log.Warn("a topic is refused, since the service gave no answer about it", "method", m.name, "principal",
				g.Principal, "error", err)
			return &stage.Error{Code: event.NotAuthorized, Reason: "the service that decides about topics does not answer"}
		}
		t.grant = g
		ttl := m.cfg.CacheTTL
		if !t.allow {
			ttl = m.cfg.CacheDenyTTL
		}
		m.topics.put(key, mark, t, m.auth.now().Add(ttl))
	}
	if !t.allow {
		return notAuthorized("the topic is not allowed")
	}
	return nil
}

// aclValue returns the value of a placeholder in a request about a topic.
func aclValue(g *access.Grant, name string, act access.Action, topic string, qos byte, retain bool) string {
	switch name {
	case "username":
		return g.Names.Username
	case "clientid":
		return g.Names.ClientID
	case "application":
		return g.Application
	case "device":
		return g.Device
	case "action":
		return act.String()
	case "access": // as EMQX 4 and NanoMQ number actions
		if act == access.Subscribe {
			return "1"
		}
		return "2"
	case "topic":
		return topic
	case "qos":
		return strconv.Itoa(int(qos))
	}
	return strconv.FormatBool(retain)
}

// askTopic reports whether the service allows a topic. The answer "ignore" allows it too,
// since the grant already does.
func (m *calloutMethod) askTopic(ctx context.Context, body []byte) (bool, error) {
	status, content, err := m.post(ctx, m.cfg.ACLURL, body)
	switch {
	case err != nil:
		return false, err
	case status >= 400 && status < 500:
		return false, nil
	case status != http.StatusOK && status != http.StatusNoContent:
		return false, fmt.Errorf("it answered with status %d", status)
	}
	a, err := parseAnswer(content)
	return err == nil && a.Result != "deny", err
}

// body encodes the members of a request.
func (m *calloutMethod) body(members map[string]string, value func(name string) string) []byte {
	filled := make(map[string]string, len(members))
	form := make(url.Values, len(members))
	for name, template := range members {
		filled[name] = expand(template, value)
		form.Set(name, filled[name])
	}
	if m.cfg.Encoding == "form" {
		return []byte(form.Encode())
	}
	out, _ := json.Marshal(filled) // a map of strings can always be encoded
	return out
}

// post sends a request as soon as fewer than MaxConcurrent are in progress, within the timeout.
func (m *calloutMethod) post(ctx context.Context, to string, body []byte) (status int, content []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return 0, nil, fmt.Errorf("waiting for one of %d requests to end: %w", m.cfg.MaxConcurrent, ctx.Err())
	}
	begin := time.Now()
	defer func() { m.took.Observe(time.Since(begin)) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, nil, errors.New("the URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	if m.cfg.Encoding == "form" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Accept", "application/json")
	for name, value := range m.cfg.Headers {
		req.Header.Set(name, value)
	}
	resp, err := m.hc.Do(req)
	if err != nil {
		var outer *url.Error // its text contains the URL, which may contain a secret
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	content, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(content) > maxAnswer {
		err = fmt.Errorf("it answered with more than %d bytes", maxAnswer)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && resp.StatusCode == http.StatusOK &&
		len(bytes.TrimSpace(content)) > 0 && kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		err = fmt.Errorf("it answered with content of type %q and not application/json", kind)
	}
	return resp.StatusCode, content, err
}
