package auth

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	"tributary.io/gateway/access"
)

// The methods for credentials that the registry keeps.
type (
	passwordMethod    struct{ dir Directory }
	keyMethod         struct{ dir Directory }
	fingerprintMethod struct {
		dir Directory
		now func() time.Time
	}
	anonymousMethod struct{ dir Directory }
)

func (m passwordMethod) judge(ctx context.Context, c *access.Credentials) (*decision, error) {
	if c.Username == "" || !c.HasPassword {
		return nil, errOther
	}
	return proven(c.Username)(m.dir.Login(ctx, c.Username, c.Password))
}

func (m keyMethod) judge(ctx context.Context, c *access.Credentials) (*decision, error) {
	if c.Username == "" || !c.HasPassword {
		return nil, errOther
	}
	return proven(c.Username)(m.dir.Key(ctx, c.Username, c.Password))
}

// judge accepts a certificate that is registered. For any other certificate the next methods
// are tried with the rest of the credentials.
func (m fingerprintMethod) judge(_ context.Context, c *access.Credentials) (*decision, error) {
	if len(c.Certificates) == 0 {
		return nil, errOther
	}
	leaf := c.Certificates[0]
	if !m.now().Before(leaf.NotAfter) { // TLS checked it at the start of the connection, which may have many requests
		return nil, refusedCredentials()
	}
	d, err := proven("")(m.dir.Certificate(sha256.Sum256(leaf.Raw)))
	if err == nil {
		d.expires = leaf.NotAfter
	}
	return d, err
}

func (m anonymousMethod) judge(_ context.Context, c *access.Credentials) (*decision, error) {
	if c.HasPassword || c.Username != "" && !strings.HasPrefix(c.Username, "@") {
		return nil, errOther
	}
	return proven("")(m.dir.Anonymous(c))
}

// proven turns the directory's answer about a user name into a decision.
func proven(username string) func(*access.Grant, error) (*decision, error) {
	return func(g *access.Grant, err error) (*decision, error) {
		if err != nil {
			return nil, err
		}
		return &decision{grant: g, username: username}, nil
	}
}
