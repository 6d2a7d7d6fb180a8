package mqtt

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tributary.io/gateway/store"
)

// memStore is a store in memory that remembers every commit, so that a test can
// cut it off after any of them. Callbacks run in order on a goroutine of its own.
type memStore struct {
	mu      sync.Mutex
	keys    map[store.Key]store.Put
	base    map[store.Key]store.Put // keys before the first of commits
	commits []store.Batch
	waiting []func(error)
	running bool
	held    bool // nothing becomes durable
	durable int  // commits whose callback was or is being called
	fail    error
	corrupt map[store.Key]bool
}

func newMemStore() *memStore { return &memStore{keys: map[store.Key]store.Put{}} }

func (m *memStore) Commit(b *store.Batch, done func(error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	c := store.Batch{Deletes: slices.Clone(b.Deletes)}
	for _, p := range b.Puts {
		p.Value = slices.Clone(p.Value)
		c.Puts = append(c.Puts, p)
	}
	m.apply(&c)
	m.commits = append(m.commits, c)
	if done == nil {
		done = func(error) {}
	}
	m.waiting = append(m.waiting, done)
	m.start()
	return nil
}

func (m *memStore) apply(b *store.Batch) {
	for _, p := range b.Puts {
		m.keys[p.Key] = p
	}
	for _, k := range b.Deletes {
		delete(m.keys, k)
	}
}

func (m *memStore) start() {
	if m.running || m.held || len(m.waiting) == 0 {
		return
	}
	m.running = true
	go func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for len(m.waiting) > 0 && !m.held {
			done := m.waiting[0]
			m.waiting = m.waiting[1:]
			m.durable++
			m.mu.Unlock()
			done(nil)
			m.mu.Lock()
		}
		m.running = false
	}()
}

// hold stops commits from becoming durable, or lets them.
func (m *memStore) hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
	m.start()
}

// step lets the next commit of a store that is held become durable.
func (m *memStore) step() {
	m.mu.Lock()
	done := m.waiting[0]
	m.waiting = m.waiting[1:]
	m.durable++
	m.mu.Unlock()
	done(nil)
}

func (m *memStore) Get(k store.Key) ([]byte, store.Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.keys[k]
	if !ok {
		return nil, 0, nil
	}
	if m.corrupt[k] {
		return nil, 0, store.ErrCorrupt
	}
	return slices.Clone(p.Value), 1, nil
}

func (m *memStore) Scan(kind store.Kind, prefix string, fn func(string, []byte, store.Revision) bool) error {
	m.mu.Lock()
	var found []store.Put
	for k, p := range m.keys {
		if k.Kind == kind && strings.HasPrefix(k.Name, prefix) && (p.Expires.IsZero() || time.Now().Before(p.Expires)) {
			found = append(found, p)
		}
	}
	corrupt := m.corrupt
	m.mu.Unlock()
	slices.SortFunc(found, func(a, b store.Put) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	for _, p := range found {
		if corrupt[p.Key] {
			return store.ErrCorrupt
		}
		if !fn(p.Key.Name, slices.Clone(p.Value), 1) {
			return nil
		}
	}
	return nil
}

// cut is what a crash leaves when only the first n commits were durable.
func (m *memStore) cut(n int) *memStore {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := newMemStore()
	maps.Copy(left.keys, m.base)
	for i := range m.commits[:n] {
		left.apply(&m.commits[i])
	}
	left.base = maps.Clone(left.keys)
	return left
}

// crash is what a crash of this moment leaves: what is durable, and maybe more.
func (m *memStore) crash() *memStore {
	m.mu.Lock()
	n := m.durable
	m.mu.Unlock()
	return m.cut(n)
}

// names are the keys of a kind that have a prefix.
func (m *memStore) names(kind store.Kind, prefix string) (list []string) {
	m.Scan(kind, prefix, func(name string, _ []byte, _ store.Revision) bool { list = append(list, name); return true })
	return list
}
