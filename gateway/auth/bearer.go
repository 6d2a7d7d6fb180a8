package auth

import (
	"context"
	"strings"

	"tributary.io/gateway/access"
)

// bearerName is the SASL mechanism of RFC 7628.
const bearerName = "OAUTHBEARER"

// bearerExchange is an OAUTHBEARER authentication, which has one step. A client whose token
// is about to expire sends the next one in this way, on the same connection.
type bearerExchange struct {
	ctx         context.Context // of the exchange
	chain       *Chain
	credentials *access.Credentials
	over        bool
}

// Next implements access.Exchange. Where RFC 7628 has the server send an error status, the
// reason code of the refusal takes its place.
func (e *bearerExchange) Next(data []byte) ([]byte, *access.Grant, error) {
	if e.over {
		return nil, nil, refusedCredentials()
	}
	e.over = true
	token, ok := parseBearer(string(data))
	if !ok || !isToken(token) {
		return nil, nil, refusedCredentials()
	}
	c := *e.credentials
	c.Username, c.HasUsername, c.Password, c.HasPassword = "", false, []byte(token), true
	g, err := e.chain.first(e.ctx, &c, func(l link) bool {
		_, ok := l.method.(*oidcMethod)
		return ok
	})
	return nil, g, err
}

// parseBearer parses an initial client response (RFC 7628 section 3.1):
// gs2-header kvsep *kvpair kvsep, with kvsep 0x01.
func parseBearer(s string) (token string, ok bool) {
	header, rest, found := strings.Cut(s, "\x01")
	if !found || len(s) > maxToken || !validGS2(header) {
		return "", false
	}
	pairs, found := strings.CutSuffix(rest, "\x01\x01")
	if !found {
		return "", false
	}
	for pair := range strings.SplitSeq(pairs, "\x01") {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return "", false
		}
		if key == "auth" {
			scheme, t, found := strings.Cut(value, " ")
			if !found || token != "" || !strings.EqualFold(scheme, "Bearer") {
				return "", false
			}
			token = strings.TrimSpace(t)
		}
	}
	return token, token != ""
}

// validGS2 reports whether header is a gs2-header (RFC 5801 section 4) without channel binding. Its
// authorization identity is ignored: the token says who the client is.
func validGS2(header string) bool {
	parts := strings.Split(header, ",")
	return len(parts) == 3 && (parts[0] == "n" || parts[0] == "y") && parts[2] == "" &&
		(parts[1] == "" || strings.HasPrefix(parts[1], "a="))
}
