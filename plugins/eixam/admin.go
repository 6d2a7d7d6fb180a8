package main

import (
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// adminPath answers /v1/admin…: what the vendor's console does.
func adminPath(r *call, parts []string) error {
	switch {
	case parts[0] == "edges" && len(parts) == 2:
		return edgePath(r, parts[1])
	case parts[0] != "apps":
		return nothingHere(r)
	case len(parts) == 1:
		return appsPath(r)
	}
	a, found := loadApp(r, parts[1])
	if len(parts) == 2 {
		return appPath(r, parts[1], a, found)
	}
	if !found {
		return fail(r, 404, codeNotFound, "there is no app "+parts[1])
	}
	switch {
	case parts[2] == "secret" && len(parts) == 3:
		return rotateSecret(r, &a)
	case parts[2] == "users" && len(parts) == 3:
		return usersPath(r, &a)
	case parts[2] != "users":
		return nothingHere(r)
	}
	u, ok := loadUser(r, strings.ToLower(parts[3]))
	if !ok || u.app != a.id {
		return fail(r, 404, codeNotFound, "the app has no such user")
	}
	if len(parts) > 4 { // what an operator does for a user
		return userPath(r, &u, parts[4:], "operator")
	}
	switch r.Transport.Method {
	case "GET":
		w := r.Writer()
		u.write(w.Object().Key("user"))
		return answer(r, 200, w.End().Bytes())
	case "DELETE":
		return deleteUser(r, &u)
	}
	return wrongMethod(r, "GET, DELETE")
}

// write shows an app without its secret.
func (a *app) write(w *sdk.Writer) {
	w.Object().Key("id").String(a.id).Key("name").String(a.name).Key("active").Bool(a.active)
	w.Key("actuators").Array()
	for _, kind := range a.actuators {
		w.String(kind)
	}
	w.End()
	writeStamp(w, "created_at", a.created)
	w.End()
}

// appsPath lists all apps; there are not many.
func appsPath(r *call) error {
	if r.Transport.Method != "GET" {
		return wrongMethod(r, "GET")
	}
	w := r.Writer()
	w.Object().Key("apps").Array()
	for key := range r.Scan("app/", "") {
		if a, ok := loadApp(r, strings.TrimPrefix(key, "app/")); ok {
			a.write(w)
		}
	}
	return answer(r, 200, w.End().End().Bytes())
}

// appPath shows, makes, changes and removes an app.
func appPath(r *call, id string, a app, found bool) error {
	switch method := r.Transport.Method; {
	case method == "PUT":
		return putApp(r, id, a, found)
	case method != "GET" && method != "DELETE":
		return wrongMethod(r, "GET, PUT, DELETE")
	case !found:
		return fail(r, 404, codeNotFound, "there is no app "+id)
	case method == "DELETE":
		for range r.Scan(usersKey(id, ""), "") {
			return fail(r, 409, codeConflict, "the app has users; remove them first, or set active to false")
		}
		r.Delete(appKey(id))
		r.Do(&event.Reply{Code: 204})
		return nil
	}
	w := r.Writer()
	a.write(w.Object().Key("app"))
	return answer(r, 200, w.End().Bytes())
}

// putApp makes or changes an app. A new one gets a secret, which is shown this once.
func putApp(r *call, id string, a app, found bool) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	if !plainID(id, maxApp) {
		return fail(r, 400, codeBadPayload, "an app's id is 1 to 64 letters, digits, ., _ and -")
	}
	secret := ""
	if !found {
		secret = derived(r, "secret/"+id+"/"+r.Event.ID)
		if m := given(v, "secret"); m.Exists() {
			if secret, ok = m.String(); !ok || !validSecret(secret) {
				return fail(r, 400, codeBadPayload, "secret must be a text of 1 to 256 bytes")
			}
		}
		a = app{id: id, secret: strings.Clone(secret), active: true, actuators: []string{contactsActuator}, created: r.Now.UnixMilli()}
	}
	if !readField(r, v, field{"name", &a.name, 120, printable}) {
		return nil
	}
	if m := given(v, "active"); m.Exists() {
		if a.active, ok = m.Bool(); !ok {
			return fail(r, 400, codeBadPayload, "active must be true or false")
		}
	}
	if m := given(v, "actuators"); m.Exists() {
		a.actuators = nil
		for kind := range m.Elements() {
			text, _ := kind.String()
			if !slices.Contains(actuatorKinds(), text) || slices.Contains(a.actuators, text) {
				return fail(r, 400, codeBadPayload, "actuators are "+strings.Join(actuatorKinds(), ", ")+", each at most once")
			}
			a.actuators = append(a.actuators, text)
		}
		if m.Kind() != sdk.Array {
			return fail(r, 400, codeBadPayload, "actuators must be a list")
		}
	}
	a.store(r)
	w := r.Writer()
	a.write(w.Object().Key("app"))
	if secret != "" {
		w.Key("secret").String(secret)
	}
	return answer(r, 200, w.End().Bytes())
}

func validSecret(s string) bool { return s != "" && len(s) <= 256 && printable(s) }

// rotateSecret gives an app another secret. Hashes that were made with the old one open
// nothing any more.
func rotateSecret(r *call, a *app) error {
	if r.Transport.Method != "POST" {
		return wrongMethod(r, "POST")
	}
	secret := derived(r, "secret/"+a.id+"/"+r.Event.ID)
	if len(r.Event.Data) > 0 {
		v, ok := body(r)
		if !ok {
			return nil
		}
		if m := given(v, "secret"); m.Exists() {
			if secret, ok = m.String(); !ok || !validSecret(secret) {
				return fail(r, 400, codeBadPayload, "secret must be a text of 1 to 256 bytes")
			}
		}
	}
	a.secret = secret
	a.store(r)
	w := r.Writer()
	return answer(r, 200, w.Object().Key("secret").String(secret).End().Bytes())
}

// usersPath lists the users of an app, and takes over one who has an id already.
func usersPath(r *call, a *app) error {
	switch r.Transport.Method {
	case "GET":
		return listUsers(r, a)
	case "POST":
		return addUser(r, a)
	}
	return wrongMethod(r, "GET, POST")
}

func listUsers(r *call, a *app) error {
	const most = 100
	prefix, after := usersKey(a.id, ""), ""
	if cursor := sdk.FormValue(r.Transport.Query, "cursor"); cursor != "" {
		if !isUUID(cursor) {
			return fail(r, 400, codeBadPayload, "cursor is none of ours")
		}
		after = prefix + cursor
	}
	w := r.Writer()
	w.Object().Key("users").Array()
	n, last := 0, ""
	for key := range r.Scan(prefix, after) {
		if n == most {
			return answer(r, 200, w.End().Key("cursor").String(last).End().Bytes())
		}
		last = strings.Clone(key[len(prefix):])
		n++
		if u, ok := loadUser(r, last); ok {
			u.write(w)
		}
	}
	return answer(r, 200, w.End().Key("cursor").Null().End().Bytes())
}

// addUser makes a user before its first request, with the UUID that it had elsewhere if
// one is given.
func addUser(r *call, a *app) error {
	v, ok := body(r)
	if !ok {
		return nil
	}
	u := user{app: a.id, created: r.Now.UnixMilli(), isNew: true}
	if u.external, _ = v.Get("external_user_id").String(); !validExternal(u.external) {
		return fail(r, 400, codeBadPayload, "external_user_id must be a text of 1 to 256 bytes")
	}
	u.id = userID(r, a.id, u.external)
	if _, there := loadUser(r, u.id); there {
		return fail(r, 409, codeConflict, "the app has this user")
	}
	if m := given(v, "id"); m.Exists() {
		id, _ := m.String()
		if !isUUID(id) {
			return fail(r, 400, codeBadPayload, "id must be a UUID")
		}
		if u.id = strings.ToLower(id); u.id != userID(r, a.id, u.external) {
			if _, there := loadUser(r, u.id); there {
				return fail(r, 409, codeConflict, "another user has this id")
			}
		}
	}
	for _, f := range u.profile() {
		if !readField(r, v, f) {
			return nil
		}
	}
	u.store(r)
	w := r.Writer()
	u.write(w.Object().Key("user"))
	return answer(r, 201, w.End().Bytes())
}

// deleteUser forgets a user with its contacts and devices. Its incidents stay for as
// long as they are kept.
func deleteUser(r *call, u *user) error {
	if _, open := openIncident(r, u.id); open {
		return fail(r, 409, codeConflict, "the user has an open SOS; resolve it first")
	}
	for key, hardware := range r.Scan(devicesKey(u.id, ""), "") {
		r.Delete(deviceKey(u.app, string(hardware)))
		r.Delete(key)
	}
	for _, key := range []string{userKey(u.id), extKey(u.app, u.external), usersKey(u.app, u.id), contactsKey(u.id), upperKey(u.id)} {
		r.Delete(key)
	}
	r.Do(&event.Reply{Code: 204})
	return nil
}

// edgePath makes and removes an edge gateway. Only the bcrypt hash of its secret comes
// here.
func edgePath(r *call, node string) error {
	if !plainID(node, 64) {
		return fail(r, 400, codeBadPayload, "a node is 1 to 64 letters, digits, ., _ and -")
	}
	switch r.Transport.Method {
	case "PUT":
	case "DELETE":
		if _, ok := loadEdge(r, node); !ok {
			return fail(r, 404, codeNotFound, "there is no edge gateway "+node)
		}
		r.Delete(edgeKey(node))
		r.Do(&event.Reply{Code: 204})
		return nil
	default:
		return wrongMethod(r, "PUT, DELETE")
	}
	v, ok := body(r)
	if !ok {
		return nil
	}
	app, _ := v.Get("app_id").String()
	hash, _ := v.Get("secret_hash").String()
	const mostCost = 10 // a stranger who guesses makes the gateway work for it
	cost, err := bcrypt.Cost([]byte(hash))
	if _, known := loadApp(r, app); !known || err != nil || cost > mostCost {
		return fail(r, 400, codeBadPayload, "app_id must be an app, and secret_hash a bcrypt hash with a cost of at most 10")
	}
	w := r.Writer()
	r.Put(edgeKey(node), w.Object().Key("app").String(app).Key("hash").String(hash).End().Bytes(), 0)
	return answer(r, 200, w.Reset().Object().Key("username").String(edgePrefix+node).End().Bytes())
}
