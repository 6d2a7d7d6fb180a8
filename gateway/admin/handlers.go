package admin

import (
	"net/http"
	"strings"
	"time"

	"tributary.io/gateway/resource"
)

// page is one page of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"` // give it as after to get the next page
}

// issued is a new credential with its secret.
type issued struct {
	resource.Credential
	// Secret is the key or password that was made; it is shown here only. Empty
	// where the request brought the secret.
	Secret string `json:"secret,omitempty"`
}

// newToken asks for an admin token.
type newToken struct {
	Name         string        `json:"name"`
	Role         resource.Role `json:"role"`
	Applications []string      `json:"applications,omitempty"`
	Expires      time.Time     `json:"expires,omitzero"`
}

// issuedToken is a new admin token with its secret.
type issuedToken struct {
	resource.Token
	Secret string `json:"secret"`
}

// collect makes a page of what list offers behind a name, as far as keep takes it.
func collect[T any](c *call, list func(after string, fn func(T) bool), name func(*T) string, keep func(*T) bool) (any, error) {
	after, limit, err := c.paging()
	if err != nil {
		return nil, err
	}
	p := page[T]{Items: []T{}}
	list(after, func(item T) bool {
		if !keep(&item) {
			return true
		}
		if len(p.Items) == limit {
			p.Next = cursor(name(&p.Items[limit-1]))
			return false
		}
		p.Items = append(p.Items, item)
		return true
	})
	return p, nil
}

// begins keeps entries whose names begin as the parameter prefix says.
func begins[T any](c *call, name func(*T) string) func(*T) bool {
	head := c.URL.Query().Get("prefix")
	return func(item *T) bool { return strings.HasPrefix(name(item), head) }
}

// shown answers with an entry, or that there is none.
func shown[T any](c *call, v T, e *resource.Entry, ok bool, what string) (any, error) {
	if !ok {
		return nil, failed(http.StatusNotFound, "", "there is no %s", what)
	}
	c.tag(e)
	return v, nil
}

// stored answers with an entry that was made or changed.
func stored[T any](c *call, v T, e *resource.Entry, created bool, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	if created {
		c.status = http.StatusCreated
	}
	c.tag(e)
	return v, nil
}

func applicationName(a *resource.Application) string { return a.Name }
func deviceName(d *resource.Device) string           { return d.Name }
func userName(u *resource.User) string               { return u.Name }
func tokenName(t *resource.Token) string             { return t.Name }

func (c *call) listApplications() (any, error) {
	return collect(c, c.registry.ListApplications, applicationName, func(a *resource.Application) bool {
		a.Routed = c.routed(a.Name)
		return mayUse(&c.token, a.Name)
	})
}

func (c *call) getApplication() (any, error) {
	a, ok := c.registry.Application(c.PathValue("application"))
	a.Routed = c.routed(a.Name)
	return shown(c, a, &a.Entry, ok, "application "+c.PathValue("application"))
}

func (c *call) putApplication() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	name := c.PathValue("application")
	a := c.registry.NewApplication(name)
	if err := c.decode(&a); err != nil {
		return nil, err
	}
	if err := named("name", name, &a.Name); err != nil {
		return nil, err
	}
	a.Routed = false // it is no setting
	now, created, err := c.registry.PutApplication(a, pre)
	now.Routed = c.routed(now.Name)
	return stored(c, now, &now.Entry, created, err)
}

func (c *call) deleteApplication() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	purge, _, err := c.flag("purge")
	if err != nil {
		return nil, err
	}
	return nil, c.registry.DeleteApplication(c.PathValue("application"), purge, pre)
}

func (c *call) listDevices() (any, error) {
	application := c.PathValue("application")
	if _, ok := c.registry.Application(application); !ok {
		return nil, failed(http.StatusNotFound, "", "there is no application %s", application)
	}
	return collect(c, func(after string, fn func(resource.Device) bool) {
		c.registry.ListDevices(application, after, fn)
	}, deviceName, begins(c, deviceName))
}

func (c *call) getDevice() (any, error) {
	d, ok := c.registry.LookUp(c.PathValue("application"), c.PathValue("device"))
	return shown(c, d, &d.Entry, ok, "device "+c.PathValue("device")+" in application "+c.PathValue("application"))
}

func (c *call) putDevice() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	application, name := c.PathValue("application"), c.PathValue("device")
	d := c.registry.NewDevice(application, name)
	if err := c.decode(&d); err != nil {
		return nil, err
	}
	if err := named("application", application, &d.Application); err != nil {
		return nil, err
	}
	if err := named("name", name, &d.Name); err != nil {
		return nil, err
	}
	now, created, err := c.registry.PutDevice(d, pre)
	return stored(c, now, &now.Entry, created, err)
}

func (c *call) deleteDevice() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	return nil, c.registry.DeleteDevice(c.PathValue("application"), c.PathValue("device"), pre)
}

func (c *call) device() resource.Owner {
	return resource.Owner{Application: c.PathValue("application"), Name: c.PathValue("device")}
}

func (c *call) user() resource.Owner { return resource.Owner{Name: c.PathValue("user")} }

func (c *call) addDeviceCredential() (any, error)    { return c.addCredential(c.device()) }
func (c *call) addUserCredential() (any, error)      { return c.addCredential(c.user()) }
func (c *call) removeDeviceCredential() (any, error) { return c.removeCredential(c.device()) }
func (c *call) removeUserCredential() (any, error)   { return c.removeCredential(c.user()) }

func (c *call) addCredential(owner resource.Owner) (any, error) {
	var nc resource.NewCredential
	if err := c.decode(&nc); err != nil {
		return nil, err
	}
	made, secret, err := c.registry.AddCredential(owner, nc)
	if err != nil {
		return nil, err
	}
	return issued{made, secret}, nil
}

func (c *call) removeCredential(owner resource.Owner) (any, error) {
	return nil, c.registry.RemoveCredential(owner, c.PathValue("credential"))
}

func (c *call) listUsers() (any, error) {
	return collect(c, c.registry.ListUsers, userName, begins(c, userName))
}

func (c *call) getUser() (any, error) {
	u, ok := c.registry.User(c.PathValue("user"))
	return shown(c, u, &u.Entry, ok, "user "+c.PathValue("user"))
}

func (c *call) putUser() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	var u resource.User
	if err := c.decode(&u); err != nil {
		return nil, err
	}
	if err := named("name", c.PathValue("user"), &u.Name); err != nil {
		return nil, err
	}
	now, created, err := c.registry.PutUser(u, pre)
	return stored(c, now, &now.Entry, created, err)
}

func (c *call) deleteUser() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	return nil, c.registry.DeleteUser(c.PathValue("user"), pre)
}

func (c *call) listTokens() (any, error) {
	return collect(c, c.registry.ListTokens, tokenName, func(*resource.Token) bool { return true })
}

func (c *call) getToken() (any, error) {
	t, ok := c.registry.Token(c.PathValue("token"))
	return shown(c, t, &t.Entry, ok, "token "+c.PathValue("token"))
}

func (c *call) createToken() (any, error) {
	var n newToken
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	made, secret, err := c.registry.CreateToken(resource.Token{Name: n.Name, Role: n.Role, Applications: n.Applications, Expires: n.Expires})
	if err != nil {
		return nil, err
	}
	c.tag(&made.Entry)
	return issuedToken{made, secret}, nil
}

func (c *call) deleteToken() (any, error) {
	pre, err := c.precondition()
	if err != nil {
		return nil, err
	}
	return nil, c.registry.DeleteToken(c.PathValue("token"), pre)
}

func (c *call) listGroups() (any, error) {
	application := c.PathValue("application")
	if _, ok := c.registry.Application(application); !ok {
		return nil, failed(http.StatusNotFound, "", "there is no application %s", application)
	}
	return page[resource.Group]{Items: append([]resource.Group{}, c.groups.Groups(application)...)}, nil
}

func (c *call) deleteGroup() (any, error) {
	quarantine, _, err := c.flag("quarantine")
	if err != nil {
		return nil, err
	}
	return nil, c.groups.DeleteGroup(c.PathValue("application"), quarantine, c.PathValue("group"))
}

// maySee says whether a connection belongs to what the token is for. The
// namespace of devices and anonymous clients is their application.
func (c *call) maySee(namespace string) bool { return mayUse(&c.token, namespace) }

func (c *call) listConnections() (any, error) {
	after, limit, err := c.paging()
	if err != nil {
		return nil, err
	}
	online, chosen, err := c.flag("online")
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	is := func(parameter, value string) bool { return !q.Has(parameter) || q.Get(parameter) == value }
	afterNamespace, afterClient, _ := strings.Cut(after, "\x00")
	list := c.connections.Connections(func(one *resource.Connection) bool {
		return c.maySee(one.Namespace) && is("application", one.Application) && is("device", one.Device) &&
			is("clientId", one.ClientID) && is("principal", one.Principal) && (!chosen || one.Online == online)
	}, afterNamespace, afterClient, limit+1)
	p := page[resource.Connection]{Items: append([]resource.Connection{}, list...)}
	if len(list) > limit {
		last := list[limit-1]
		p.Items, p.Next = p.Items[:limit], cursor(last.Namespace+"\x00"+last.ClientID)
	}
	return p, nil
}

func (c *call) kick() (any, error) {
	forget, _, err := c.flag("forget")
	if err != nil {
		return nil, err
	}
	namespace, client := c.PathValue("namespace"), c.PathValue("clientId")
	if !c.maySee(namespace) {
		return nil, failed(http.StatusForbidden, "", "the token %s is not for %s", c.token.Name, namespace)
	}
	if !c.connections.Kick(namespace, client, forget) {
		return nil, failed(http.StatusNotFound, "", "there is no connection of %s in %s", client, namespace)
	}
	return nil, nil
}
