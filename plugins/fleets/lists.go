package main

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	sdk "tributary.io/sdk-plugin"
)

// list is what a page is taken of: keys of the state that begin with prefix, in
// their order. The cursor of the next page is the last key that was looked at, so
// that what is added or removed in between moves nothing.
type list struct {
	name        string // of the array in the answer
	prefix      string
	from, until string // bounds of the keys; empty: all that there are
	// show writes the item of a key, unless a filter leaves it out, and says how
	// many bytes it read for that beside the value.
	show func(w *sdk.Writer, key string, value []byte) (read int, shown bool)
}

// What one page takes of what an event may read, however few items a filter shows.
// A scan's call of the gateway brings 64 keys or at least 4 KB, so that 64 KB are
// within its 64 calls also where the values leave much of the room empty.
const (
	usualPage = 50 // items
	maxPage   = 200
	maxSeen   = 240      // keys
	maxKeys   = 64 << 10 // bytes of keys and values
	maxRead   = 4 << 20  // bytes beside them
)

// writePage answers with a page of a list, from the query's cursor on. If there may be more,
// the answer has a cursor, also if it has fewer items than asked for, or none.
func writePage(r *call, l list) error {
	limit := usualPage
	if text := query(r, "limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return fail(r, 400, "limit must be from 1 to "+strconv.Itoa(maxPage))
		}
		limit = n
	}
	last := l.from
	if text := query(r, "cursor"); text != "" {
		key, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || !strings.HasPrefix(string(key), l.prefix) {
			return fail(r, 400, "the cursor is not one of this list")
		}
		last = max(last, string(key))
	}
	var w sdk.Writer
	w.Object().Key(l.name).Array()
	shown, seen, size, read, more := 0, 0, 0, 0, false
	for key, value := range r.Scan(l.prefix, last) {
		if l.until != "" && key >= l.until {
			break
		}
		if more = shown == limit || seen == maxSeen || size >= maxKeys || read >= maxRead; more {
			break
		}
		n, ok := l.show(&w, key, value)
		if ok {
			shown++
		}
		seen, size, read = seen+1, size+len(key)+len(value), read+n
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
	status, ok := choice(r, "status", statusSent, statusSucceeded, statusFailed, statusRejected, statusTimedOut, statusCanceled)
	if !ok {
		return nil
	}
	return writePage(r, list{name: "executions", prefix: commandsKey(thing), show: func(w *sdk.Writer, _ string, id []byte) (int, bool) {
		text, ok := r.State(commandKey(string(id)))
		x := parseExecution(text)
		if !ok || status != "" && x.status != status {
			return len(text), false
		}
		x.write(w)
		return len(text), true
	}})
}

// listJobs lists jobs, oldest first, by status and type.
func listJobs(r *call) error {
	status, ok := choice(r, "status", jobInProgress, jobCompleted, statusCanceled)
	if !ok {
		return nil
	}
	kind, ok := choice(r, "jobType", jobSnapshot, jobContinuous)
	if !ok {
		return nil
	}
	return writePage(r, list{name: "jobs", prefix: jobsKey, show: func(w *sdk.Writer, _ string, id []byte) (int, bool) {
		text, ok := r.State(jobKey(string(id)))
		j := parseJob(text)
		if !ok || status != "" && j.status != status || kind != "" && j.kind() != kind {
			return len(text), false
		}
		j.write(w)
		return len(text), true
	}})
}

// listThings lists things by name, and by tag and group.
func listThings(r *call) error {
	tag, group := query(r, "tagName"), query(r, "group")
	return writePage(r, list{name: "things", prefix: thingKey(""), show: func(w *sdk.Writer, key string, text []byte) (int, bool) {
		t := parseThing(strings.TrimPrefix(key, thingKey("")), text)
		if tag != "" && !slices.Contains(t.tags, tag) || group != "" && t.group != group {
			return 0, false
		}
		t.write(w)
		return 0, true
	}})
}

// listEvents lists the events of a thing by time.
func listEvents(r *call, thing string) error {
	typ := query(r, "eventType")
	severity, ok := choice(r, "severity", "info", "warn", "error")
	if !ok {
		return nil
	}
	from, okFrom := milliseconds(r, "from", 0)
	to, okTo := milliseconds(r, "to", 1<<62)
	if !okFrom || !okTo {
		return fail(r, 400, "from and to must be whole numbers of milliseconds")
	}
	prefix := eventsKey(thing)
	// Behind a time's digits a key goes on with a slash, which is before a 0.
	return writePage(r, list{name: "events", prefix: prefix, from: prefix + sortable(from), until: prefix + sortable(to) + "0",
		show: func(w *sdk.Writer, _ string, value []byte) (int, bool) {
			e := sdk.ParseJSON(value)
			if typ != "" && !isText(e.Get("eventType"), typ) || severity != "" && !isText(e.Get("severity"), severity) {
				return 0, false
			}
			w.Raw(value)
			return 0, true
		}})
}

// choice returns a parameter of the query that is one of some words, or empty. If it is
// neither, the request is refused and ok is false.
func choice(r *call, name string, words ...string) (given string, ok bool) {
	given = query(r, name)
	if ok = given == "" || slices.Contains(words, given); !ok {
		fail(r, 400, name+" must be one of "+strings.Join(words, ", "))
	}
	return given, ok
}

func isText(v sdk.Value, text string) bool {
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

// members are the things of a group; of one that is too large for a job, some more
// than a job may have.
func members(r *call, group string) (names []string) {
	prefix := memberKey(group, "")
	for key := range r.Scan(prefix, "") {
		names = append(names, strings.Clone(strings.TrimPrefix(key, prefix)))
		if len(names) > maxTargets {
			break
		}
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
