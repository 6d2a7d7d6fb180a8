package config

import (
	"fmt"
	"maps"
	"slices"

	"tributary.io/gateway/router"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// RouteWarnings says where routes and applications most likely do not mean each other.
// None is a mistake for sure, as an application can be made and changed at any time, so
// nothing is refused because of them. there has the applications that are there, and
// whether they have messaging. Where only declared ones are known, declared leaves out
// what those that were made at run time would explain.
func (c *Config) RouteWarnings(there map[string]bool, declared bool) (warnings []string) {
	names := slices.Sorted(maps.Keys(there))
	for i, r := range c.Router.Routes {
		near := didYouMean(r.Application, names)
		if r.Application == "*" || slices.Contains(names, r.Application) || declared && near == "" {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("routes[%d].application is %q, and no application of this name is there yet%s", i, r.Application,
			near))
	}
	for i := range c.Router.Routes {
		if by := c.shadow(i); by >= 0 {
			warnings = append(warnings, fmt.Sprintf("routes[%d] gets nothing, as routes[%d] stands above it, takes everything that it would, and "+
				"its plugin %s may not pass anything on: put it above", i, by, c.Router.Routes[by].Plugin))
		}
	}
	for _, name := range names {
		if !there[name] && !c.routed(name) {
			warnings = append(warnings, fmt.Sprintf("applications.%s has neither a route nor messaging, so what its devices publish goes into "+
				"quarantine: add a [[routes]] for it, or set messaging", name))
		}
	}
	return warnings
}

// routed says whether any route is for an application.
func (c *Config) routed(application string) bool {
	return slices.ContainsFunc(c.Router.Routes, func(r router.Route) bool { return r.Application == "*" || r.Application == application })
}

// shadow returns the route that leaves nothing for route n, or -1.
func (c *Config) shadow(n int) int {
	below := &c.Router.Routes[n]
	for i := range n {
		r := &c.Router.Routes[i]
		meet := r.Application == "*" || below.Application == "*" || r.Application == below.Application
		if meet && c.Plugins[r.Plugin].Grant.Pass {
			return -1 // what is passed on may be anything
		}
		if takesAll(r, below) {
			return i
		}
	}
	return -1
}

// takesAll says whether a route takes every event that another one would.
func takesAll(r, other *router.Route) bool {
	for name, value := range r.Attributes {
		if other.Attributes[name] != value {
			return false
		}
	}
	return (r.Application == "*" || r.Application == other.Application) &&
		(r.Type == "" || r.Type == other.Type) &&
		(r.Topic == "" || other.Type != "" && other.Type != event.TypePublish && other.Type != event.TypeSubscribe || other.Topic != "" &&
			topic.Covers(r.Topic, other.Topic))
}
