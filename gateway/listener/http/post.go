package http

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// post takes CloudEvents in. It answers 204 once all that comes of them is durable.
func (e *events) post(w http.ResponseWriter, r *http.Request, g *access.Grant, application string, begin time.Time) int {
	s := e.server
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		return refuse(w, http.StatusServiceUnavailable, "the gateway handles as many requests as it may at once; try again")
	}
	topic, err := e.topic(r)
	if err != nil {
		return refuse(w, http.StatusBadRequest, err.Error())
	}
	if status, why := e.mayPost(r.Context(), g, application, topic); status != 0 {
		return refuse(w, status, why)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxBodyBytes)))
	s.stats.received.Add(uint64(len(body)))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		status, why := s.tooLarge()
		return refuse(w, status, why)
	}
	if err != nil {
		return refuse(w, http.StatusBadRequest, "the body could not be read")
	}
	sent, bad := readEvents(r.Header, body, s.cfg.MaxBatchEvents)
	if bad != nil {
		e.count.refused.Add(1)
		return refuseEvent(w, bad.status, bad.why, bad.batch, bad.index)
	}
	if len(sent) == 0 { // a batch may be empty
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	if wait, who := e.Rates.Charge(g, len(sent), len(body)); who != "" {
		e.count.refused.Add(uint64(len(sent)))
		w.Header().Set("Retry-After", strconv.Itoa(1+int(wait/time.Second)))
		return refuse(w, http.StatusTooManyRequests, "more events or bytes than the rate of the "+who)
	}
	all := make([]*event.Inbound, len(sent))
	for i := range sent {
		all[i] = e.inbound(r, g, application, topic, &sent[i], begin)
	}
	return e.submit(w, r, all)
}

// inbound makes the inbound event of a CloudEvent: what MQTT makes of one in a PUBLISH.
func (e *events) inbound(r *http.Request, g *access.Grant, application, topic string, sent *sentEvent, now time.Time) *event.Inbound {
	in := &event.Inbound{
		Event: event.Event{
			ID: e.server.ids.Next(now), Type: event.TypePublish, Subject: topic, Time: now.UTC(),
			Application: application, Device: g.Device, Sender: g.Device,
		},
		Transport: event.Transport{
			Protocol: "http", Topic: topic, QoS: 1, Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
			Username: g.Principal, Peer: r.RemoteAddr, Properties: headers(r),
		},
		Sent: &event.Sent{ContentType: sent.contentType, Payload: sent.payload},
	}
	if g.Device == "" { // a service says which device it is about, and the router whether there is one
		in.Event.Device = sent.Device
	}
	in.Event.Source = stage.Source(application, in.Event.Device)
	stage.Adopt(in, &sent.Event)
	return in
}

// submit hands events to the router and answers with what became of them.
func (e *events) submit(w http.ResponseWriter, r *http.Request, all []*event.Inbound) int {
	outcome := make(chan stage.Outcome, 1)
	done := func(o stage.Outcome) { outcome <- o }
	if len(all) == 1 {
		e.Router.Submit(all[0], nil, done)
	} else {
		e.Router.SubmitBatch(all, done)
	}
	wait := time.NewTimer(e.server.cfg.RequestTimeout)
	defer wait.Stop()
	select {
	case o := <-outcome:
		return e.respond(w, &o, len(all))
	case <-wait.C:
		return refuse(w, http.StatusGatewayTimeout, "the events were not handled in time; they may still be")
	case <-r.Context().Done():
		return statusGone
	}
}

func (e *events) respond(w http.ResponseWriter, o *stage.Outcome, n int) int {
	switch {
	case o.Unavailable:
		w.Header().Set("Retry-After", "1")
		return refuse(w, http.StatusServiceUnavailable, "the gateway cannot store events at the moment; try again")
	case o.Code.Refused(), o.Code == event.NoMatchingSubscribers:
		e.count.refused.Add(uint64(n))
		status := statusOf(o.Code)
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		return refuseEvent(w, status, o.Reason, n > 1, o.Index)
	}
	e.count.received.Add(uint64(n))
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// refuseEvent is refuse with the index of the event at fault in a batch, from 0.
func refuseEvent(w http.ResponseWriter, status int, why string, batch bool, index int) int {
	if !batch {
		return refuse(w, status, why)
	}
	body, _ := json.Marshal(struct { // strings and numbers never fail
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Index  int    `json:"index"`
	}{http.StatusText(status), status, why, index})
	return writeProblem(w, status, body)
}
