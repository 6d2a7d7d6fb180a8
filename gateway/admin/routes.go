package admin

import (
	"net/http"
	"strings"

	"tributary.io/gateway/resource"
)

// prefix is where the API is served.
const prefix = "/api/v1"

// scope says which applications a route is about.
type scope uint8

const (
	everything scope = iota // what belongs to no application: only for tokens without a list of them
	one                     // the one that the path names
	filtered                // the route shows what the token is for
)

// param is a parameter of a query.
type param struct {
	name, about string
	kind        string // of JSON Schema
}

// route is one operation of the API: how it is served, and how it is described
// in the OpenAPI document. Entries of the table look alike; each says all about its
// operation.
type route struct {
	method, path string // the path below prefix, with {names}
	id           string
	summary      string
	role         resource.Role
	scope        scope
	query        []param
	conditional  bool // takes If-Match and If-None-Match, where it makes sense
	body, answer any  // values of the types; nil: none
	status       int
	created      bool // may answer 201 instead
	run          func(c *call) (any, error)
}

// paths that are used more than once.
const (
	applicationPath = "/applications/{application}"
	devicePath      = applicationPath + "/devices/{device}"
	userPath        = "/users/{user}"
)

// The parameters of lists.
func paged(more ...param) []param {
	return append([]param{
		{"after", "cursor: next of the page before", "string"},
		{"limit", "most entries of a page, 1 to 1000; 100 if not given", "integer"},
	}, more...)
}

// routes is the table of all operations.
func routes() []route {
	get, put, post, del := http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	namePrefix := param{"prefix", "only names that begin with this", "string"}
	quarantine := param{"quarantine", "true: the group reads the quarantine", "boolean"}
	return []route{
		{
			method: get, path: "/applications", id: "listApplications", summary: "List applications",
			role: resource.Reader, scope: filtered, status: 200, run: (*call).listApplications,
			query:  paged(),
			answer: page[resource.Application]{},
		},
		{
			method: get, path: applicationPath, id: "getApplication", summary: "Show an application",
			role: resource.Reader, scope: one, status: 200, run: (*call).getApplication,
			answer: resource.Application{},
		},
		{
			method: put, path: applicationPath, id: "putApplication", summary: "Create an application or replace its settings",
			role: resource.Admin, scope: one, conditional: true, status: 200, created: true, run: (*call).putApplication,
			body: resource.Application{}, answer: resource.Application{},
		},
		{
			method: del, path: applicationPath, id: "deleteApplication", summary: "Delete an application with its devices",
			role: resource.Admin, scope: one, conditional: true, status: 204, run: (*call).deleteApplication,
			query: []param{{"purge", "true: its log and quarantine go soon, and not by their retention", "boolean"}},
		},

		{
			method: get, path: applicationPath + "/devices", id: "listDevices", summary: "List devices",
			role: resource.Reader, scope: one, status: 200, run: (*call).listDevices,
			query:  paged(namePrefix),
			answer: page[resource.Device]{},
		},
		{
			method: get, path: devicePath, id: "getDevice", summary: "Show a device, by its name or an alias",
			role: resource.Reader, scope: one, status: 200, run: (*call).getDevice,
			answer: resource.Device{},
		},
		{
			method: put, path: devicePath, id: "putDevice", summary: "Create a device or replace its settings; its credentials stay",
			role: resource.Operator, scope: one, conditional: true, status: 200, created: true, run: (*call).putDevice,
			body: resource.Device{}, answer: resource.Device{},
		},
		{
			method: del, path: devicePath, id: "deleteDevice", summary: "Delete a device with its credentials",
			role: resource.Operator, scope: one, conditional: true, status: 204, run: (*call).deleteDevice,
		},
		{
			method: post, path: devicePath + "/credentials", id: "createDeviceCredential",
			summary: "Give a device a credential; its secret is shown once",
			role:    resource.Operator, scope: one, status: 201, run: (*call).addDeviceCredential,
			body: resource.NewCredential{}, answer: issued{},
		},
		{
			method: del, path: devicePath + "/credentials/{credential}", id: "deleteDeviceCredential",
			summary: "Revoke a credential; connections that it opened end",
			role:    resource.Operator, scope: one, status: 204, run: (*call).removeDeviceCredential,
		},

		{
			method: get, path: applicationPath + "/groups", id: "listGroups", summary: "List consumer groups",
			role: resource.Reader, scope: one, status: 200, run: (*call).listGroups,
			answer: page[resource.Group]{},
		},
		{
			method: del, path: applicationPath + "/groups/{group}", id: "deleteGroup", summary: "Forget a consumer group and its position",
			role: resource.Operator, scope: one, status: 204, run: (*call).deleteGroup,
			query: []param{quarantine},
		},

		{
			method: get, path: "/users", id: "listUsers", summary: "List users",
			role: resource.Reader, scope: everything, status: 200, run: (*call).listUsers,
			query:  paged(namePrefix),
			answer: page[resource.User]{},
		},
		{
			method: get, path: userPath, id: "getUser", summary: "Show a user",
			role: resource.Reader, scope: everything, status: 200, run: (*call).getUser,
			answer: resource.User{},
		},
		{
			method: put, path: userPath, id: "putUser", summary: "Create a user or replace its settings; its credentials stay",
			role: resource.Admin, scope: everything, conditional: true, status: 200, created: true, run: (*call).putUser,
			body: resource.User{}, answer: resource.User{},
		},
		{
			method: del, path: userPath, id: "deleteUser", summary: "Delete a user with its credentials",
			role: resource.Admin, scope: everything, conditional: true, status: 204, run: (*call).deleteUser,
		},
		{
			method: post, path: userPath + "/credentials", id: "createUserCredential", summary: "Give a user a credential; its secret is shown once",
			role: resource.Admin, scope: everything, status: 201, run: (*call).addUserCredential,
			body: resource.NewCredential{}, answer: issued{},
		},
		{
			method: del, path: userPath + "/credentials/{credential}", id: "deleteUserCredential",
			summary: "Revoke a credential; connections that it opened end",
			role:    resource.Admin, scope: everything, status: 204, run: (*call).removeUserCredential,
		},

		{
			method: get, path: "/tokens", id: "listTokens", summary: "List admin tokens",
			role: resource.Admin, scope: everything, status: 200, run: (*call).listTokens,
			query:  paged(),
			answer: page[resource.Token]{},
		},
		{
			method: post, path: "/tokens", id: "createToken", summary: "Create an admin token; it is shown once",
			role: resource.Admin, scope: everything, status: 201, run: (*call).createToken,
			body: newToken{}, answer: issuedToken{},
		},
		{
			method: get, path: "/tokens/{token}", id: "getToken", summary: "Show an admin token",
			role: resource.Admin, scope: everything, status: 200, run: (*call).getToken,
			answer: resource.Token{},
		},
		{
			method: del, path: "/tokens/{token}", id: "deleteToken", summary: "Revoke an admin token",
			role: resource.Admin, scope: everything, conditional: true, status: 204, run: (*call).deleteToken,
		},

		{
			method: get, path: "/connections", id: "listConnections", summary: "List connections and kept sessions",
			role: resource.Reader, scope: filtered, status: 200, run: (*call).listConnections,
			query: paged(
				param{"application", "only of this application", "string"}, param{"device", "only of this device", "string"},
				param{"clientId", "only with this client id", "string"}, param{"principal", "only of this principal", "string"},
				param{"online", "true: connected ones; false: kept sessions without a connection", "boolean"},
			),
			answer: page[resource.Connection]{},
		},
		{
			method: del, path: "/connections/{namespace}/{clientId}", id: "deleteConnection", summary: "End a connection",
			role: resource.Operator, scope: filtered, status: 204, run: (*call).kick,
			query: []param{{"forget", "true: its session, too", "boolean"}},
		},
	}
}

// methodsOf returns the methods of the routes that a path fits.
func methodsOf(path string) (methods []string) {
	given := strings.Split(strings.TrimPrefix(path, prefix), "/")
	for _, r := range routes() {
		parts := strings.Split(r.path, "/")
		fits := len(parts) == len(given)
		for i := range parts {
			fits = fits && (strings.HasPrefix(parts[i], "{") && given[i] != "" || parts[i] == given[i])
		}
		if fits {
			methods = append(methods, r.method)
		}
	}
	return methods
}
