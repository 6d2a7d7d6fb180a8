package auth

import (
	"context"
	"fmt"
	"strings"

	"tributary.io/gateway/access"
)

// vouch returns the grant of a device that an authority vouched for, and refuses one outside
// the authority's realm. An empty application means the only one of the realm.
func (a *Auth) vouch(ctx context.Context, by string, r *Realm, application, device string) (*access.Grant, error) {
	if application == "" && len(r.Applications) == 1 && !strings.HasSuffix(r.Applications[0], "*") {
		application = r.Applications[0]
	}
	if !plainName(application) || !plainName(device) || !access.MatchAnyName(r.Applications, application) {
		return nil, refusedCredentials()
	}
	g, err := a.dir.Vouch(application, device)
	if !r.Enroll || !isBad(err) {
		return g, err
	}
	if err := a.dir.Enroll(ctx, application, device, by); err != nil {
		return nil, fmt.Errorf("registering a device for which %s vouches: %w", by, err)
	}
	return a.dir.Vouch(application, device)
}

// stranger returns a grant without rights for a client that the registry does not know.
func stranger(method, name string) *access.Grant {
	who := method + "/" + name
	return &access.Grant{Principal: who, Namespace: who}
}
