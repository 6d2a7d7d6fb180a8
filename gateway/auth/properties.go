package auth

import (
	"context"
	"crypto/rand"

	"tributary.io/gateway/access"
	"tributary.io/sdk-plugin/event"
)

// propertiesMethod checks credentials that each message carries. If it is in the chain of a
// listener, every PUBLISH of a device needs them, whichever method accepted the connection.
type propertiesMethod struct {
	auth     *Auth
	cfg      Properties
	secrets  []string
	accepted *cache[*access.Grant] // of credentials in messages
}

func newProperties(a *Auth, cfg Properties) *propertiesMethod {
	return &propertiesMethod{auth: a, cfg: cfg, secrets: []string{cfg.Key}, accepted: newCache[*access.Grant](cfg.CacheEntries, a.now)}
}

func (m *propertiesMethod) cacheHits() uint64 { return m.accepted.hits.Load() }

func (m *propertiesMethod) changed(change access.Change) {
	m.accepted.drop(func(g *access.Grant) bool { return change.Touches(g) })
}

// judge accepts a connection without credentials, which has no rights of its own. Its client
// id proves nothing, so another connection with the same client id is another principal.
func (m *propertiesMethod) judge(_ context.Context, c *access.Credentials) (*decision, error) {
	if m.cfg.Application == "" || c.Username != "" || c.HasPassword {
		return nil, errOther
	}
	g := stranger("properties", m.cfg.Application+"/"+c.ClientID+"/"+rand.Text())
	g.Application, g.Once = m.cfg.Application, true
	m.mark(g)
	return &decision{grant: g}, nil
}

// mark makes a grant require credentials in each message.
func (m *propertiesMethod) mark(g *access.Grant) {
	g.PerMessage, g.Secrets = true, m.secrets
}

// message checks the credentials of a message. They may be those of any device of the
// connection's application: a gateway device sends for others. Only successes are cached.
func (m *propertiesMethod) message(ctx context.Context, g *access.Grant, properties []event.Property) (*access.Grant, error) {
	device, ok1 := single(properties, m.cfg.Device)
	key, ok2 := single(properties, m.cfg.Key)
	if !ok1 || !ok2 || !plainName(device) || key == "" {
		return nil, notAuthorized("the message needs one user property " + m.cfg.Device + " and one " + m.cfg.Key)
	}
	digest := m.auth.digests.sum(g.Application, device, key, g.Names.ClientID)
	own, ok, mark := m.accepted.get(digest)
	if ok {
		if expired(own, m.auth) {
			return nil, notAuthorized("the credentials have expired")
		}
		return own, nil
	}
	found, err := m.auth.dir.DeviceKey(ctx, g.Application, device, []byte(key))
	if err != nil {
		return nil, wrongInMessage(err)
	}
	renamed := *found
	own = &renamed
	own.Method = "properties"
	own.Names = access.Placeholders{Application: own.Application, Device: own.Device, ClientID: g.Names.ClientID}
	fill(own)
	m.accepted.put(digest, mark, own, m.auth.now().Add(m.cfg.CacheTTL))
	return own, nil
}

func expired(g *access.Grant, a *Auth) bool { return !g.Expires.IsZero() && !a.now().Before(g.Expires) }

// wrongInMessage replaces event.BadUserNameOrPassword, which is no reason code of a PUBACK or
// PUBREC (MQTT 5.0 section 3.4.2.1).
func wrongInMessage(err error) error {
	if isBad(err) {
		return notAuthorized("the credentials in the message are wrong")
	}
	return err
}

// single returns the value of a property that occurs exactly once.
func single(properties []event.Property, name string) (value string, ok bool) {
	for i := range properties {
		if properties[i].Name == name {
			if ok {
				return "", false
			}
			value, ok = properties[i].Value, true
		}
	}
	return value, ok
}
