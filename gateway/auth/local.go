package auth

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	"tributary.io/gateway/access"
)

// The methods of what the registry itself keeps.
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

// A certificate is of this kind only where the registry has it: else the others
// that a client presents are tried.
func (m fingerprintMethod) judge(_ context.Context, c *access.Credentials) (*decision, error) {
	if len(c.Certificates) == 0 {
		return nil, errOther
	}
	leaf := c.Certificates[0]
	if !m.now().Before(leaf.NotAfter) { // each request of a connection is judged, TLS judged its beginning
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

// proven makes a decision of what the directory answered to a user name.
func proven(username string) func(*access.Grant, error) (*decision, error) {
	return func(g *access.Grant, err error) (*decision, error) {
		if err != nil {
			return nil, err
		}
		return &decision{grant: g, username: username}, nil
	}
}
