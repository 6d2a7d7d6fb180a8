package config

import (
	"fmt"
	"slices"
)

// Strays says which routes name an application that is not among those that are
// there, with the name that may have been meant. They are no mistakes for sure, as
// an application can be made at any time, so nothing is refused because of them.
// Where only declared applications are known, alike leaves out those that resemble
// none of them: these were most likely made at run time.
func (c *Config) Strays(there []string, alike bool) (warnings []string) {
	for i, r := range c.Router.Routes {
		near := didYouMean(r.Application, there)
		if r.Application == "*" || slices.Contains(there, r.Application) || alike && near == "" {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("routes[%d].application is %q, and no application of this name is there yet%s", i, r.Application, near))
	}
	return warnings
}
