package registry

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// deleteChunk is how many devices one commit deletes.
const deleteChunk = 500

// DeleteApplication deletes an application with its devices. Its log stays as long as its
// retention says, or goes soon if purge is true. In that case the caller purges what other
// stages keep of the application, and then calls [Registry.Purged].
func (r *Registry) DeleteApplication(name string, purge bool, pre resource.Precondition) error {
	return r.change(func() (*access.Change, error) {
		app := r.view.Load().apps[name]
		if err := permitDelete(app.meta(), pre, "application "+name); err != nil {
			return nil, err
		}
		// Several commits: a crash between them leaves the application with fewer
		// devices, and the caller without an answer.
		names := app.devices.sorted()
		for len(names) > 0 {
			var b store.Batch
			chunk := names[:min(len(names), deleteChunk)]
			for _, device := range chunk {
				b.Deletes = append(b.Deletes, store.Key{Kind: store.Meta, Name: deviceKey + name + "/" + device})
			}
			if err := store.CommitWait(r.store, &b); err != nil {
				return &access.Change{}, fmt.Errorf("deleting the devices of application %s: %w", name, err)
			}
			for _, device := range chunk {
				d, _ := app.devices.get(device)
				r.place(app, nil, d)
			}
			names = names[len(chunk):]
		}
		kept := retiredRecord{version{recordVersion}, app.RetentionSeconds, app.RetentionBytes}
		var with store.Batch
		if purge {
			kept.RetentionSeconds, kept.RetentionBytes = 0, 1
			with.Puts = append(with.Puts, store.Put{Key: store.Key{Kind: store.Meta, Name: purgingKey + name},
				Value: encode(purgingRecord{version{recordVersion}})})
		}
		with.Puts = append(with.Puts, store.Put{Key: store.Key{Kind: store.Meta, Name: retiredKey + name}, Value: encode(kept)})
		if _, err := r.write(applicationKey+name, app.Revision, nil, with); err != nil {
			return &access.Change{}, err
		}
		r.revise(func(v *view) {
			delete(v.apps, name)
			v.retired[name] = kept.retention()
			if purge {
				v.purging[name] = true
			}
		})
		return &access.Change{}, nil
	})
}

// Retired returns the names of deleted applications whose logs are still kept,
// sorted.
func (r *Registry) Retired() []string { return slices.Sorted(maps.Keys(r.view.Load().retired)) }

// Retention returns how long and how many bytes of an application's log are
// kept, also after it was deleted; 0 means no bound, and so does an application
// that never was.
func (r *Registry) Retention(application string) (age time.Duration, bytes int64) {
	v := r.view.Load()
	if app := v.apps[application]; app != nil {
		return time.Duration(app.RetentionSeconds) * time.Second, app.RetentionBytes
	}
	kept := v.retired[application]
	return kept.age, kept.bytes
}

// Purging returns the names of applications that were deleted to be purged, and of
// which [Registry.Purged] has not said that they are, sorted. No such application
// can be made before, but a file may declare it.
func (r *Registry) Purging() []string { return slices.Sorted(maps.Keys(r.view.Load().purging)) }

// Purged says that no stage keeps anything of a deleted application any more.
func (r *Registry) Purged(name string) error {
	return r.change(func() (*access.Change, error) {
		if err := store.CommitWait(r.store, &store.Batch{Deletes: []store.Key{{Kind: store.Meta, Name: purgingKey + name}}}); err != nil {
			return nil, fmt.Errorf("noting that application %s is purged: %w", name, err)
		}
		r.revise(func(v *view) { delete(v.purging, name) })
		return nil, nil
	})
}
