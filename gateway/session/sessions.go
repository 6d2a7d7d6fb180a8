package session

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// Router takes what devices say. Submit may block, which stops the reader of
// that one connection. done is called once, from any goroutine, after the
// event's effects are durable or it was refused; it does not block. The router
// keeps the order of Submit calls per device, and owns in. What along, which may
// be nil, prepares is committed with the effects of an event that is accepted.
//
// A Router that also has Routes(application string) bool is asked first, for
// every message, and is passed over where no route of the application exists.
type Router interface {
	Submit(in *event.Inbound, along stage.Companion, done func(stage.Outcome))
}

// Store keeps sessions, queues and retained messages. Its methods are those of
// store.Store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Logs lets consumers read. deliver is called from the consumer stage's
// goroutines, does not block, and may be called before Join returns. At most
// sub.Window records are out without Ack.
type Logs interface {
	Join(sub stage.Subscription, deliver func(stage.Record)) (stage.Membership, error)
}

// Sessions are the sessions of all clients, with what they share: the topic spaces
// of applications, the devices that are connected, and the journal that gets all of it
// into the store. Its methods are safe for concurrent use.
type Sessions struct {
	cfg     Config
	router  Router
	routed  func(application string) bool // nil: all are
	logs    Logs
	log     *slog.Logger
	ids     *stage.IDs
	count   sessionsCounters
	changed atomic.Uint64 // see changes

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

func New(cfg Config, router Router, logs Logs, st Store, log *slog.Logger) *Sessions {
	s := &Sessions{cfg: cfg, router: router, logs: logs, log: log, ids: stage.NewIDs(),
		sessions: make(map[sessionKey]*session), spaces: make(map[string]*space)}
	s.devices.devices = make(map[deviceKey]*device)
	if st != nil {
		s.journal = newJournal(st, cmp.Or(cfg.JournalChanges, journalChanges), log)
	}
	s.hits.New = func() any { return new(hits) }
	if r, ok := router.(interface{ Routes(application string) bool }); ok {
		s.routed = r.Routes
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Routes says whether any route of an application exists.
func (s *Sessions) Routes(application string) bool {
	return s.routed == nil || s.routed(application)
}

// Changes counts the calls of Reconsider: a client that is being authenticated meanwhile is
// to be reconsidered after.
func (s *Sessions) Changes() uint64 { return s.changed.Load() }

// Stop lets no connection have a session any more, and sends no will: a restart is no
// death.
func (s *Sessions) Stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
}

// Flush returns when all that is noted of sessions is durable.
func (s *Sessions) Flush(ctx context.Context) error {
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
func (s *Sessions) space(g *access.Grant) *space {
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
