package access

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// IsToken reports whether a text has the form of a signed JWT (RFC 7515 section 7.1):
// three parts in base64url, the first of which is an object.
func IsToken(s string) bool {
	if !strings.HasPrefix(s, "eyJ") || strings.Count(s, ".") != 2 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
}

// PublicName returns a user name in the form that logs, events and stored sessions may hold.
// A client may send its token as the user name. A token, and what looks like one, is replaced
// by a short digest, so that an operator can still see which log lines are about the same token.
func PublicName(username string) string {
	if !strings.HasPrefix(username, "eyJ") || !strings.Contains(username, ".") {
		return username
	}
	digest := sha256.Sum256([]byte(username))
	return "token:" + hex.EncodeToString(digest[:6])
}
