package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/filter"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/reader"
	"tributary.io/gateway/stage"
)

// What a reader may have in memory: at most so many records and bytes that it has not taken or,
// in a group, not acknowledged, and as many bytes that are being written.
const (
	readerRecords = 256
	readerBytes   = 256 << 10
	writeBytes    = 64 << 10
)

// eventCounts counts what went through /events/.
type eventCounts struct {
	received, refused, sent   atomic.Uint64
	slow, unentitled, stopped atomic.Uint64 // readers that the gateway ended
}

func (e *events) metrics(set *metric.Set, own metric.Label) {
	c := &e.count
	set.Gauge("tributary_http_readers", "Readers of logs over HTTP, members of groups between two requests included.",
		float64(e.readers.size()), own)
	set.Counter("tributary_http_events_received_total", "CloudEvents that were posted and are durable.", c.received.Load(), own)
	set.Counter("tributary_http_events_refused_total", "CloudEvents that were posted and refused.", c.refused.Load(), own)
	set.Counter("tributary_http_events_sent_total", "CloudEvents that readers of logs got.", c.sent.Load(), own)
	for _, x := range []struct {
		word string
		n    *atomic.Uint64
	}{{"slow", &c.slow}, {"rights", &c.unentitled}, {"stopping", &c.stopped}} {
		set.Counter("tributary_http_readers_ended_total", "Readers that the gateway ended: too slow, without the right, or at its stop.",
			x.n.Load(), own, metric.Label{Name: "reason", Value: x.word})
	}
}

// query is what a GET asks for.
type query struct {
	sub    stage.Subscription
	member string
	max    int
	wait   time.Duration
}

var queryNames = map[string]bool{"from": true, "group": true, "member": true, "filter": true, "type": true, "subject": true, "device": true,
	"max": true, "wait": true}

// parse reads the query of a GET. A Last-Event-ID says more exactly where to go on than from.
func (e *events) parse(r *http.Request, application string) (q query, err error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, fmt.Errorf("the query is malformed: %w", err)
	}
	for name, list := range values {
		if !queryNames[name] {
			return q, fmt.Errorf("the parameter %.100q is unknown; there are device, filter, from, group, max, member, subject, type and wait", name)
		}
		if len(list) > 1 && name != "type" && name != "subject" && name != "device" {
			return q, fmt.Errorf("the parameter %s is there more than once", name)
		}
	}
	q.sub = stage.Subscription{Application: application, Window: readerRecords, Bytes: readerBytes}
	q.member = values.Get("member")
	if group, given := values["group"]; given {
		if group[0] == "" || len(group[0]) > 256 || strings.ContainsAny(group[0], "/+#\x00") {
			return q, errors.New("the group must have 1 to 256 bytes without /, + and #")
		}
		q.sub.Group = "s." + group[0] // the same as $share/<group>/app/<application> over MQTT
	}
	if q.member != "" && q.sub.Group == "" {
		return q, errors.New("member goes with group")
	}
	f, err := filter.Parse(filter.Terms{SQL: values.Get("filter"), Type: values["type"], Subject: values["subject"], Device: values["device"]})
	if err != nil {
		return q, err
	}
	if f != nil {
		q.sub.Filter = f
	}
	q.max, q.wait = 100, e.server.cfg.Heartbeat
	if text := values.Get("max"); text != "" {
		if q.max, err = strconv.Atoi(text); err != nil || q.max < 1 || q.max > readerRecords {
			return q, fmt.Errorf("max must be from 1 to %d", readerRecords)
		}
	}
	if text := values.Get("wait"); text != "" {
		if q.wait, err = time.ParseDuration(text); err != nil || q.wait < 0 || q.wait > time.Minute {
			return q, errors.New("wait must be a time such as 20s, of at most 1m")
		}
	}
	q.sub.Start, err = beginning(r, values.Get("from"))
	return q, err
}

func beginning(r *http.Request, from string) (stage.Start, error) {
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < -1 {
			return stage.Start{}, errors.New("Last-Event-ID must be the id of an event of this stream, which is an offset")
		}
		return stage.Start{Kind: stage.StartOffset, Offset: uint64(n + 1)}, nil
	}
	if from == "" {
		return stage.Start{}, nil
	}
	s, ok := stage.ParseStart(from)
	if !ok || s.Kind == stage.StartResume {
		return s, errors.New("from must be first, last, next, an offset, or an RFC 3339 time with an encoded +")
	}
	return s, nil
}

// get reads a log.
func (e *events) get(w http.ResponseWriter, r *http.Request, g *access.Grant, application string) int {
	if !g.MayRead(application) {
		return refuse(w, http.StatusForbidden, "no such application, or no right to read its events")
	}
	q, err := e.parse(r, application)
	if err != nil {
		return refuse(w, http.StatusBadRequest, err.Error())
	}
	stream, ok := wanted(r.Header)
	if !ok {
		return refuse(w, http.StatusNotAcceptable, "there are text/event-stream and "+mediaBatch)
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", map[bool]string{true: "text/event-stream", false: mediaBatch}[stream])
		w.WriteHeader(http.StatusOK)
		return http.StatusOK
	}
	if stream {
		return e.stream(w, r, g, &q)
	}
	return e.poll(w, r, g, &q)
}

// wanted says whether a client accepts a stream, else a batch; ok is false if it wants neither.
func wanted(h http.Header) (stream, ok bool) {
	accept := strings.ToLower(strings.Join(h.Values("Accept"), ","))
	if strings.Contains(accept, "text/event-stream") {
		return true, true
	}
	for _, batch := range []string{mediaBatch, "application/json", "application/*", "*/*"} {
		if strings.Contains(accept, batch) {
			return false, true
		}
	}
	return false, accept == ""
}

// refuseReader answers a reader that could not join.
func refuseReader(w http.ResponseWriter, err error) int {
	var denied *stage.Error
	switch {
	case errors.Is(err, errReaders):
		w.Header().Set("Retry-After", "5")
		return refuse(w, http.StatusServiceUnavailable, err.Error())
	case errors.Is(err, errMember):
		return refuse(w, http.StatusGone, err.Error())
	case errors.As(err, &denied):
		status := statusOf(denied.Code)
		switch status {
		case http.StatusInternalServerError: // another filter than the group has
			status = http.StatusConflict
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "5")
		}
		return refuse(w, status, denied.Reason)
	}
	return refuse(w, http.StatusInternalServerError, "the log cannot be read at the moment")
}

// take waits for records until ctx ends, the time is over, or the gateway ends the reader.
func take(ctx context.Context, x *reading, wait time.Duration, most int) ([]stage.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	list, err := x.reader.Next(ctx, most, writeBytes)
	if errors.Is(err, reader.ErrClosed) {
		return nil, err
	}
	return list, nil
}
