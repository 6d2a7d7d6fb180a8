package main

import (
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// sosPath answers /v1/sdk/sos….
func sosPath(r *call, u *user, parts []string, by string) error {
	method, what := r.Transport.Method, strings.Join(parts, "/")
	switch {
	case what == "" && method == "GET":
		inc, ok := openIncident(r, u.id)
		if !ok {
			inc = nil
		}
		return answerIncident(r, inc)
	case what == "" && method == "POST":
		return report(r, u, alertKind)
	case what == "":
		return wrongMethod(r, "GET, POST")
	case what == "history" && method == "GET":
		return history(r, u)
	case what == "history":
		return wrongMethod(r, "GET")
	case what != "cancel" && what != "resolve":
		return nothingHere(r)
	case method != "POST":
		return wrongMethod(r, "POST")
	case what == "cancel":
		return cancel(r, u)
	}
	inc, ok := openIncident(r, u.id)
	if !ok {
		return answerIncident(r, nil)
	}
	inc.close(r, resolved, by)
	return answerIncident(r, inc)
}

// cancel ends the open incident of a user. With a deviceId it has to be of that device.
func cancel(r *call, u *user) error {
	hardware := ""
	if len(r.Event.Data) > 0 {
		v, ok := body(r)
		if !ok {
			return nil
		}
		if m := given(v, "deviceId"); m.Exists() {
			if hardware, ok = m.String(); !ok || !validHardware(hardware) {
				return fail(r, 400, codeBadPayload, "deviceId must be a hardware id")
			}
			if _, ok := loadDevice(r, u.app, hardware); !ok {
				return fail(r, 422, codeUnknownDevice, "the app knows no device "+hardware)
			}
		}
	}
	inc, ok := openIncident(r, u.id)
	switch {
	case !ok:
		return answerIncident(r, nil)
	case hardware != "" && hardware != inc.hardware:
		return fail(r, 409, codeDeviceMismatch, "the open SOS is not of this device")
	}
	inc.close(r, cancelled, "")
	return answerIncident(r, inc)
}

// answerIncident replies with an incident, which may be nil.
func answerIncident(r *call, inc *incident) error {
	w := r.Writer()
	w.Object().Key("incident")
	if inc == nil {
		w.Null()
	} else {
		inc.write(w)
	}
	return answer(r, 200, w.End().Bytes())
}

// history lists the incidents of a user, the latest first.
func history(r *call, u *user) error {
	limit := 20
	if text := sdk.FormValue(r.Transport.Query, "limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return fail(r, 400, codeBadPayload, "limit must be a whole number from 1 to 100")
		}
		limit = n
	}
	prefix, after := pastKey(u.id, 0, ""), ""
	prefix = prefix[:strings.LastIndexByte(strings.TrimSuffix(prefix, "/"), '/')+1]
	if cursor := sdk.FormValue(r.Transport.Query, "cursor"); cursor != "" {
		if len(cursor) > 64 || !printable(cursor) {
			return fail(r, 400, codeBadPayload, "cursor is none of ours")
		}
		after = prefix + cursor
	}
	w := r.Writer()
	w.Object().Key("incidents").Array()
	n, last := 0, ""
	for key := range r.Scan(prefix, after) {
		if n == limit {
			w.End().Key("cursor").String(last)
			return answer(r, 200, w.End().Bytes())
		}
		last = strings.Clone(key[len(prefix):])
		n++
		if inc, ok := loadIncident(r, last[strings.LastIndexByte(last, '/')+1:]); ok {
			inc.write(w)
		}
	}
	return answer(r, 200, w.End().Key("cursor").Null().End().Bytes())
}
