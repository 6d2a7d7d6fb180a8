package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tributary.io/gateway/outbound/place"
	"tributary.io/sdk-plugin/event"
)

// response is the result of one attempt.
type response struct {
	status    int // 0: there was no answer
	header    http.Header
	body      []byte
	truncated bool
	err       error // why there was no answer
	retry     bool  // it should be tried again
	down      bool  // the host is to blame
	after     time.Duration
}

var errExpired = errors.New("it got no answer in time (outbound.max_age)")

// reason says in a few words why an attempt failed.
func (r *response) reason() string {
	if r.err != nil {
		return r.err.Error()
	}
	return fmt.Sprintf("HTTP status %d", r.status)
}

// send makes one attempt.
func (c *Calls) send(ctx context.Context, x *call, effect *event.Call) response {
	policy := c.policies[x.plugin]
	u, allowed, err := place.CheckURL(effect.URL, policy.hosts)
	if err != nil {
		return response{err: err}
	}
	if !allowed {
		return response{err: fmt.Errorf("the host is no longer granted: see plugins.%s.grant.hosts in gateway.toml", x.plugin)}
	}
	timeout := effect.Timeout
	if timeout <= 0 {
		timeout = c.cfg.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, effect.Method, u.String(), bytes.NewReader(effect.Body))
	if err != nil {
		return response{err: bare(err)}
	}
	for _, h := range effect.Headers {
		req.Header.Add(h.Name, h.Value)
	}
	setDefault(req.Header, "Idempotency-Key", x.name[strings.LastIndexByte(x.name, 0)+1:])
	setDefault(req.Header, "User-Agent", "Tributary")

	c.stats.attempts.Add(1)
	begin := time.Now()
	defer func() { c.stats.took.Observe(time.Since(begin)) }()
	got, err := policy.client.Do(req)
	if err != nil {
		return noAnswer(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Body, int64(c.cfg.ResponseBytes)+1))
	if err != nil {
		return noAnswer(err)
	}
	r := response{status: got.StatusCode, header: got.Header, body: body}
	if len(body) > c.cfg.ResponseBytes {
		r.body, r.truncated = body[:c.cfg.ResponseBytes], true
	}
	if r.retry = again(r.status); r.retry {
		r.after = retryAfter(got.Header.Get("Retry-After"), time.Now())
		r.down = r.status != http.StatusTooManyRequests && r.status != http.StatusTooEarly
	}
	return r
}

func setDefault(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

// again says which answers mean that the same request may succeed later (RFC 9110
// section 15, RFC 6585 section 4, RFC 8470 section 5.2).
func again(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// noAnswer says what an error of the client means.
func noAnswer(err error) response {
	if errors.Is(err, errPlace) {
		return response{err: errPlace}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer within the timeout")
	}
	return response{err: bare(err), retry: true, down: true}
}

// bare takes the URL out of an error: it may hold secrets.
func bare(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// maxWait bounds what a server may ask for with Retry-After.
const maxWait = 24 * time.Hour

// retryAfter reads a Retry-After header (RFC 9110 section 10.2.3); 0: nothing to
// wait for.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, maxWait)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxWait)
	}
	return 0
}

// Bounds of what a plugin gets of an answer's headers.
const (
	maxHeaders     = 64
	maxHeaderBytes = 16 << 10
)

// inbound is the event that the answer becomes.
func (r *response) inbound(e event.Event, attempts int) *event.Inbound {
	in := &event.Inbound{Event: e, Transport: event.Transport{Protocol: "http"}}
	in.Event.Time = time.Now().UTC()
	integer := func(name string, n int) {
		in.Event.Extensions = append(in.Event.Extensions, event.Attribute{Name: name, Kind: event.Integer, Value: strconv.Itoa(n)})
	}
	integer("attempts", attempts)
	if r.err != nil {
		in.Event.SetExtension("error", printable(r.err.Error()))
		return in
	}
	integer("status", r.status)
	if r.truncated {
		in.Event.Extensions = append(in.Event.Extensions, event.Attribute{Name: "truncated", Kind: event.Boolean, Value: "true"})
	}
	if kind := r.header.Get("Content-Type"); kind == printable(kind) {
		if _, _, err := mime.ParseMediaType(kind); err == nil {
			in.Event.DataContentType = kind
		}
	}
	if len(r.body) > 0 {
		in.Event.Data = r.body
	}
	in.Transport.Properties = properties(r.header)
	return in
}

// properties returns the headers in order, those that fit.
func properties(header http.Header) (list []event.Property) {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			p := event.Property{Name: printable(name), Value: printable(value)}
			if size += len(p.Name) + len(p.Value); size > maxHeaderBytes || len(list) == maxHeaders {
				return list
			}
			list = append(list, p)
		}
	}
	return list
}

// printable makes text of what a server sent, which may be any bytes.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
