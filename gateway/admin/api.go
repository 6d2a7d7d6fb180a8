package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tributary.io/gateway/resource"
)

// Registry is what the API needs of the registry. Errors of changes are a
// *stage.Fault, or mean that nothing was decided.
type Registry interface {
	// Authenticate returns the token that a secret is.
	Authenticate(secret string) (resource.Token, bool)

	// NewApplication and NewDevice return entries at their defaults.
	NewApplication(name string) resource.Application
	NewDevice(application, name string) resource.Device

	Application(name string) (resource.Application, bool)
	ListApplications(after string, fn func(resource.Application) bool)
	PutApplication(a resource.Application, pre resource.Precondition) (now resource.Application, created bool, err error)
	DeleteApplication(name string, purge bool, pre resource.Precondition) error

	// LookUp returns a device by its name or an alias.
	LookUp(application, name string) (resource.Device, bool)
	ListDevices(application, after string, fn func(resource.Device) bool)
	PutDevice(d resource.Device, pre resource.Precondition) (now resource.Device, created bool, err error)
	DeleteDevice(application, name string, pre resource.Precondition) error

	User(name string) (resource.User, bool)
	ListUsers(after string, fn func(resource.User) bool)
	PutUser(u resource.User, pre resource.Precondition) (now resource.User, created bool, err error)
	DeleteUser(name string, pre resource.Precondition) error

	AddCredential(owner resource.Owner, nc resource.NewCredential) (c resource.Credential, shown string, err error)
	RemoveCredential(owner resource.Owner, id string) error

	Token(name string) (resource.Token, bool)
	ListTokens(after string, fn func(resource.Token) bool)
	CreateToken(t resource.Token) (now resource.Token, secret string, err error)
	DeleteToken(name string, pre resource.Precondition) error
}

// Connections is what the API needs of the listeners.
type Connections interface {
	// Connections returns the connections and kept sessions that match, at most
	// limit of them, in the order of namespace and client id and behind the given
	// one.
	Connections(match func(*resource.Connection) bool, afterNamespace, afterClientID string, limit int) []resource.Connection
	// Kick ends the connection of a client (0x98, administrative action); with
	// forget its session, too. It is false where there is neither.
	Kick(namespace, clientID string, forget bool) bool
}

// Groups is what the API needs of the consumers.
type Groups interface {
	Groups(application string) []resource.Group
	DeleteGroup(application string, quarantine bool, name string) error
}

// maxBody bounds a request's body.
const maxBody = 64 << 10

// api serves the REST API.
type api struct {
	registry    Registry
	routed      func(application string) bool
	connections Connections
	groups      Groups
	log         *slog.Logger
	throttle    *throttle
	document    []byte // OpenAPI
	page        []byte // HTML made of it
	policy      string // Content-Security-Policy of the page
}

func newAPI(parts Parts, log *slog.Logger) *api {
	a := &api{registry: parts.Registry, routed: parts.Routed, connections: parts.Connections, groups: parts.Groups, log: log,
		throttle: newThrottle(), document: openAPI()}
	var err error
	if a.page, a.policy, err = render(a.document); err != nil {
		log.Error("the page about the admin API cannot be made", "error", err)
	}
	return a
}

// guard lets holders of a token through.
func (a *api) guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, p := a.authenticate(w.Header(), req); p != nil {
			a.fail(w, p)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// call is one request to one route.
type call struct {
	*http.Request
	*api
	token  resource.Token
	header http.Header // of the answer
	status int         // of the answer, where it is not the route's own
}

// problem is an error answer (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"` // the member or parameter that is wrong
}

func (p *problem) Error() string { return p.Detail }

func failed(status int, field, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// register puts the routes of the API into a mux.
func (a *api) register(mux *http.ServeMux) {
	for _, r := range routes() {
		mux.HandleFunc(r.method+" "+prefix+r.path, func(w http.ResponseWriter, req *http.Request) { a.serve(w, req, &r) })
	}
	// The documents are the same in every gateway and say nothing about this one.
	mux.HandleFunc("GET "+prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(a.document)
	})
	mux.HandleFunc("GET /api/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", a.policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(a.page)
	})
	// Whoever has no token is not told what there is.
	mux.HandleFunc("/api/", func(w http.ResponseWriter, req *http.Request) {
		if _, p := a.authenticate(w.Header(), req); p != nil {
			a.fail(w, p)
			return
		}
		allowed := methodsOf(req.URL.Path)
		if len(allowed) == 0 {
			a.fail(w, failed(http.StatusNotFound, "", "there is no %s; see /api/", req.URL.Path))
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		a.fail(w, failed(http.StatusMethodNotAllowed, "", "%s takes %s", req.URL.Path, strings.Join(allowed, ", ")))
	})
}

// serve answers a request to a route.
func (a *api) serve(w http.ResponseWriter, req *http.Request, r *route) {
	token, p := a.authenticate(w.Header(), req)
	if p == nil {
		p = r.permits(&token, req)
	}
	if p == nil {
		p = r.knows(req)
	}
	if p != nil {
		a.fail(w, p)
		return
	}
	c := &call{Request: req, api: a, token: token, header: w.Header(), status: r.status}
	req.Body = http.MaxBytesReader(w, req.Body, maxBody)
	answer, err := r.run(c)
	if err != nil {
		p := a.problem(err)
		if r.method != http.MethodGet {
			a.audit(c, r, p.Status)
		}
		a.fail(w, p)
		return
	}
	if r.method != http.MethodGet {
		a.audit(c, r, c.status)
	}
	w.Header().Set("Cache-Control", "no-store")
	if answer == nil {
		w.WriteHeader(c.status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(c.status)
	json.NewEncoder(w).Encode(answer) // an error is the client's going away
}

// audit logs who changed what, also in vain. Paths hold names and no secrets.
func (a *api) audit(c *call, r *route, status int) {
	a.log.Info("admin API", "operation", r.id, "path", c.URL.EscapedPath(), "status", status, "token", c.token.Name, "peer", c.RemoteAddr)
}

// authenticate finds the token of a request.
func (a *api) authenticate(answer http.Header, req *http.Request) (resource.Token, *problem) {
	scheme, secret, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if scheme == "" {
		answer.Set("WWW-Authenticate", `Bearer realm="tributary"`)
		return resource.Token{}, failed(http.StatusUnauthorized, "", "a token is needed: Authorization: Bearer <token>")
	}
	token, ok := resource.Token{}, false
	if strings.EqualFold(scheme, "Bearer") {
		token, ok = a.registry.Authenticate(strings.TrimSpace(secret))
	}
	if ok {
		return token, nil
	}
	peer, _ := netip.ParseAddrPort(req.RemoteAddr)
	if wait := a.throttle.failed(peer.Addr()); wait > 0 {
		answer.Set("Retry-After", strconv.Itoa(wait))
		return token, failed(http.StatusTooManyRequests, "", "too many wrong tokens came from this address; wait")
	}
	answer.Set("WWW-Authenticate", `Bearer realm="tributary", error="invalid_token"`)
	return token, failed(http.StatusUnauthorized, "", "the token is wrong, expired or revoked")
}

// permits says whether the holder of a token may use the route.
func (r *route) permits(token *resource.Token, req *http.Request) *problem {
	switch {
	case !token.Role.Includes(r.role):
		return failed(http.StatusForbidden, "", "this needs the role %s; the token %s has %s", r.role, token.Name, token.Role)
	case r.scope == everything && len(token.Applications) > 0:
		return failed(http.StatusForbidden, "", "the token %s is for some applications only", token.Name)
	case r.scope == one && !mayUse(token, req.PathValue("application")):
		return failed(http.StatusForbidden, "", "the token %s is not for application %s", token.Name, req.PathValue("application"))
	}
	return nil
}

// mayUse says whether a token is for an application.
func mayUse(token *resource.Token, application string) bool {
	return len(token.Applications) == 0 || slices.Contains(token.Applications, application)
}

// knows refuses parameters that the route does not have.
func (r *route) knows(req *http.Request) *problem {
	for name := range req.URL.Query() {
		if !slices.ContainsFunc(r.query, func(p param) bool { return p.name == name }) {
			return failed(http.StatusBadRequest, name, "there is no parameter %s", name)
		}
	}
	return nil
}

// problem words an error.
func (a *api) problem(err error) *problem {
	var p *problem
	var f *resource.Fault
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &f):
		status := http.StatusBadRequest
		switch f.Kind {
		case resource.NotFound:
			status = http.StatusNotFound
		case resource.Conflict:
			status = http.StatusConflict
		case resource.Outdated:
			status = http.StatusPreconditionFailed
		}
		return failed(status, f.Field, "%s", f.Reason)
	}
	a.log.Error("the admin API could not do what was asked", "error", err)
	return failed(http.StatusServiceUnavailable, "", "nothing was changed, because it could not be stored; see the gateway's log")
}

func (a *api) fail(w http.ResponseWriter, p *problem) { refuse(w, p) }

// refuse answers with a problem.
func refuse(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
