// Package plugin runs plugins: WASM modules on wazero, each in a sandbox with
// a fuel budget, a deadline, a memory limit and only the capabilities that the
// operator granted. It is the only package that imports wazero; router and
// server may import it.
package plugin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"tributary.io/gateway/plugin/meter"
	"tributary.io/sdk-plugin/event"
)

// StateReader reads the state of one plugin in one application. It is used
// during Handle only, on the caller's goroutine, and sees which keys and ranges a
// handler read, so that its caller can check that they still hold.
type StateReader interface {
	// Get returns a key's value, which is not nil when the key is there. The plugin
	// host neither keeps nor changes it.
	Get(key string) ([]byte, error)
	// Scan calls fn for the keys that begin with prefix and come behind after, in
	// order, until fn returns false, which says that it did not take the key.
	Scan(prefix, after string, fn func(key string, value []byte) bool) error
}

// Host holds what plugins share: the runtime, the compiled code, the metrics.
// Its methods are safe for concurrent use.
type Host struct {
	cfg    Config
	shards int
	log    *slog.Logger
	rt     wazero.Runtime
	cache  wazero.CompilationCache

	mu      sync.Mutex
	plugins []*Plugin
	closed  bool
}

// New makes the cache directory and a runtime. If the directory cannot be used, it says so and
// goes on without, since a cache only makes starts faster. Each plugin may have as many
// instances as there are shards. The configuration must be valid.
func New(cfg Config, shards int, log *slog.Logger) (*Host, error) {
	h := &Host{cfg: cfg, shards: max(shards, 1), log: log}
	// Debug information would only slow the loading: traps name functions without it.
	rc := wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false)
	if h.cache = openCache(cfg.CacheDir, log); h.cache != nil {
		rc = rc.WithCompilationCache(h.cache)
	}
	ctx := context.Background()
	h.rt = wazero.NewRuntimeWithConfig(ctx, rc)
	err := instantiateHost(ctx, h.rt, hostModule, hostFunctions())
	if err == nil {
		err = instantiateHost(ctx, h.rt, wasiModule, wasiFunctions())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the functions that plugins import: %w", err), h.Close(ctx))
	}
	return h, nil
}

// openCache opens the cache of compiled plugins; nil: there is none.
func openCache(dir string, log *slog.Logger) wazero.CompilationCache {
	if dir == "" {
		return nil
	}
	err := makePrivate(dir)
	if err == nil {
		var cache wazero.CompilationCache
		if cache, err = wazero.NewCompilationCacheWithDir(dir); err == nil {
			return cache
		}
	}
	log.Warn("compiled plugins are not kept, so each start compiles them again; name another wasm.cache_dir, or none (\"\") to hear no "+
		"more of it", "dir", dir, "error", err)
	return nil
}

// makePrivate makes a directory that only its owner may write to: what is in it
// is executed.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the directory: %w", err)
	}
	if mode := st.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %#o), and the gateway runs what is in it: chmod go-w it where it is yours alone", mode)
	}
	return nil
}

// Close ends every plugin. A Handle that runs is waited for, later ones fail.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	plugins := h.plugins
	h.plugins, h.closed = nil, true
	h.mu.Unlock()
	for _, p := range plugins {
		p.close()
	}
	err := h.rt.Close(ctx)
	if h.cache != nil {
		err = errors.Join(err, h.cache.Close(ctx))
	}
	if err != nil {
		return fmt.Errorf("closing the plugin host: %w", err)
	}
	return nil
}

// Plugin is one loaded plugin with a bounded pool of instances.
type Plugin struct {
	host     *Host
	name     string
	digest   string
	manifest Manifest
	grant    Grant
	settings []byte
	log      *slog.Logger
	module   *meter.Module // without its Bytes, Custom and Interface
	compiled wazero.CompiledModule
	snapshot *snapshot // nil: the module has state that no snapshot can hold
	slots    []slot
	metrics  metrics
}

// slot is the place of one instance of the pool.
type slot struct {
	mu       sync.Mutex
	in       *instance // nil: not started yet
	poisoned bool      // in has to be restored before use
	closed   bool
	memory   atomic.Int64 // bytes of the instance's linear memory, for metrics
}

// Load checks a module, compiles it and starts its first instance, so that a
// plugin that cannot work is an error now. name is the plugin's name in
// gateway.toml; settings are handed to the plugin with every event, as a JSON
// object. A module that was compiled before comes from the cache.
func (h *Host) Load(ctx context.Context, name string, wasm []byte, grant Grant, settings map[string]string) (*Plugin, error) {
	p, err := h.load(ctx, name, wasm, grant, settings)
	if err != nil {
		return nil, fmt.Errorf("loading plugin %s: %w", name, err)
	}
	return p, nil
}

func (h *Host) load(ctx context.Context, name string, wasm []byte, grant Grant, settings map[string]string) (*Plugin, error) {
	if err := grant.Validate(); err != nil {
		return nil, fmt.Errorf("plugins.%s.grant: %w", name, err)
	}
	sum := sha256.Sum256(wasm)
	p := &Plugin{
		host: h, name: name, digest: "sha256:" + hex.EncodeToString(sum[:]), grant: grant.withDefaults(&h.cfg),
		log: h.log.With("plugin", name), slots: make([]slot, h.shards),
	}
	module, err := rewrite(wasm)
	if err != nil {
		return nil, err
	}
	if err := p.check(module, settings); err != nil {
		return nil, err
	}
	if len(settings) > 0 {
		text, err := json.Marshal(settings)
		if err != nil {
			return nil, fmt.Errorf("plugins.%s.settings: %w", name, err)
		}
		p.settings = text
	}
	p.module = module
	if p.compiled, err = h.compile(ctx, module.Bytes); err != nil {
		return nil, fmt.Errorf("compiling: %w", err)
	}
	p.module.Bytes, p.module.Custom, p.module.Interface = nil, nil, nil
	if err := p.startFirst(); err != nil {
		_ = p.compiled.Close(ctx) // the module was never used
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		p.close()
		return nil, errClosed
	}
	h.plugins = append(h.plugins, p)
	return p, nil
}

// compile has the runtime compile a module on all processors. It looks at the deadline
// between two functions, which it does only if there are several workers.
func (h *Host) compile(ctx context.Context, module []byte) (wazero.CompiledModule, error) {
	late := fmt.Errorf("it took longer than %v (wasm.compile_deadline): have the compiler optimise for size, or allow more",
		h.cfg.CompileDeadline)
	ctx, cancel := context.WithTimeoutCause(ctx, h.cfg.CompileDeadline, late)
	defer cancel()
	compiled, err := h.rt.CompileModule(experimental.WithCompilationWorkers(ctx, max(2, runtime.GOMAXPROCS(0))), module)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return compiled, err
}

// check refuses a module that breaks the ABI, starts too large, wants more than it is
// granted, or is given settings that it does not take.
func (p *Plugin) check(module *meter.Module, settings map[string]string) (err error) {
	if err := checkABI(module.Interface); err != nil {
		return err
	}
	if need := uint64(module.Interface.MinPages) * pageBytes; need > uint64(p.grant.MemoryBytes) {
		return p.wantsMore([]string{fmt.Sprintf("memory_bytes = %d", need)})
	}
	if p.manifest, err = manifestOf(module.Custom); err != nil {
		return err
	}
	if lines := p.grant.missing(p.manifest.Wants.Grant()); len(lines) > 0 {
		return p.wantsMore(lines)
	}
	return p.manifest.checkSettings(p.name, settings, parseHosts(p.grant.Hosts))
}

func (p *Plugin) wantsMore(lines []string) error {
	if p.grant.wanted {
		return fmt.Errorf("it needs more than it wants; have these lines in its plugin.toml:\n\n[wants]\n%s", strings.Join(lines, "\n"))
	}
	return fmt.Errorf("it asks for more than it is granted; if you trust it, have these lines in gateway.toml:\n\n[plugins.%s.grant]\n%s",
		p.name, strings.Join(lines, "\n"))
}

func (p *Plugin) startFirst() error {
	in, err := p.newInstance()
	if err != nil {
		return err
	}
	p.slots[0].in = in
	p.slots[0].memory.Store(int64(in.lin.size))
	if reason := in.unrestorable(); reason == "" {
		p.snapshot = in.snapshot()
	} else {
		p.log.Info("each fault of the plugin will cost a new instance", "because", reason)
	}
	p.logOutput(in)
	return nil
}

var errClosed = errors.New("the plugin host is closed")

// Handle hands an event to the plugin and returns its answer, which owns its
// memory. shard picks the instance (modulo the pool size); calls for the same
// instance wait for each other, so give every goroutine a shard of its own. now
// is the plugin's clock during the call.
//
// The effects are checked: what the operator did not grant makes the result a
// permanent Failure that names the key of gateway.toml. st may be nil: then the
// plugin has no state. While it judges credentials, nothing that it logs or prints
// is kept, since that may hold them.
//
// A *Fault says that the plugin broke: the next event finds the instance in the
// state that it had before its first. Other errors come from st or from a
// shortage of the gateway's own, and the event may be tried again.
func (p *Plugin) Handle(ctx context.Context, shard int, in *event.Inbound, now time.Time, st StateReader) (event.Result, error) {
	return p.run(ctx, shard, in, now, st, p.grant.Fuel)
}

// trialFuel is the fuel of a trial: thousands of times what a usual event takes, and a
// few milliseconds of the processor.
const trialFuel = 20_000_000

// Try is Handle with at most trialFuel, so that events behind this one do not wait long. It
// returns a *Fault of kind FaultTrial for an event that needs more. It has then changed
// nothing, and the event can be handed to Handle.
func (p *Plugin) Try(ctx context.Context, shard int, in *event.Inbound, now time.Time, st StateReader) (event.Result, error) {
	return p.run(ctx, shard, in, now, st, min(p.grant.Fuel, trialFuel))
}

func (p *Plugin) run(ctx context.Context, shard int, in *event.Inbound, now time.Time, st StateReader, fuel int64) (event.Result, error) {
	if err := ctx.Err(); err != nil {
		return event.Result{}, err
	}
	s := &p.slots[uint(shard)%uint(len(p.slots))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.ready(s); err != nil {
		return event.Result{}, err
	}
	start := time.Now()
	result, err := s.in.handleEvent(in, now, st, fuel)
	p.metrics.observe(time.Since(start), s.in.spent, err)
	s.memory.Store(int64(s.in.lin.size))
	if err != nil {
		s.poisoned = true
		return event.Result{}, err
	}
	p.logOutput(s.in)
	if result.Failure == nil {
		if v := p.grant.check(in, result.Effects); v != nil {
			p.metrics.violations.Add(1)
			result = event.Result{Failure: v.failure(p.name, p.grant.wanted)}
		}
	}
	return result, nil
}

// ready makes the slot's instance fit for the next event.
func (p *Plugin) ready(s *slot) (err error) {
	if s.closed {
		return errClosed
	}
	if s.in != nil && s.poisoned && p.snapshot == nil {
		s.in.close()
		s.in = nil
	}
	if s.in == nil {
		if s.in, err = p.newInstance(); err != nil {
			return err
		}
	} else if s.poisoned {
		if err := errors.Join(s.in.lookUp(), s.in.adopt(p.snapshot)); err != nil {
			return fmt.Errorf("restoring plugin %s: %w", p.name, err)
		}
	}
	if s.poisoned {
		p.metrics.restores.Add(1)
	}
	s.poisoned = false
	return nil
}

// logOutput passes on what the plugin printed while it did its work well.
func (p *Plugin) logOutput(in *instance) {
	if text := bytes.TrimSpace(in.call.output); len(text) > 0 && !in.call.secret {
		p.log.Debug("plugin output", "text", strings.ToValidUTF8(string(text), "\uFFFD"))
	}
}

// close ends the instances.
func (p *Plugin) close() {
	for i := range p.slots {
		s := &p.slots[i]
		s.mu.Lock()
		if s.in != nil {
			s.in.close()
		}
		s.in, s.closed = nil, true
		s.memory.Store(0)
		s.mu.Unlock()
	}
}

// Name returns the plugin's name in gateway.toml.
func (p *Plugin) Name() string { return p.name }

// Version returns the version that the manifest states; empty without one.
func (p *Plugin) Version() string { return p.manifest.Version }

// Digest returns "sha256:" and the hex digest of the file that was loaded.
func (p *Plugin) Digest() string { return p.digest }

// Manifest returns what the plugin says of itself.
func (p *Plugin) Manifest() Manifest { return p.manifest }

// Grant returns the capabilities and limits in force, defaults filled in.
func (p *Plugin) Grant() Grant { return p.grant }

// Limits are the parts of a plugin's grant that its host cannot check alone.
type Limits struct {
	StateBytes int64    // of all its state in one application
	Timers     int      // at once in one application
	Judges     []string // applications that it may let devices into
	About      bool     // what it emits may be about any device
	Uploads    []string // paths of requests whose bodies go to disk
}

// Limits returns the limits in force.
func (p *Plugin) Limits() Limits {
	return Limits{StateBytes: p.grant.StateBytes, Timers: p.grant.Timers, Judges: p.grant.Judge.Applications, About: p.grant.About,
		Uploads: p.grant.Uploads}
}
