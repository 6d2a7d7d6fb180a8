package main

import (
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// The REST interface. Below /v1/sdk a user asks in its own name, whose credentials the
// gateway had this plugin judge. Below /v1/admin the operator's users ask, who need the
// right to read or write the application. Below /v1/public and /v1/sdk/mqtt/auth
// everybody may ask; the operator opens these paths by the listener's setting public.

// request answers an HTTP request.
func request(r *call) error {
	if r.Transport.Method == "HEAD" { // the listener leaves the body out (RFC 9110 section 9.3.2)
		r.Transport.Method = "GET"
	}
	parts := strings.Split(strings.TrimPrefix(r.Transport.Path, "/"), "/")
	for i, part := range parts {
		var ok bool
		if parts[i], ok = sdk.Unescape(part); !ok || parts[i] == "" || !printable(parts[i]) {
			return fail(r, 400, codeBadPayload, "the path is malformed")
		}
	}
	if len(parts) < 3 || parts[0] != "v1" {
		return nothingHere(r)
	}
	switch parts[1] {
	case "public":
		return publicPath(r, parts[2:])
	case "admin":
		if r.Event.Device != "" || r.Transport.Username == "" {
			return fail(r, 403, codeForbidden, "the operator's users may ask here, and no device")
		}
		return adminPath(r, parts[2:])
	case "sdk":
		if len(parts) == 5 && parts[2] == "mqtt" && parts[3] == "auth" {
			return brokerPath(r, parts[4])
		}
		u, ok := activeUser(r)
		if !ok {
			return fail(r, 401, codeUnauthorized, "these are no credentials of an SDK user of an active app")
		}
		return userPath(r, &u, parts[2:], "user")
	}
	return nothingHere(r)
}

// userPath answers what is about one user. by is who asks: the user itself, or an
// operator for it.
func userPath(r *call, u *user, parts []string, by string) error {
	switch parts[0] {
	case "me":
		if len(parts) > 1 {
			return nothingHere(r)
		}
		return me(r, u, by)
	case "sos":
		return sosPath(r, u, parts[1:], by)
	case "telemetry":
		if len(parts) > 1 {
			return nothingHere(r)
		}
		if r.Transport.Method != "POST" {
			return wrongMethod(r, "POST")
		}
		return report(r, u, telemetryKind)
	case "devices":
		return devicesPath(r, u, parts[1:])
	case "contacts":
		return contactsPath(r, u, parts[1:])
	}
	return nothingHere(r)
}

// me shows a user its profile, and changes it.
func me(r *call, u *user, by string) error {
	if r.Transport.Method != "GET" && r.Transport.Method != "PUT" {
		return wrongMethod(r, "GET, PUT")
	}
	if most := number(r, "identity_per_minute", 60, 0, 1e6); by == "user" && most > 0 && tried(r, "me", u.id) > most {
		return tooMany(r)
	}
	if r.Transport.Method == "PUT" {
		v, ok := body(r)
		if !ok {
			return nil
		}
		for _, f := range u.profile() {
			if !readField(r, v, f) {
				return nil
			}
		}
		u.store(r)
	}
	u.ensure(r)
	w := r.Writer()
	u.write(w.Object().Key("user"))
	return answer(r, 200, w.End().Bytes())
}

// report takes a reading over HTTP.
func report(r *call, u *user, kind string) error {
	m, wrong := parseReading(r)
	if wrong != "" {
		return fail(r, 400, codeBadPayload, wrong)
	}
	owner, ok := ownerOf(r, u, m.hardware)
	if !ok {
		return fail(r, 422, codeUnknownDevice, "the app knows no device "+m.hardware)
	}
	u.ensure(r)
	if kind == telemetryKind {
		telemetry(r, &m, &owner, u.id)
		return answer(r, 202, []byte(`{"accepted":true}`))
	}
	return answerIncident(r, alert(r, &m, &owner, u.id))
}

// tried counts one more attempt of somebody and returns how many there were in this
// minute.
func tried(r *call, what, who string) int64 {
	n := attempts(r, what, who) + 1
	minute := r.Now.Unix() / 60
	r.Put(rateKey(what, who), []byte(strconv.FormatInt(minute, 10)+" "+strconv.FormatInt(n, 10)), minuteTTL)
	return n
}

// attempts is how many there were in this minute.
func attempts(r *call, what, who string) int64 {
	text, _ := r.State(rateKey(what, who))
	since, count, _ := strings.Cut(string(text), " ")
	if since != strconv.FormatInt(r.Now.Unix()/60, 10) {
		return 0
	}
	n, _ := strconv.ParseInt(count, 10, 64)
	return n
}

// answer replies with JSON.
func answer(r *call, status int, body []byte) error {
	r.Do(&event.Reply{Code: event.Code(status), Payload: body, Headers: []event.Property{{Name: "Content-Type", Value: "application/json"}}})
	return nil
}

// fail replies with problem details (RFC 9457) and a stable code.
func fail(r *call, status int, code, detail string, headers ...event.Property) error {
	w := r.Writer()
	w.Object().Key("title").String(titleOf(status)).Key("status").Int(int64(status)).Key("code").String(code).
		Key("detail").String(detail).End()
	r.Do(&event.Reply{Code: event.Code(status), Payload: w.Bytes(),
		Headers: append(headers, event.Property{Name: "Content-Type", Value: "application/problem+json"})})
	return nil
}

func titleOf(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 409:
		return "Conflict"
	case 422:
		return "Unprocessable Content"
	case 429:
		return "Too Many Requests"
	}
	return "Error"
}

func nothingHere(r *call) error { return fail(r, 404, codeNotFound, "there is nothing at this path") }

func tooMany(r *call) error {
	return fail(r, 429, codeRateLimited, "too many attempts; try again in a minute", event.Property{Name: "Retry-After", Value: "60"})
}

// wrongMethod names the methods that there are.
func wrongMethod(r *call, allowed string) error {
	allowed = strings.Replace(allowed, "GET", "GET, HEAD", 1)
	return fail(r, 405, codeMethod, "the methods of this path are "+allowed, event.Property{Name: "Allow", Value: allowed})
}

// body checks that a request has a JSON object.
func body(r *call) (sdk.Value, bool) {
	if v := r.JSON(); v.Kind() == sdk.Object {
		return v, true
	}
	fail(r, 400, codeBadPayload, "the body must be a JSON object")
	return sdk.Value{}, false
}

// header reads a header of a request; empty: there is none.
func header(r *call, name string) string {
	for _, p := range r.Transport.Properties {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}
