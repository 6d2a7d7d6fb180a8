package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"tributary.io/gateway/access"
	"tributary.io/gateway/registry"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// retain has the store keep the logs of every application as long as the
// registry says, now and after each change of an application. Those of deleted
// ones are kept like that, too.
func retain(reg *registry.Registry, st durable) error {
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
	reg.Watch(func(c access.Change) {
		if c == (access.Change{}) { // an application; devices and users have no log
			apply() // it fails when the store is closed
		}
	})
	return apply()
}

// purger also deletes what the other stages keep of an application that is
// purged: MQTT sessions and retained messages, the state of plugins, their timers
// and HTTP calls, and the positions of groups. What a crash interrupted or a failure
// left over is purged at the next start.
type purger struct {
	*registry.Registry
	store durable
	log   *slog.Logger
	later []interface {
		Purge(application string) error
	}
}

func (p purger) DeleteApplication(name string, purge bool, pre resource.Precondition) error {
	if err := p.Registry.DeleteApplication(name, purge, pre); err != nil || !purge {
		return err
	}
	p.purge(name) // the application is gone, also if something is left over
	return nil
}

// resume purges what was deleted before this start. It is called before clients may connect.
func (p purger) resume() {
	for _, name := range p.Purging() {
		p.log.Info("purging what is left of a deleted application", "application", name)
		p.purge(name)
	}
}

func (p purger) purge(name string) {
	var errs []error
	for _, r := range []store.Range{
		store.Prefix(store.State, name+"\x00"),
		store.Prefix(store.Cursor, string(store.Events(name))+"\x00"),
		store.Prefix(store.Cursor, string(store.Quarantine(name))+"\x00"),
	} {
		errs = append(errs, store.DeleteRange(p.store, r, nil, nil))
	}
	for _, l := range p.later {
		errs = append(errs, l.Purge(name))
	}
	err := errors.Join(errs...)
	if err == nil {
		err = p.Purged(name)
	}
	if err != nil {
		p.log.Error("not everything of a deleted application could be purged; the next start of the gateway tries again", "application", name,
			"error", err)
	}
}

// leaveToken writes an admin token into a file that only the owner can read, for
// the command line on this machine. Without it the gateway still works.
func (s *Server) leaveToken(reg *registry.Registry) {
	file := s.cfg.Admin.TokenFile
	if file == "" || s.cfg.Admin.Address == "" {
		return
	}
	if err := writePrivate(file, reg.LocalToken()+"\n"); err != nil {
		s.log.Error("the admin token for this machine could not be written; see admin.token_file", "error", err)
	}
}

// writePrivate puts a file into place that only its owner can read. A file that was there, and
// open to others, is replaced.
func writePrivate(file, content string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
