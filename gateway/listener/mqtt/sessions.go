package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"tributary.io/gateway/stage"
)

// Sessions are the sessions of all clients, with what they share: the topic spaces
// of applications, the devices that are connected, and the journal that gets all of it
// into the store. Its methods are safe for concurrent use.
type Sessions struct {
	cfg    Config
	router Router
	routes func(application string) bool
	logs   Logs
	log    *slog.Logger
	ids    *stage.IDs
	count  counters
	// changes counts the calls of Reconsider.
	changes atomic.Uint64

	journal *journal  // nil without a store
	hits    sync.Pool // of *hits

	ctx    context.Context // ends when the server stops; for authentication
	cancel context.CancelFunc

	mu       sync.Mutex
	sessions map[sessionKey]*session
	numbers  uint64 // of sessions
	stopping bool   // no connection gets a session any more

	devices index

	spacesMu sync.Mutex
	spaces   map[string]*space
}

func newSessions(cfg Config, router Router, logs Logs, st Store, log *slog.Logger) *Sessions {
	s := &Sessions{cfg: cfg, router: router, logs: logs, log: log, ids: stage.NewIDs(),
		sessions: make(map[sessionKey]*session), spaces: make(map[string]*space)}
	s.devices.devices = make(map[deviceKey]*device)
	if st != nil {
		s.journal = newJournal(st, log)
	}
	s.hits.New = func() any { return new(hits) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.routes = func(string) bool { return true }
	if r, ok := router.(interface{ Routes(application string) bool }); ok {
		s.routes = r.Routes
	}
	return s
}

// stop lets no connection have a session any more, and sends no will: a restart is no
// death.
func (s *Sessions) stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
}

// flush returns when all that is noted of sessions is durable.
func (s *Sessions) flush(ctx context.Context) error {
	if s.journal == nil {
		return nil
	}
	done := make(chan error, 1)
	s.journal.commit(func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("storing MQTT sessions: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("storing MQTT sessions: %w", ctx.Err())
	}
}

// space is the topic space of a grant: its application's, or, for a client of no
// application, its namespace's own.
func (s *Sessions) space(g *stage.Grant) *space {
	if g.Application == "" {
		return s.spaceOf("\x00" + g.Namespace)
	}
	return s.spaceOf(g.Application)
}

func (s *Sessions) spaceOf(name string) *space {
	s.spacesMu.Lock()
	defer s.spacesMu.Unlock()
	sp := s.spaces[name]
	if sp == nil {
		sp = &space{server: s, name: name}
		s.spaces[name] = sp
	}
	return sp
}
