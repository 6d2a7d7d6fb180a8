// Package server is the composition root: it makes the stages out of the
// configuration, wires them, runs them and stops them in order. It may import
// every stage; only main imports it.
//
// Start goes from the store outwards and stop from the listeners inwards, so
// that nothing accepts what nobody handles: no new connections, events in
// flight finish and are acknowledged, consumers store their positions, the
// store closes.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/admin"
	"tributary.io/gateway/auth"
	"tributary.io/gateway/config"
	"tributary.io/gateway/consumer"
	"tributary.io/gateway/files"
	"tributary.io/gateway/listener/http"
	"tributary.io/gateway/listener/mqtt"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/outbound"
	"tributary.io/gateway/plugin"
	"tributary.io/gateway/registry"
	"tributary.io/gateway/router"
	"tributary.io/gateway/session"
	"tributary.io/gateway/timer"
)

// drainTime bounds how long a stop waits for events in flight.
const drainTime = 20 * time.Second

// Server is a gateway.
type Server struct {
	cfg     *config.Config
	log     *slog.Logger
	metrics []func() []metric.Sample
	ready   atomic.Bool
}

// New returns a gateway that does nothing until Run. The configuration must be
// valid. It shows the metrics beside those of its stages.
func New(cfg *config.Config, log *slog.Logger, metrics ...func() []metric.Sample) *Server {
	return &Server{cfg: cfg, log: log, metrics: metrics}
}

// Check loads what Run would load, without opening the store or listening.
func Check(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	host, handlers, err := loadPlugins(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer host.Close(ctx)
	if _, err = auth.New(cfg.Auth, nil, nil, log); err != nil {
		return fmt.Errorf("preparing authentication: %w", err)
	}
	if err := checkTransports(cfg.Listeners, log); err != nil {
		return err
	}
	there := map[string]bool{}
	for name, a := range cfg.Registry.Applications {
		there[name] = a.Messaging
	}
	for _, warning := range cfg.RouteWarnings(there, true) {
		log.Warn(warning)
	}
	_, err = router.New(cfg.Router, handlers, nil, nil, log)
	return err
}

// Run serves until ctx ends, then stops in order. It returns nil after a clean
// stop, and an error when the gateway could not start, a listener or the store
// failed, or the stop took too long.
func (s *Server) Run(ctx context.Context) error {
	if len(s.cfg.ServiceLinks) > 0 {
		s.log.Debug("variables of the environment are links to Kubernetes services and no settings", "variables", s.cfg.ServiceLinks)
	}
	g, err := s.assemble(ctx)
	if err != nil {
		return err
	}
	s.ready.Store(true)
	s.log.Info("the gateway is ready", "applications", len(s.cfg.Registry.Applications), "plugins", len(s.cfg.Plugins))
	select {
	case <-ctx.Done():
		s.log.Info("stopping: no new connections, finishing events in flight")
	case err = <-g.failed:
		s.log.Error("stopping: a part of the gateway failed", "error", err)
	}
	s.ready.Store(false)
	if stopErr := g.stop(); stopErr != nil {
		return errors.Join(err, stopErr)
	}
	s.log.Info("stopped: everything that was acknowledged is on disk")
	return err
}

// gateway is the running stages.
type gateway struct {
	s             *Server
	store         durable
	host          *plugin.Host
	router        *router.Router
	timers        *timer.Timers
	calls         *outbound.Calls
	files         *files.Area
	consumer      *consumer.Consumer
	identity      *auth.Auth
	mqtt          *mqtt.Server
	sessions      *session.Sessions
	mqttListeners []mqttListener
	httpListeners []httpListener
	failed        chan error // the first failure of a part that should run for ever
	parts         sync.WaitGroup
	stopServe     context.CancelFunc // listeners stop accepting
	stopRead      context.CancelFunc // the consumer stage ends
	stopAdmin     context.CancelFunc
}

// assemble makes, wires and starts every stage. On an error nothing stays open.
func (s *Server) assemble(ctx context.Context) (_ *gateway, err error) {
	var undo []func()
	defer func() {
		if err != nil {
			for _, fn := range slices.Backward(undo) {
				fn()
			}
		}
	}()
	cfg := s.cfg
	host, handlers, err := loadPlugins(ctx, cfg, s.log)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { host.Close(context.Background()) })
	st, err := openStore(cfg, s.log)
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() { st.Close() })
	reg, err := registry.New(cfg.Registry, st, s.log)
	if err != nil {
		return nil, fmt.Errorf("reading applications and users: %w", err)
	}
	s.warnOfRoutes(reg)
	if err := retain(reg, st); err != nil {
		return nil, err
	}
	g := &gateway{s: s, store: st, host: host, failed: make(chan error, 1)}
	if err := g.wire(reg, handlers); err != nil {
		return nil, err
	}
	g.router.Start(g.sessions)
	undo = append(undo, func() { g.router.Close(context.Background()) })
	rules := make([]*mqtt.Listener, len(g.mqttListeners))
	for i := range g.mqttListeners {
		rules[i] = g.mqttListeners[i].rules
	}
	if err := g.mqtt.Restore(rules...); err != nil {
		return nil, err
	}
	apps := purger{reg, st, s.log, []interface{ Purge(string) error }{g.sessions, g.timers, g.calls, g.files}}
	apps.resume()

	outside, err := s.listen(g.mqttListeners, g.httpListeners)
	if err != nil {
		return nil, err
	}
	s.leaveToken(reg)
	g.serve(outside, admin.New(cfg.Admin, admin.Parts{
		Metrics:     append(g.metrics(), reg.Metrics),
		Ready:       func() []string { return s.unready(st) },
		Degraded:    func() []string { return degraded(st) },
		Registry:    apps,
		Routed:      g.router.Routes,
		Connections: g.sessions,
		Groups:      g.consumer,
	}, s.log))
	return g, nil
}

// wire makes the stages and gives each those that it calls. None of them runs yet.
func (g *gateway) wire(reg *registry.Registry, handlers map[string]router.Handler) (err error) {
	cfg, log := g.s.cfg, g.s.log
	if g.router, err = router.New(cfg.Router, handlers, g.store, reg, log); err != nil {
		return err
	}
	g.consumer = consumer.New(cfg.Consumer, g.store, reg, log)
	if err := g.makeKeepers(cfg, log); err != nil {
		return err
	}
	g.sessions = session.New(cfg.MQTT.Sessions, g.router, g.consumer, g.store, log)
	g.mqtt = mqtt.New(cfg.MQTT, g.sessions, g.router, log)
	if g.identity, err = auth.New(cfg.Auth, reg, g.router, log); err != nil {
		return fmt.Errorf("preparing authentication: %w", err)
	}
	if g.mqttListeners, err = mqttListeners(cfg.Listeners, g.identity); err != nil {
		return err
	}
	parts := http.EventParts{Router: g.router, Logs: g.consumer, Rates: g.mqtt}
	if g.httpListeners, err = httpListeners(cfg.Listeners, g.identity, g.router, g.files, parts, log); err != nil {
		return err
	}
	reg.Watch(g.identity.Changed) // before those who renew their grants
	reg.Watch(g.reconsider)
	return nil
}

// reconsider has every listener renew the grants that a change touches.
func (g *gateway) reconsider(change access.Change) {
	g.sessions.Reconsider(change)
	for i := range g.httpListeners {
		g.httpListeners[i].server.Reconsider(change)
	}
}

// warnOfRoutes logs routes that take no message, or messages that one would not expect.
func (s *Server) warnOfRoutes(reg *registry.Registry) {
	messaging := map[string]bool{}
	for _, name := range reg.Applications() {
		messaging[name], _ = reg.Messaging(name)
	}
	for _, warning := range s.cfg.RouteWarnings(messaging, false) {
		s.log.Warn(warning)
	}
}

// metrics returns what measures the stages.
func (g *gateway) metrics() []func() []metric.Sample {
	return append(slices.Clone(g.s.metrics), g.mqtt.Metrics, g.sessions.Metrics, g.router.Metrics, g.timers.Metrics, g.calls.Metrics,
		g.files.Metrics,
		g.host.Metrics, g.store.Metrics, g.consumer.Metrics, g.identity.Metrics,
		func() []metric.Sample { return transportMetrics(g.mqttListeners, g.httpListeners) })
}

// serve starts the parts that run until the stop. Contexts do not derive from
// Run's: each part is told to stop when its turn comes.
func (g *gateway) serve(outside net.Listener, adm *admin.Server) {
	var serve, read, admin context.Context
	serve, g.stopServe = context.WithCancel(context.Background())
	read, g.stopRead = context.WithCancel(context.Background())
	admin, g.stopAdmin = context.WithCancel(context.Background())
	start := func(what string, ctx context.Context, run func() error) {
		g.parts.Add(1)
		go func() {
			defer g.parts.Done()
			if err := run(); err != nil && ctx.Err() == nil {
				select {
				case g.failed <- fmt.Errorf("%s: %w", what, err):
				default:
				}
			}
		}()
	}
	start("timers", serve, func() error { return g.timers.Run(serve) })
	start("files of plugins", serve, func() error { return g.files.Run(serve) })
	start("HTTP calls of plugins", serve, func() error { return g.calls.Run(serve) })
	start("revocation lists", serve, func() error { return g.identity.Run(serve, g.reconsider) })
	start("consumer positions", read, func() error { return g.consumer.Run(read) })
	for _, d := range g.mqttListeners {
		start("listener "+d.rules.Name, serve, func() error { return g.mqtt.Serve(serve, d.ln, d.rules) })
	}
	for _, w := range g.httpListeners {
		start("listener "+w.name, serve, func() error { return w.server.Serve(serve, w.ln) })
	}
	if outside != nil {
		start("admin listener", admin, func() error { return adm.Serve(admin, outside) })
	}
}

// stop ends the stages from the outside in.
func (g *gateway) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	var errs []error
	step := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", what, err))
		}
	}
	g.stopServe()
	step("the MQTT listeners", g.mqtt.Shutdown(ctx))
	for _, w := range g.httpListeners {
		step("the listener "+w.name, w.server.Shutdown(ctx))
	}
	step("the router", g.router.Close(ctx))
	g.stopRead()
	g.stopAdmin()
	g.parts.Wait()
	step("the store", g.store.Close())
	step("the plugins", g.host.Close(ctx))
	return errors.Join(errs...)
}

// unready says why the gateway should get no traffic.
func (s *Server) unready(st durable) (reasons []string) {
	if !s.ready.Load() {
		reasons = append(reasons, "the gateway is starting or stopping")
	}
	if err := st.Failure(); err != nil {
		reasons = append(reasons, fmt.Sprintf("the store takes no writes until a restart: %v", err))
	}
	return reasons
}

// degraded says what is lost while the gateway goes on with the rest.
func degraded(st durable) (reasons []string) {
	for _, file := range st.Damaged() {
		reasons = append(reasons, fmt.Sprintf("the file %s of the store is damaged: restore a backup", file))
	}
	return reasons
}

// loadPlugins loads the module of every declared plugin.
func loadPlugins(ctx context.Context, cfg *config.Config, log *slog.Logger) (*plugin.Host, map[string]router.Handler, error) {
	host, err := plugin.New(cfg.WASM, cfg.Router.Instances(), log)
	if err != nil {
		return nil, nil, fmt.Errorf("starting the plugin host: %w", err)
	}
	handlers := map[string]router.Handler{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Plugins)) {
		p := cfg.Plugins[name]
		begin := time.Now()
		module, err := os.ReadFile(p.Path)
		if err == nil {
			handlers[name], err = load(ctx, host, name, module, p)
		}
		if err != nil {
			host.Close(ctx)
			return nil, nil, fmt.Errorf("loading plugin %q from %s: %w%s", name, p.Path, err, remedy(err))
		}
		log.Info("plugin loaded", "plugin", name, "digest", handlers[name].Digest(), "took", time.Since(begin).Round(time.Millisecond))
	}
	return host, handlers, nil
}

func load(ctx context.Context, host *plugin.Host, name string, module []byte, p config.Plugin) (router.Handler, error) {
	loaded, err := host.Load(ctx, name, module, p.Grant, p.Settings)
	if err != nil {
		return nil, err
	}
	return loaded, nil
}

func remedy(err error) string {
	if errors.Is(err, os.ErrNotExist) {
		return "; build the bundled plugins with: make plugins"
	}
	return ""
}
