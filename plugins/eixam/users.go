package main

import (
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// user is a person, as an app knows it.
type user struct {
	id, app, external           string
	name, email, phone, address string
	created                     int64
	isNew                       bool   // nothing of it is stored yet
	stored                      string // the profile, as the state has it, until it is needed
}

// loadUser reads a user. The state has its app, its external id and its profile, a line
// each, since most events need the first two alone.
func loadUser(r *call, id string) (u user, ok bool) {
	text, ok := r.State(userKey(id))
	if !ok {
		return u, false
	}
	u.id = id
	u.app, u.external, _ = strings.Cut(sdk.Text(text), "\n")
	u.external, u.stored, _ = strings.Cut(u.external, "\n")
	return u, true
}

// unfold reads the rest of the profile.
func (u *user) unfold() {
	if u.stored == "" {
		return
	}
	v := sdk.ParseJSON([]byte(u.stored))
	for _, f := range u.fields() {
		*f.value, _ = v.Get(f.name).String()
	}
	u.created, _ = v.Get("created").Int()
	u.stored = ""
}

func (u *user) store(r *call) {
	w := r.Writer()
	w.Object()
	for _, f := range u.profile() {
		if *f.value != "" {
			w.Key(f.name).String(*f.value)
		}
	}
	w.Key("created").Int(u.created).End()
	r.Put(userKey(u.id), []byte(u.app+"\n"+u.external+"\n"+string(w.Bytes())), 0)
	if u.isNew {
		r.Put(extKey(u.app, u.external), []byte(u.id), 0)
		r.Put(usersKey(u.app, u.id), nil, 0)
		u.isNew = false
	}
}

// ensure stores a user that is new.
func (u *user) ensure(r *call) {
	if u.isNew {
		u.store(r)
	}
}

// field is a part of a profile that its user may set.
type field struct {
	name  string
	value *string
	most  int
	valid func(string) bool
}

// profile is what a user may say of itself.
func (u *user) profile() []field {
	u.unfold()
	return u.fields()
}

func (u *user) fields() []field {
	return []field{
		{"name", &u.name, 120, printable}, {"email", &u.email, 254, validEmail}, {"phone", &u.phone, 16, validPhone},
		{"address", &u.address, 255, printable},
	}
}

// validEmail is [^@]+@[^@]+\.[^@]+.
func validEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	dot := strings.LastIndexByte(domain, '.')
	return ok && printable(s) && local != "" && !strings.Contains(domain, "@") && dot > 0 && dot < len(domain)-1
}

// validPhone is ^\+[1-9]\d{7,14}$ (E.164).
func validPhone(s string) bool {
	digits, ok := strings.CutPrefix(s, "+")
	if !ok || len(digits) < 8 || len(digits) > 15 || digits[0] == '0' {
		return false
	}
	return strings.Trim(digits, "0123456789") == ""
}

func (u *user) write(w *sdk.Writer) {
	w.Object().Key("id").String(u.id).Key("external_user_id").String(u.external).Key("app_id").String(u.app)
	for _, f := range u.profile() {
		w.Key(f.name).String(*f.value)
	}
	w.End()
}

// sessionUser is the user whose credentials the gateway accepted for this event: the
// device is its UUID. A user of whom nothing is stored is new.
func sessionUser(r *call) (u user, ok bool) {
	id := r.Event.Device
	if !isUUID(id) {
		return u, false
	}
	if u, ok = loadUser(r, id); ok {
		return u, true
	}
	app, external, ok := splitUser(r.Transport.Username)
	if r.Transport.Protocol == "http" {
		app, external = header(r, "x-app-id"), header(r, "x-user-id")
		ok = plainID(app, maxApp) && validExternal(external)
	}
	if !ok || userID(r, app, external) != id {
		return u, false
	}
	return user{id: id, app: app, external: external, created: r.Now.UnixMilli(), isNew: true}, true
}

// activeUser is sessionUser of an app that is active.
func activeUser(r *call) (u user, ok bool) {
	if u, ok = sessionUser(r); !ok {
		return u, false
	}
	return u, isActive(r, u.app)
}
