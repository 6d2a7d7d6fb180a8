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
// in the OpenAPI document.
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
		{get, "/applications", "listApplications", "List applications", resource.Reader, filtered, paged(), false, nil, page[resource.Application]{}, 200, false, (*call).listApplications},
		{get, applicationPath, "getApplication", "Show an application", resource.Reader, one, nil, false, nil, resource.Application{}, 200, false, (*call).getApplication},
		{put, applicationPath, "putApplication", "Create an application or replace its settings", resource.Admin, one, nil, true, resource.Application{}, resource.Application{}, 200, true, (*call).putApplication},
		{del, applicationPath, "deleteApplication", "Delete an application with its devices", resource.Admin, one,
			[]param{{"purge", "true: its log and quarantine go soon, and not by their retention", "boolean"}}, true, nil, nil, 204, false, (*call).deleteApplication},

		{get, applicationPath + "/devices", "listDevices", "List devices", resource.Reader, one, paged(namePrefix), false, nil, page[resource.Device]{}, 200, false, (*call).listDevices},
		{get, devicePath, "getDevice", "Show a device, by its name or an alias", resource.Reader, one, nil, false, nil, resource.Device{}, 200, false, (*call).getDevice},
		{put, devicePath, "putDevice", "Create a device or replace its settings; its credentials stay", resource.Operator, one, nil, true, resource.Device{}, resource.Device{}, 200, true, (*call).putDevice},
		{del, devicePath, "deleteDevice", "Delete a device with its credentials", resource.Operator, one, nil, true, nil, nil, 204, false, (*call).deleteDevice},
		{post, devicePath + "/credentials", "createDeviceCredential", "Give a device a credential; its secret is shown once", resource.Operator, one, nil, false, resource.NewCredential{}, issued{}, 201, false, (*call).addDeviceCredential},
		{del, devicePath + "/credentials/{credential}", "deleteDeviceCredential", "Revoke a credential; connections that it opened end", resource.Operator, one, nil, false, nil, nil, 204, false, (*call).removeDeviceCredential},

		{get, applicationPath + "/groups", "listGroups", "List consumer groups", resource.Reader, one, nil, false, nil, page[resource.Group]{}, 200, false, (*call).listGroups},
		{del, applicationPath + "/groups/{group}", "deleteGroup", "Forget a consumer group and its position", resource.Operator, one, []param{quarantine}, false, nil, nil, 204, false, (*call).deleteGroup},

		{get, "/users", "listUsers", "List users", resource.Reader, everything, paged(namePrefix), false, nil, page[resource.User]{}, 200, false, (*call).listUsers},
		{get, userPath, "getUser", "Show a user", resource.Reader, everything, nil, false, nil, resource.User{}, 200, false, (*call).getUser},
		{put, userPath, "putUser", "Create a user or replace its settings; its credentials stay", resource.Admin, everything, nil, true, resource.User{}, resource.User{}, 200, true, (*call).putUser},
		{del, userPath, "deleteUser", "Delete a user with its credentials", resource.Admin, everything, nil, true, nil, nil, 204, false, (*call).deleteUser},
		{post, userPath + "/credentials", "createUserCredential", "Give a user a credential; its secret is shown once", resource.Admin, everything, nil, false, resource.NewCredential{}, issued{}, 201, false, (*call).addUserCredential},
		{del, userPath + "/credentials/{credential}", "deleteUserCredential", "Revoke a credential; connections that it opened end", resource.Admin, everything, nil, false, nil, nil, 204, false, (*call).removeUserCredential},

		{get, "/tokens", "listTokens", "List admin tokens", resource.Admin, everything, paged(), false, nil, page[resource.Token]{}, 200, false, (*call).listTokens},
		{post, "/tokens", "createToken", "Create an admin token; it is shown once", resource.Admin, everything, nil, false, newToken{}, issuedToken{}, 201, false, (*call).createToken},
		{get, "/tokens/{token}", "getToken", "Show an admin token", resource.Admin, everything, nil, false, nil, resource.Token{}, 200, false, (*call).getToken},
		{del, "/tokens/{token}", "deleteToken", "Revoke an admin token", resource.Admin, everything, nil, true, nil, nil, 204, false, (*call).deleteToken},

		{get, "/connections", "listConnections", "List connections and kept sessions", resource.Reader, filtered, paged(
			param{"application", "only of this application", "string"}, param{"device", "only of this device", "string"},
			param{"clientId", "only with this client id", "string"}, param{"principal", "only of this principal", "string"},
			param{"online", "true: connected ones; false: kept sessions without a connection", "boolean"},
		), false, nil, page[resource.Connection]{}, 200, false, (*call).listConnections},
		{del, "/connections/{namespace}/{clientId}", "deleteConnection", "End a connection", resource.Operator, filtered,
			[]param{{"forget", "true: its session, too", "boolean"}}, false, nil, nil, 204, false, (*call).kick},
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
