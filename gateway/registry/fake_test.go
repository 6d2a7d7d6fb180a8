package registry

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"tributary.io/gateway/access"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// memory is a store in memory that keeps what was committed, as a disk would.
type memory struct {
	mu    sync.Mutex
	last  store.Revision
	items map[store.Key]item
	fail  bool // refuse commits
	blind bool // refuse scans
	after int  // commits that still work before fail is set, when above 0
}

type item struct {
	value []byte
	rev   store.Revision
}

var errDisk = errors.New("the disk is full")

func (m *memory) Commit(b *store.Batch, done func(error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail {
		return errDisk
	}
	if m.after > 0 {
		m.after--
		m.fail = m.after == 0
	}
	for _, e := range b.Expect {
		if m.items[e.Key].rev != e.Revision {
			return store.ErrConflict
		}
	}
	if m.items == nil {
		m.items = map[store.Key]item{}
	}
	m.last++
	for _, p := range b.Puts {
		m.items[p.Key] = item{slices.Clone(p.Value), m.last}
	}
	for _, k := range b.Deletes {
		delete(m.items, k)
	}
	go done(nil)
	return nil
}

func (m *memory) Get(k store.Key) ([]byte, store.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it := m.items[k]
	return it.value, it.rev, nil
}

func (m *memory) Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error {
	m.mu.Lock()
	items, blind := maps.Clone(m.items), m.blind
	m.mu.Unlock()
	if blind {
		return errDisk
	}
	var names []string
	for k := range items {
		if k.Kind == kind && strings.HasPrefix(k.Name, prefix) {
			names = append(names, k.Name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		it := items[store.Key{Kind: kind, Name: name}]
		if !fn(name, it.value, it.rev) {
			break
		}
	}
	return nil
}

// open makes a registry; a nil store is an empty one.
func open(t testing.TB, cfg Config, st *memory) *Registry {
	t.Helper()
	if st == nil {
		st = &memory{}
	}
	r, err := New(cfg, st, discard())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// judge asks the registry about a connection as a chain of passwords and
// anonymous does.
func judge(ctx context.Context, r *Registry, c *access.Credentials) (*access.Grant, error) {
	switch {
	case c.HasPassword && c.HasUsername:
		return r.Login(ctx, c.Username, c.Password)
	case c.HasPassword || c.HasUsername && !strings.HasPrefix(c.Username, "@"):
		return nil, refuse(event.BadUserNameOrPassword, "a user name and a password belong together")
	}
	return r.Anonymous(c)
}
