package main

import (
	"strconv"
	"strings"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
)

const (
	minuteTTL  = time.Minute
	maxGuesses = 30 // of public links, from an address in a minute
)

// publicPath answers /v1/public…: the links that contacts get, and what providers say of
// messages and calls.
func publicPath(r *call, parts []string) error {
	switch {
	case parts[0] == "sos" && len(parts) == 2:
		if r.Transport.Method != "GET" {
			return wrongMethod(r, "GET")
		}
		return byLink(r, parts[1], showPublic)
	case parts[0] == "sos" && len(parts) == 3 && parts[2] == "acknowledge":
		if r.Transport.Method != "POST" {
			return wrongMethod(r, "POST")
		}
		return byLink(r, parts[1], acknowledgePublic)
	case parts[0] == "actuations" && len(parts) == 3:
		if r.Transport.Method != "POST" {
			return wrongMethod(r, "POST")
		}
		return actuation(r, parts[1], parts[2])
	}
	return nothingHere(r)
}

// byLink finds the incident and contact of a public link. Wrong ones are counted.
func byLink(r *call, token string, then func(r *call, inc *incident, contact string) error) error {
	from := network(r.Transport.Peer)
	if attempts(r, "guess", from) >= maxGuesses {
		return tooMany(r)
	}
	place, ok := r.State(linkKey(token))
	if ok {
		id, contact, _ := strings.Cut(string(place), "/")
		if inc, ok := loadIncident(r, id); ok {
			return then(r, inc, contact)
		}
	}
	tried(r, "guess", from)
	return fail(r, 404, codeNotFound, "this link leads nowhere, or the incident is too long ago")
}

// network is the address of a peer without its port, and of IPv6 the part that one
// customer has.
func network(peer string) string {
	host := peer[:max(strings.LastIndexByte(peer, ':'), 0)]
	if v6, ok := strings.CutPrefix(host, "["); ok {
		groups := strings.SplitN(strings.TrimSuffix(v6, "]"), ":", 5)
		return strings.Join(groups[:min(len(groups), 4)], ":")
	}
	return host
}

// showPublic shows an incident to somebody who has its link: neither its id nor whose
// numbers were called.
func showPublic(r *call, inc *incident, _ string) error {
	tag := `"` + strconv.FormatInt(inc.version, 10) + "-" + strconv.FormatInt(inc.updated, 36) + "-" + inc.status + `"`
	headers := []event.Property{{Name: "ETag", Value: tag}, {Name: "Cache-Control", Value: "private, no-cache"}}
	if matches(header(r, "if-none-match"), tag) {
		r.Do(&event.Reply{Code: 304, Headers: headers})
		return nil
	}
	name := ""
	if u, ok := loadUser(r, inc.user); ok {
		u.unfold()
		name = u.name
	}
	w := r.Writer()
	w.Object().Key("incident").Object().Key("name").String(name).Key("status").String(inc.status)
	inc.writeTimes(w)
	inc.writePosition(w)
	w.Key("snapshotVersion").Int(inc.version)
	inc.writeActuators(w.Key("actuators"))
	w.End().End()
	r.Do(&event.Reply{Code: 200, Payload: w.Bytes(), Headers: append(headers, event.Property{Name: "Content-Type",
		Value: "application/json"})})
	return nil
}

// matches says whether an If-None-Match header names a tag (RFC 9110 section 13.1.2).
func matches(given, tag string) bool {
	for _, one := range strings.Split(given, ",") {
		if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == "*" || one == tag {
			return true
		}
	}
	return false
}

// acknowledgePublic notes that a contact takes care of it. The same contact may say so
// again.
func acknowledgePublic(r *call, inc *incident, contact string) error {
	if !inc.open() {
		return fail(r, 409, codeConflict, "the incident is over: it was "+inc.status)
	}
	if inc.status == acknowledged && !inc.acknowledgedBy(contact) {
		return fail(r, 409, codeConflict, "another contact has acknowledged it")
	}
	if inc.status == active {
		inc.acknowledge(r, contact)
	}
	w := r.Writer()
	w.Object().Key("status").String(inc.status)
	writeStamp(w, "acknowledgedAt", inc.acknowledged)
	return answer(r, 200, w.End().Bytes())
}

func (inc *incident) acknowledgedBy(contact string) bool {
	if it := inc.item(contactsActuator); it != nil {
		for i := range it.contacts {
			if it.contacts[i].id == contact {
				return it.contacts[i].acknowledged != 0
			}
		}
	}
	return false
}

// actuation takes what a provider says of a message or a call, in its own words: as JSON
// {"status":…}, or as a form with status, MessageStatus, SmsStatus or CallStatus.
func actuation(r *call, id, token string) error {
	if !sameSecret(token, derived(r, "actuation/"+id)) {
		return fail(r, 404, codeNotFound, "there is no such message or call")
	}
	word := ""
	if v := r.JSON(); v.Kind() == sdk.Object {
		word, _ = v.Get("status").String()
	} else {
		for _, name := range [...]string{"status", "MessageStatus", "SmsStatus", "CallStatus"} {
			if word = sdk.FormValue(string(r.Event.Data), name); word != "" {
				break
			}
		}
	}
	if word == "" {
		return fail(r, 400, codeBadPayload, "the body must hold a status")
	}
	if err := progress(r, id, alias(word), ""); err != nil {
		return err
	}
	r.Do(&event.Reply{Code: 204})
	return nil
}
