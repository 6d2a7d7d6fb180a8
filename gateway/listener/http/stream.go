package http

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// stream answers with Server-Sent Events (HTML section 9.2) until either side ends.
func (e *events) stream(w http.ResponseWriter, r *http.Request, g *access.Grant, q *query) int {
	if q.member != "" {
		return refuse(w, http.StatusBadRequest, "a stream is a member of its own: leave member out")
	}
	at := uint64(0)
	var err error
	if q.sub.Group == "" { // so that the client knows where it stands before the first event
		if at, err = e.Logs.Position(q.sub.Application, q.sub.Start); err != nil {
			return refuseReader(w, err)
		}
		q.sub.Start = stage.Start{Kind: stage.StartOffset, Offset: at}
	}
	x, err := e.open(g, q, true)
	if err != nil {
		return refuseReader(w, err)
	}
	defer e.readers.close(x)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events
	out := &sseWriter{w: w, control: http.NewResponseController(w), timeout: e.server.cfg.BodyTimeout}
	if err := out.control.SetReadDeadline(time.Time{}); err != nil { // it would end the request, of which nothing more comes
		return statusGone
	}
	if x.id != "" {
		h.Set("Tributary-Member", x.id)
		fmt.Fprintf(&out.buf, "event: joined\ndata: {\"member\":%q}\n\n", x.id)
	} else {
		fmt.Fprintf(&out.buf, "id: %d\n\n", int64(at)-1)
	}
	ctx, cancel := e.until(r.Context(), g, x)
	defer cancel()
	if err := e.run(ctx, out, x); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e.count.slow.Add(1)
			e.server.log.Info("a reader of a log was too slow and was ended", "listener", e.server.name, "application", x.application,
				"peer", r.RemoteAddr)
		}
		return statusGone
	}
	return http.StatusOK
}

// until ends with the client, and with the grant.
func (e *events) until(ctx context.Context, g *access.Grant, x *reading) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if g.Expires.IsZero() {
		return ctx, cancel
	}
	timer := time.AfterFunc(time.Until(g.Expires), func() {
		e.count.unentitled.Add(1)
		e.readers.end(x, endedRights)
	})
	return ctx, func() { timer.Stop(); cancel() }
}

// run writes records until the reader or its client ends. The error is one of writing.
func (e *events) run(ctx context.Context, out *sseWriter, x *reading) error {
	if err := out.flush(); err != nil {
		return err
	}
	for {
		list, err := take(ctx, x, e.server.cfg.Heartbeat, readerRecords)
		switch {
		case ctx.Err() != nil: // the client went
			return ctx.Err()
		case err != nil: // the gateway ended it
			why := e.readers.why(x)
			if why == endedStopping {
				e.count.stopped.Add(1)
			}
			text, _ := json.Marshal(string(why))
			fmt.Fprintf(&out.buf, "event: end\ndata: {\"reason\":%s}\n\n", text)
			return out.flush()
		case len(list) == 0:
			out.buf.WriteString(":\n\n")
		}
		for _, record := range list {
			e.frame(out, x, record)
		}
		if err := out.flush(); err != nil {
			return err
		}
		e.count.sent.Add(uint64(len(list)))
		if x.id == "" && len(list) > 0 {
			x.reader.AckThrough(list[len(list)-1].Offset)
		}
	}
}

// frame appends one record as an event of the stream.
func (e *events) frame(out *sseWriter, x *reading, record stage.Record) {
	var given event.Event
	if err := codec.ParseEvent(record.Event, &given); err != nil {
		e.unreadable(x, record, err)
		return
	}
	out.buf.WriteString("id: ")
	out.buf.Write(strconv.AppendUint(out.buf.AvailableBuffer(), record.Offset, 10))
	out.json = codec.AppendJSON(out.json[:0], &given)
	// A line of data ends at any line break, of which JSON has some between its values.
	for line := range bytes.FieldsFuncSeq(out.json, func(c rune) bool { return c == '\n' || c == '\r' }) {
		out.buf.WriteString("\ndata: ")
		out.buf.Write(line)
	}
	out.buf.WriteString("\n\n")
}

// unreadable tells of a stored event that is none, and counts it as done.
func (e *events) unreadable(x *reading, record stage.Record, err error) {
	e.server.log.Warn("a stored event is unreadable and was left out", "application", x.application, "offset", record.Offset, "error", err)
	x.reader.Ack(record.Offset)
}

// sseWriter gathers what goes out together.
type sseWriter struct {
	w       io.Writer
	control *http.ResponseController
	timeout time.Duration
	buf     bytes.Buffer
	json    []byte
}

func (o *sseWriter) flush() error {
	if err := o.control.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return fmt.Errorf("preparing to write to a reader: %w", err)
	}
	_, err := o.w.Write(o.buf.Bytes())
	if err == nil {
		err = o.control.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing to a reader: %w", err)
	}
	o.buf.Reset()
	if o.buf.Cap() > writeBytes {
		o.buf, o.json = bytes.Buffer{}, nil
	}
	return nil
}

// leastWait is how long a request for a batch waits at least: what is there takes a moment to be
// read.
const leastWait = 200 * time.Millisecond

// poll answers with a batch of what there is, or what comes within the time to wait.
func (e *events) poll(w http.ResponseWriter, r *http.Request, g *access.Grant, q *query) int {
	var x *reading
	var err error
	next := uint64(0)
	switch {
	case q.member != "":
		x, err = e.readers.member(q.member, g, q.sub.Application, true)
		if errors.Is(err, errBusy) {
			return refuse(w, http.StatusConflict, err.Error())
		}
	case q.sub.Group == "":
		if next, err = e.Logs.Position(q.sub.Application, q.sub.Start); err != nil {
			return refuseReader(w, err)
		}
		q.sub.Start = stage.Start{Kind: stage.StartOffset, Offset: next}
		q.sub.Window = q.max
		fallthrough
	default:
		x, err = e.open(g, q, false)
	}
	if err != nil {
		return refuseReader(w, err)
	}
	if x.id == "" {
		defer e.readers.close(x)
	} else {
		defer e.readers.rest(x, e.server.cfg.AckTimeout)
	}
	q.wait = max(q.wait, leastWait)
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}),
		control.SetWriteDeadline(time.Now().Add(q.wait+e.server.cfg.BodyTimeout))); err != nil {
		return statusGone
	}
	list, err := take(r.Context(), x, q.wait, q.max)
	if err != nil {
		w.Header().Set("Retry-After", "1")
		return refuse(w, http.StatusServiceUnavailable, string(e.readers.why(x)))
	}
	if r.Context().Err() != nil {
		return statusGone
	}
	return e.batch(w, x, list, next)
}

// batch writes records as a batch. Its headers say what a client needs to go on.
func (e *events) batch(w http.ResponseWriter, x *reading, list []stage.Record, next uint64) int {
	body := []byte{'['}
	var offsets []string
	for _, record := range list {
		next = record.Offset + 1
		var given event.Event
		if err := codec.ParseEvent(record.Event, &given); err != nil {
			e.unreadable(x, record, err)
			continue
		}
		if len(body) > 1 {
			body = append(body, ',')
		}
		body = codec.AppendJSON(body, &given)
		offsets = append(offsets, strconv.FormatUint(record.Offset, 10))
	}
	body = append(body, ']')
	h := w.Header()
	h.Set("Content-Type", mediaBatch)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Tributary-Offsets", strings.Join(offsets, ","))
	if x.id != "" {
		h.Set("Tributary-Member", x.id)
	} else {
		h.Set("Tributary-Next", strconv.FormatUint(next, 10))
	}
	w.WriteHeader(http.StatusOK)
	w.Write(body) // an error is the client's going away
	e.count.sent.Add(uint64(len(offsets)))
	return http.StatusOK
}

// ackBody is the body of a POST to /events/<application>/ack.
type ackBody struct {
	Offsets []uint64 `json:"offsets"`
	Through *uint64  `json:"through"`
}

// acknowledge says that a member of a group is done with events.
func (e *events) acknowledge(w http.ResponseWriter, r *http.Request, g *access.Grant, application string) int {
	if !g.MayRead(application) {
		return refuse(w, http.StatusForbidden, "no such application, or no right to read its events")
	}
	var body ackBody
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil || (body.Through == nil) == (len(body.Offsets) == 0) {
		return refuse(w, http.StatusBadRequest, `the body must be {"offsets":[…]} or {"through":…}, with offsets of events that the member got`)
	}
	x, err := e.readers.member(r.URL.Query().Get("member"), g, application, false)
	if err != nil {
		return refuseReader(w, err)
	}
	if body.Through != nil {
		x.reader.AckThrough(*body.Through)
	} else {
		x.reader.Ack(body.Offsets...)
	}
	e.readers.touch(x, e.server.cfg.AckTimeout)
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}
