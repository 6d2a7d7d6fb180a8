package access

import (
	"strings"
	"testing"
)

// No line of a log holds what proves who somebody is, whichever field it stands in.
func TestLoggedUsername(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkMSJ9.c2lnbmF0dXJl"
	for _, c := range []struct {
		what, username, password string
		want                     string // the whole text, or how a digest begins
	}{
		{what: "none"},
		{what: "a device", username: "d1@demo", password: "wrong", want: "d1@demo"},
		{what: "a device that sent no password", username: "d1@demo", want: "d1@demo"},
		{what: "an anonymous one", username: "@demo", want: "@demo"},
		{what: "a user", username: "alice", password: "wrong", want: "alice"},
		{what: "a token", username: token, want: "token:"},
		{what: "a token with a password", username: token, password: "x", want: "token:"},
		{what: "a token that was cut", username: token[:15], password: "x", want: "sha256:"},
		{what: "an opaque token", username: "A1B2C3D4E5F6G7H8I9J0", want: "sha256:"},
		{what: "a key in the wrong field", username: "trk_0123456789", password: "d1@demo", want: "sha256:"},
		{what: "a long name", username: strings.Repeat("x", 60_000), password: "x", want: "sha256:"},
		{what: "a name of many lines", username: "a\nlevel=ERROR\u202e@\xff", want: `a\nlevel=ERROR\u202e@\xff`},
	} {
		got := (&Credentials{Username: c.username, Password: []byte(c.password)}).LoggedUsername()
		secret := strings.HasSuffix(c.want, ":")
		if got != c.want && !(secret && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
		if secret && strings.Contains(got, c.username[len(c.username)-8:]) || len(got) > 800 {
			t.Errorf("%s: %q of %d bytes tells too much", c.what, got, len(got))
		}
	}
}
