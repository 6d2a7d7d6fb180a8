package auth

import (
	"context"
	"fmt"
	"strings"

	"tributary.io/gateway/access"
)

// vouch returns what a device may do that an authority named, within its realm.
// An empty application is the realm's only one.
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

// stranger is the grant of somebody whom only the method itself knows.
func stranger(method, name string) *access.Grant {
	who := method + "/" + name
	return &access.Grant{Principal: who, Namespace: who}
}
