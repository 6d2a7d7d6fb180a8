package server

import (
	"fmt"
	"slices"

	"tributary.io/gateway/registry"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
)

// retain has the store keep the logs of every application as long as the
// registry says, now and after each change of an application. Those of deleted
// ones are kept like that, too.
func retain(reg *registry.Registry, st *pebble.Store) error {
	apply := func() error {
		for _, app := range slices.Concat(reg.Applications(), reg.Retired()) {
			age, bytes := reg.Retention(app)
			for _, l := range []store.Log{store.Events(app), store.Quarantine(app)} {
				if err := st.Retain(l, age, bytes); err != nil {
					return fmt.Errorf("setting the retention of application %s: %w", app, err)
				}
			}
		}
		return nil
	}
	reg.Watch(func(c stage.Change) {
		if c == (stage.Change{}) { // an application; devices and users have no log
			apply() // it fails when the store is closed
		}
	})
	return apply()
}
