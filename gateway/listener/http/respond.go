package http

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// respond writes what became of a request and returns the status.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, application string, o *stage.Outcome) int {
	switch {
	case o.Unavailable:
		w.Header().Set("Retry-After", "1")
		return refuse(w, http.StatusServiceUnavailable, "the gateway cannot store events at the moment; try again")
	case o.Reply != nil && o.Reply.File != "" && s.files != nil:
		return s.sendFile(w, r, application, o.Plugin, o.Reply)
	case o.Reply != nil:
		return reply(w, r, o.Reply)
	case o.Code.Refused(), o.Code == event.NoMatchingSubscribers:
		return refuse(w, statusOf(o.Code), o.Reason)
	}
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// statusOf is the HTTP status that says the same as a reason code.
func statusOf(code event.Code) int {
	switch code {
	case event.NoMatchingSubscribers: // no route takes it
		return http.StatusNotFound
	case event.BadUserNameOrPassword:
		return http.StatusUnauthorized
	case event.NotAuthorized:
		return http.StatusForbidden
	case event.PayloadFormatInvalid, event.TopicNameInvalid, event.TopicFilterInvalid:
		return http.StatusBadRequest
	case event.QuotaExceeded:
		return http.StatusTooManyRequests
	case event.ServerUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// reply writes the plugin's answer.
func reply(w http.ResponseWriter, r *http.Request, p *event.Reply) int {
	status := int(p.Code)
	if status == 0 {
		status = http.StatusOK
	}
	if status < 200 || status > 599 {
		return refuse(w, http.StatusBadGateway, "the plugin answered with a status that HTTP does not have")
	}
	h := w.Header()
	copyHeaders(h, p.Headers)
	bodiless := status == http.StatusNoContent || status == http.StatusNotModified
	if !bodiless {
		h.Set("Content-Length", strconv.Itoa(len(p.Payload)))
		if h.Get("Content-Type") == "" && len(p.Payload) > 0 {
			h.Set("Content-Type", "application/json")
		}
	}
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if !bodiless && r.Method != http.MethodHead {
		w.Write(p.Payload) // an error is the client's going away
	}
	return status
}

// copyHeaders adds the headers of a reply that HTTP allows. Those of one name replace
// what the gateway set.
func copyHeaders(h http.Header, list []event.Property) {
	seen := map[string]bool{}
	for _, f := range list {
		if own(f.Name) || !validHeader(f) {
			continue
		}
		if name := http.CanonicalHeaderKey(f.Name); !seen[name] {
			seen[name] = true
			h.Del(name)
		}
		h.Add(f.Name, f.Value)
	}
}

// own are the headers that belong to the connection, and so to the gateway.
func own(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "content-length", "date", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// validHeader says whether a field can stand in a response (RFC 9110 section 5).
func validHeader(f event.Property) bool {
	const marks = "!#$%&'*+-.^_`|~"
	for _, c := range []byte(f.Name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(marks, c) >= 0) {
			return false
		}
	}
	for _, c := range []byte(f.Value) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return f.Name != ""
}

// refuse writes problem details (RFC 9457) and returns the status.
func refuse(w http.ResponseWriter, status int, why string) int { return refuseAs(w, status, why, "") }

// refuseAs is refuse with the name that a plugin's dialect has for the error.
func refuseAs(w http.ResponseWriter, status int, why, name string) int {
	body, _ := json.Marshal(struct { // strings and a number never fail
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Code   string `json:"code,omitempty"`
	}{http.StatusText(status), status, why, name})
	return writeProblem(w, status, body)
}

// writeProblem writes problem details and returns the status.
func writeProblem(w http.ResponseWriter, status int, body []byte) int {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error is the client's going away
	return status
}
