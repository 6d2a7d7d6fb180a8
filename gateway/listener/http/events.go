package http

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/reader"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// EventRouter takes the events that clients post.
type EventRouter interface {
	Submit(in *event.Inbound, along stage.Companion, done func(stage.Outcome))
	// SubmitBatch is Submit of several events of one sender, which are done together or not
	// at all.
	SubmitBatch(all []*event.Inbound, done func(stage.Outcome))
}

// Authority judges beyond the credentials of one request.
type Authority interface {
	// Authorize asks the service that vouched for g about a topic that g allows.
	Authorize(ctx context.Context, g *access.Grant, act access.Action, topic string, qos byte, retain bool) error
	// Renew returns what g is now that rights changed, or an error when it is over.
	Renew(g *access.Grant) (*access.Grant, error)
}

// Logs are the logs of applications.
type Logs interface {
	reader.Logs
	// Position is the offset where a reader of its own would begin.
	Position(application string, start stage.Start) (uint64, error)
}

// Rates holds senders to their rates.
type Rates interface {
	// Charge charges events of so many bytes together, unless the sender owes something from
	// before: then it charges nothing, and says who owes, and for how long.
	Charge(g *access.Grant, events, bytes int) (wait time.Duration, who string)
}

// EventParts is what serving CloudEvents needs of others.
type EventParts struct {
	Router    EventRouter
	Authority Authority
	Logs      Logs
	Rates     Rates
}

// UseEvents has the listener serve CloudEvents below /events/, if its settings say so. Call it
// before Serve.
func (s *Server) UseEvents(p EventParts) {
	if s.cfg.Events {
		s.events = newEvents(s, p)
	}
}

// events serves /events/<application>.
type events struct {
	EventParts
	server  *Server
	readers readers
	count   eventCounts
}

func newEvents(s *Server, p EventParts) *events {
	e := &events{EventParts: p, server: s}
	e.readers.list = map[*reading]struct{}{}
	e.readers.members = map[string]*reading{}
	return e
}

const eventsPath = "/events/"

// serves says whether a request is for the logs, and not for a plugin.
func (e *events) serves(r *http.Request) bool {
	return e != nil && strings.HasPrefix(r.URL.EscapedPath(), eventsPath)
}

// target is what a path below /events/ names.
func (e *events) target(r *http.Request) (application string, ack bool, status int, why string) {
	rest := strings.TrimPrefix(r.URL.EscapedPath(), eventsPath)
	name, rest, more := strings.Cut(rest, "/")
	application, err := url.PathUnescape(name)
	ack = more && rest == "ack"
	switch {
	case err != nil || application == "" || more && !ack:
		return "", false, http.StatusNotFound, "there is nothing at this path; it is /events/<application>, or /events/<application>/ack"
	case e.server.cfg.Application != "" && application != e.server.cfg.Application:
		return "", false, http.StatusForbidden, "no such application, or no right to use it here"
	}
	return application, ack, 0, ""
}

// answer serves one request and returns the status that its client got.
func (e *events) answer(w http.ResponseWriter, r *http.Request, begin time.Time) int {
	if status, why := e.server.improper(r); status != 0 {
		return refuse(w, status, why)
	}
	application, ack, status, why := e.target(r)
	if status != 0 {
		return refuse(w, status, why)
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.server.cfg.RequestTimeout)
	defer cancel()
	g, err := e.server.authenticate(ctx, r, begin)
	if err != nil {
		return e.server.refuseCredentials(w, r, err)
	}
	switch {
	case ack && r.Method == http.MethodPost:
		return e.acknowledge(w, r, g, application)
	case !ack && r.Method == http.MethodPost:
		return e.post(w, r, g, application, begin)
	case !ack && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return e.get(w, r, g, application)
	}
	w.Header().Set("Allow", map[bool]string{true: "POST", false: "GET, HEAD, POST"}[ack])
	return refuse(w, http.StatusMethodNotAllowed, "GET reads events, and POST sends or acknowledges them")
}

// topic is the topic that posted events have for rights and routes.
func (e *events) topic(r *http.Request) (string, error) {
	name := r.URL.Query().Get("topic")
	if name == "" {
		name = "events"
	}
	if !event.ValidTopic(name) {
		return "", fmt.Errorf("the topic %.100q is no MQTT topic name: it has no wildcards and no control characters", name)
	}
	return name, nil
}

// mayPost says why somebody may not send events to an application; status 0: they may.
func (e *events) mayPost(ctx context.Context, g *access.Grant, application, topic string) (status int, why string) {
	if g.Device == "" {
		if g.MayWrite(application) {
			return 0, ""
		}
		return http.StatusForbidden, "no such application, or no right to write to it"
	}
	if g.Application != application {
		return http.StatusForbidden, "the device belongs to another application"
	}
	for _, filter := range g.Publish {
		if event.Permits(filter, topic) {
			if e.Authority.Authorize(ctx, g, access.Publish, topic, 1, false) == nil {
				return 0, ""
			}
			break
		}
	}
	return http.StatusForbidden, fmt.Sprintf("no right to publish to the topic %s; ?topic= names another", topic)
}
