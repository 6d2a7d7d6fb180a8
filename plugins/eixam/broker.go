package main

import (
	"crypto/subtle"
	"strings"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

// The callbacks of a broker in front of the platform, in the way of NanoMQ, EMQX and
// mosquitto-go-auth: a form or JSON comes, 200 allows and 401 refuses. Tributary itself
// needs none: it asks connect, publish and subscribe.

func brokerPath(r *call, what string) error {
	if what != "connect" && what != "acl" {
		return nothingHere(r)
	}
	if r.Transport.Method != "POST" {
		return wrongMethod(r, "POST")
	}
	name := callback(r, "username")
	if what == "connect" {
		return brokerConnect(r, name, callback(r, "password"))
	}
	access := callback(r, "access")
	if access == "" {
		access = callback(r, "acc")
	}
	return brokerAnswer(r, brokerAllows(r, name, callback(r, "topic"), access))
}

// brokerConnect judges like a listener does, but counts failures of one name: a listener
// of Tributary slows down who guesses, a broker passes each guess on.
func brokerConnect(r *call, name, password string) error {
	const most = 20
	if attempts(r, "broker", name) >= most {
		return brokerAnswer(r, false)
	}
	v := judge(r, name, password)
	if v.device == "" {
		tried(r, "broker", name)
	}
	return brokerAnswer(r, v.device != "")
}

// brokerAllows says whether a client that the broker let in may use a topic: access is
// 1 (or 4) to subscribe, 2 to publish, 3 for both.
func brokerAllows(r *call, name, topic, access string) bool {
	var v verdict
	switch node, edge := strings.CutPrefix(name, edgePrefix); {
	case name == bridgeName:
		v.subscribe = []string{"sos/events/+"}
	case edge:
		e, ok := loadEdge(r, node)
		if ok && isActive(r, e.app) {
			v.publish = []string{"sos/alerts/" + name, "tel/" + name + "/data"}
		}
	default:
		app, external, ok := splitUser(name)
		if ok && isActive(r, app) {
			v.publish, v.subscribe = rights(r, userID(r, app, external), external)
		}
	}
	switch access {
	case "1", "4":
		return listed(v.subscribe, topic)
	case "2":
		return listed(v.publish, topic)
	case "3":
		return listed(v.publish, topic) && listed(v.subscribe, topic)
	}
	return false
}

// listed compares word for word: a right with a wildcard is one to this very filter.
func listed(list []string, topic string) bool {
	for _, t := range list {
		if t == topic {
			return true
		}
	}
	return false
}

func brokerAnswer(r *call, allowed bool) error {
	if allowed {
		r.Do(&event.Reply{Code: 200})
		return nil
	}
	return fail(r, 401, codeUnauthorized, "not allowed")
}

// callback reads a member of a callback's body, JSON or a form.
func callback(r *call, name string) string {
	if v := r.JSON(); v.Kind() == sdk.Object {
		m := v.Get(name)
		if text, ok := m.String(); ok {
			return text
		}
		if m.Kind() == sdk.Number {
			return string(m.Raw())
		}
		return ""
	}
	return sdk.FormValue(string(r.Event.Data), name)
}

// sameSecret compares in constant time.
func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
