package main

import (
	"crypto/subtle"
	"strings"

	"golang.org/x/crypto/bcrypt"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// What else than SDK users may connect.
const (
	edgePrefix = "eixam-edge-"
	bridgeName = "eixam-api-sos-internal"
)

// Stable codes of errors.
const (
	codeUnauthorized   = "E_SDK_UNAUTHORIZED"
	codeBadPayload     = "E_BAD_PAYLOAD"
	codeUnknownDevice  = "E_UNKNOWN_DEVICE"
	codeDeviceMismatch = "E_DEVICE_MISMATCH"
	codeRateLimited    = "E_RATE_LIMITED"
	codeNotFound       = "E_NOT_FOUND"
	codeConflict       = "E_CONFLICT"
	codeMethod         = "E_METHOD"
	codeForbidden      = "E_FORBIDDEN"
)

// verdict is what becomes of credentials.
type verdict struct {
	device             string // who it is; empty: nobody
	publish, subscribe []string
	code               event.Code // of the refusal
	reason             string     // for the operator
}

func refused(reason string) verdict {
	return verdict{code: event.BadUserNameOrPassword, reason: reason}
}

// connect judges the credentials of an MQTT client or an HTTP request.
func connect(r *call) error {
	name, _ := r.JSON("username").String()
	password, _ := r.JSON("password").String()
	var v verdict
	if r.Transport.Protocol == "http" {
		app, external := header(r, "x-app-id"), header(r, "x-user-id")
		switch {
		case name != "" || app == "" || external == "":
			v = refused("no SDK user: X-App-ID, X-User-ID and a bearer token are needed")
		case !plainID(app, maxApp) || !validExternal(external):
			v = refused("the headers X-App-ID and X-User-ID hold impossible names")
		default:
			if v = judgeUser(r, app, external, password); v.code == event.NotAuthorized {
				v.code = event.BadUserNameOrPassword // REST says 401 to each
			}
		}
	} else {
		v = judge(r, name, password)
	}
	if v.device == "" {
		r.Do(&event.Deny{Code: v.code, Reason: v.reason, Name: codeUnauthorized})
		return nil
	}
	r.Allow(event.Allow{Identity: v.device, Device: v.device, Publish: v.publish, Subscribe: v.subscribe, Once: true})
	return nil
}

// judge says who shows a user name and a password.
func judge(r *call, name, password string) verdict {
	switch {
	case name == bridgeName:
		return judgeBridge(r, password)
	case strings.HasPrefix(name, edgePrefix):
		return judgeEdge(r, name, password)
	}
	app, external, ok := splitUser(name)
	if !ok {
		return refused("the user name is not sdk:<app>:<external user id>")
	}
	return judgeUser(r, app, external, password)
}

func judgeUser(r *call, id, external, hash string) verdict {
	a, ok := loadApp(r, id)
	switch {
	case !ok:
		return refused("there is no such app")
	case !a.proves(external, hash):
		return refused("the user hash is wrong")
	case !a.active:
		return verdict{code: event.NotAuthorized, reason: "the app is not active"}
	}
	u := userID(r, id, external)
	v := verdict{device: u}
	v.publish, v.subscribe = rights(r, u, external)
	return v
}

// rights are the topics of a user, in the gateway's own access control: nothing but its
// three, and no wildcards. publish and subscribe look at each again.
func rights(r *call, id, external string) (publish, subscribe []string) {
	for _, form := range forms(id) {
		publish = append(publish, "sos/alerts/"+form, "tel/"+form+"/data")
		subscribe = append(subscribe, "sos/events/"+form)
	}
	if legacy(r) {
		publish = append(publish, "sos/alerts", "tel/data")
		if segment, ok := legacySegment(id, external); ok {
			publish = append(publish, "tel/"+segment+"/data")
			subscribe = append(subscribe, "sos/events/"+segment)
		}
	}
	return publish, subscribe
}

// forms are the spellings of a UUID that topics may have.
func forms(id string) []string {
	if upper := strings.ToUpper(id); upper != id {
		return []string{id, upper}
	}
	return []string{id}
}

// legacySegment is how an external id stands in a topic of old clients. One that looks
// like a UUID has none, since it could be another user's.
func legacySegment(id, external string) (segment string, ok bool) {
	segment = escape(external)
	return segment, !isUUID(segment) && !strings.HasPrefix(segment, edgePrefix)
}

// edge is a gateway that relays beacons, with credentials of its own.
type edge struct{ node, app, hash string }

func loadEdge(r *call, node string) (e edge, ok bool) {
	if !plainID(node, 64) {
		return e, false
	}
	text, ok := r.State(edgeKey(node))
	if !ok {
		return e, false
	}
	v := sdk.ParseJSON(text)
	e.node = node
	e.app, _ = v.Get("app").String()
	e.hash, _ = v.Get("hash").String()
	return e, true
}

// judgeEdge lets an edge gateway say what beacons say, and hear nothing.
func judgeEdge(r *call, name, password string) verdict {
	e, ok := loadEdge(r, name[len(edgePrefix):])
	if !ok {
		return refused("there is no such edge gateway")
	}
	if bcrypt.CompareHashAndPassword([]byte(e.hash), []byte(password)) != nil {
		return refused("the edge gateway's secret is wrong")
	}
	if !isActive(r, e.app) {
		return verdict{code: event.NotAuthorized, reason: "the edge gateway's app is not active"}
	}
	return verdict{device: name, publish: []string{"sos/alerts/" + name, "tel/" + name + "/data"}}
}

// judgeBridge lets the platform's own services hear the events of all users.
func judgeBridge(r *call, password string) verdict {
	want := setting(r, "bridge_password")
	if want == "" || subtle.ConstantTimeCompare([]byte(want), []byte(password)) != 1 {
		return refused("the password of the internal bridge is wrong, or none is set")
	}
	return verdict{device: bridgeName, subscribe: []string{"sos/events/+"}}
}
