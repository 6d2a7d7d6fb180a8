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

// Router takes events. Submit may block, which stops the reader of one connection. done is called
// once, from any goroutine, when the event's effects are durable or the event was refused; done does
// not block. The router keeps the order of the Submit calls of a device, and owns in. If the event
// is accepted, along (which may be nil) adds to the commit of its effects.
//
// If a Router also has Routes(application string) bool, an application without routes does not use
// the router.
type Router interface {
	Submit(in *event.Inbound, along stage.Companion, done func(stage.Outcome))
}

// Store keeps sessions, queues and retained messages. Its methods are those of store.Store.
type Store interface {
	Commit(b *store.Batch, done func(error)) error
	Get(k store.Key) ([]byte, store.Revision, error)
	Scan(kind store.Kind, prefix string, fn func(name string, value []byte, rev store.Revision) bool) error
}

// Logs has the logs that clients read. deliver is called from goroutines of the consumer stage, does
// not block, and may be called before Join returns. At most sub.Window records are unacknowledged.
type Logs interface {
	Join(sub stage.Subscription, deliver func(stage.Record)) (stage.Membership, error)
}

// Sessions has the sessions of all clients and what they share: the topic spaces of applications,
// the devices, and the journal. Its methods are safe for concurrent use.
type Sessions struct {
	cfg     Config
	router  Router
	routed  func(application string) bool // nil: all applications have routes
	logs    Logs
	log     *slog.Logger
	ids     *stage.IDs
	count   sessionsCounters
	changed atomic.Uint64 // see Changes

	journal *journal  // nil without a store
	hits    sync.Pool // of *hits

	ctx    context.Context // ends when the server stops; authentication uses it
	cancel context.CancelFunc

	mu       sync.Mutex
	sessions map[sessionKey]*session
	numbers  uint64 // the newest session's number
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

// Routes says whether an application has any route.
func (s *Sessions) Routes(application string) bool {
	return s.routed == nil || s.routed(application)
}

// Changes counts the calls of Reconsider. If it changes while a client is authenticated, the client
// has to be reconsidered.
func (s *Sessions) Changes() uint64 { return s.changed.Load() }

// Stop refuses sessions to new connections, and sends no more wills: the clients did not fail.
func (s *Sessions) Stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
}

// Flush returns when all changes of sessions are durable.
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

// space returns the topic space of a grant: that of its application, or of its namespace if it has
// no application.
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
