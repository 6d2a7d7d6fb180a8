package main

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// A list is a page of a scan over the state. Its cursor is the last key that was
// shown, so that what is added or removed in between moves nothing.

const (
	usualPage = 50
	maxPage   = 200
)

// page scans the keys below a prefix, from the query's cursor on, and writes the
// items that keep says yes to as the array name, with the cursor of the next page.
func page(r *call, name, prefix string, show func(w *sdk.Writer, key string, value []byte) bool) error {
	limit := usualPage
	if text := query(r, "limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return fail(r, 400, "limit must be from 1 to "+strconv.Itoa(maxPage))
		}
		limit = n
	}
	after := ""
	if text := query(r, "cursor"); text != "" {
		key, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || !strings.HasPrefix(string(key), prefix) {
			return fail(r, 400, "the cursor is not one of this list")
		}
		after = string(key)
	}
	var w sdk.Writer
	w.Object().Key(name).Array()
	last, shown, more := "", 0, false
	for key, value := range r.Scan(prefix, after) {
		if shown == limit {
			more = true
			break
		}
		if show(&w, key, value) {
			shown++
		}
		last = strings.Clone(key)
	}
	w.End()
	if more {
		w.Key("cursor").String(base64.RawURLEncoding.EncodeToString([]byte(last)))
	}
	return answer(r, 200, w.End().Bytes())
}

// listExecutions lists the commands of a thing, oldest first.
func listExecutions(r *call) error {
	thing := query(r, "thingName")
	if !validName(thing) {
		return fail(r, 400, "the query must have thingName")
	}
	status := query(r, "status")
	return page(r, "executions", "commands/"+thing+"/", func(w *sdk.Writer, _ string, id []byte) bool {
		x, ok := loadExecution(r, string(id))
		if !ok || status != "" && x.status != status {
			return false
		}
		x.write(w)
		return true
	})
}

// listJobs lists jobs, oldest first, by status and type.
func listJobs(r *call) error {
	status, kind := query(r, "status"), query(r, "jobType")
	return page(r, "jobs", "jobs/", func(w *sdk.Writer, _ string, id []byte) bool {
		j, ok := loadJob(r, string(id))
		if !ok || status != "" && j.status != status || kind != "" && j.kind() != kind {
			return false
		}
		j.write(w)
		return true
	})
}

// listThings lists things by name, and by tag and group.
func listThings(r *call) error {
	tag, group := query(r, "tagName"), query(r, "group")
	return page(r, "things", thingKey(""), func(w *sdk.Writer, key string, _ []byte) bool {
		t, ok := loadThing(r, strings.TrimPrefix(key, thingKey("")))
		if !ok || tag != "" && !slices.Contains(t.tags, tag) || group != "" && t.group != group {
			return false
		}
		t.write(w)
		return true
	})
}

// listEvents lists the events of a thing by time.
func listEvents(r *call, thing string) error {
	typ, severity := query(r, "eventType"), query(r, "severity")
	from, okFrom := milliseconds(r, "from", 0)
	to, okTo := milliseconds(r, "to", 1<<62)
	if !okFrom || !okTo {
		return fail(r, 400, "from and to must be whole numbers of milliseconds")
	}
	return page(r, "events", "event/"+thing+"/", func(w *sdk.Writer, _ string, value []byte) bool {
		e := sdk.ParseJSON(value)
		at, _ := e.Get("timestamp").Int()
		if at < from || at > to || typ != "" && !is(e.Get("eventType"), typ) || severity != "" && !is(e.Get("severity"), severity) {
			return false
		}
		w.Raw(value)
		return true
	})
}

func is(v sdk.Value, text string) bool {
	s, _ := v.String()
	return s == text
}

func milliseconds(r *call, name string, absent int64) (int64, bool) {
	text := query(r, name)
	if text == "" {
		return absent, true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// members are the things of a group.
func members(r *call, group string) (names []string) {
	prefix := memberKey(group, "")
	for key := range r.Scan(prefix, "") {
		names = append(names, strings.Clone(strings.TrimPrefix(key, prefix)))
	}
	return names
}

// continuousJobs are the jobs that a thing gets when it joins a group.
func continuousJobs(r *call, group string) (ids []string) {
	prefix := continuousKey(group, "")
	for key := range r.Scan(prefix, "") {
		ids = append(ids, strings.Clone(strings.TrimPrefix(key, prefix)))
	}
	return ids
}
