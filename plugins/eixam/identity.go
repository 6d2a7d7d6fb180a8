package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// Bounds of the names that apps and users go by.
const (
	maxApp      = 64
	maxExternal = 256
)

// app is a customer of the platform.
type app struct {
	id, name, secret string
	active           bool
	actuators        []string
	created          int64
}

// loadApp reads an app. The first line of what the state has of it says whether it is
// active, which most events need alone.
func loadApp(r *call, id string) (a app, ok bool) {
	if !plainID(id, maxApp) {
		return a, false
	}
	text, ok := r.State(appKey(id))
	if !ok {
		return a, false
	}
	state, doc, _ := strings.Cut(sdk.Text(text), "\n")
	v := r.Parse([]byte(doc))
	a.id, a.active = id, state == "active"
	a.name, _ = v.Get("name").String()
	a.secret, _ = v.Get("secret").String()
	a.created, _ = v.Get("created").Int()
	for kind := range v.Get("actuators").Elements() {
		text, _ := kind.String()
		a.actuators = append(a.actuators, text)
	}
	return a, true
}

func (a *app) store(r *call) {
	w := r.Writer()
	w.Object().Key("name").String(a.name).Key("secret").String(a.secret).Key("created").Int(a.created)
	w.Key("actuators").Array()
	for _, kind := range a.actuators {
		w.String(kind)
	}
	state := "active\n"
	if !a.active {
		state = "inactive\n"
	}
	r.Put(appKey(a.id), []byte(state+string(w.End().End().Bytes())), 0)
}

// isActive says whether there is an app, and it is active. It reads no more than that.
func isActive(r *call, id string) bool {
	text, ok := r.State(appKey(id))
	return ok && strings.HasPrefix(sdk.Text(text), "active\n")
}

// sign is the user hash: what an app's back end gives its user to prove who it is.
func sign(secret, external string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(external))
	return hex.EncodeToString(mac.Sum(nil))
}

// proves says whether a hash is the user's. It takes as long for a wrong one.
func (a *app) proves(external, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(sign(a.secret, external)), []byte(hash)) == 1 && a.secret != ""
}

// derived makes a secret text of the plugin's own: random numbers in a plugin can be
// told from the event's id. Without the setting link_secret there is none.
func derived(r *call, purpose string) string {
	mac := hmac.New(sha256.New, []byte(setting(r, "link_secret")))
	mac.Write([]byte(purpose))
	return hex.EncodeToString(mac.Sum(nil)[:24])
}

// splitUser takes the user name of an SDK user apart: sdk:<app>:<external id>, of
// which the last may hold colons.
func splitUser(name string) (app, external string, ok bool) {
	rest, ok := strings.CutPrefix(name, "sdk:")
	if !ok {
		return "", "", false
	}
	app, external, ok = strings.Cut(rest, ":")
	return app, external, ok && plainID(app, maxApp) && validExternal(external)
}

func validExternal(s string) bool { return s != "" && len(s) <= maxExternal && printable(s) }

// printable says that a text is UTF-8 without control characters.
func printable(s string) bool {
	return strings.ToValidUTF8(s, "") == s && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' })
}

// plainID says whether s can stand in a key and a path: letters, digits, . _ and -.
func plainID(s string, most int) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return s != "" && len(s) <= most
}

// userID is the UUID of a user: what the state says, or for one that is new, a UUID of
// its names (RFC 9562 version 8). So a client may connect before anything was stored
// of it, and whoever asks first gets the same answer.
func userID(r *call, app, external string) string {
	if id, ok := r.State(extKey(app, external)); ok {
		return string(id)
	}
	sum := sha256.Sum256([]byte("eixam user\x00" + app + "\x00" + external))
	return uuidOf(sum[:16], 8)
}

// newUUID makes a UUID that is no secret: of the event, and of what it is for.
func newUUID(r *call, purpose string) string {
	sum := sha256.Sum256([]byte(r.Event.ID + "\x00" + purpose + "\x00" + r.Event.Source))
	return uuidOf(sum[:16], 8)
}

func uuidOf(b []byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	text := hex.EncodeToString(b)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

// isUUID says whether s has the form of a UUID, in any case.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

// escape percent-encodes a text as one segment of a topic or path (RFC 3986).
func escape(s string) string {
	const hex, marks = "0123456789ABCDEF", "-._~"
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(marks, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
