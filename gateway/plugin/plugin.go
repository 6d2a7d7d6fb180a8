// Package plugin runs plugins: WASM modules on wazero, each in a sandbox with
// a fuel budget, a deadline, a memory limit and only the capabilities that the
// operator granted. It is the only package that imports wazero; router and
// server may import it.
package plugin

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// StateReader reads the state of one plugin in one application. It is used
// during Handle only, on the caller's goroutine.
type StateReader interface {
	// Get returns a key's value and revision; an absent key is nil, 0, nil. The
	// value is not kept or changed by the plugin host.
	Get(key string) ([]byte, uint64, error)
}

// Read is one key that a handler read, with the revision it saw; 0: absent.
type Read struct {
	Key      string
	Revision uint64
}

// Host holds what plugins share: the runtime, the compiled code, the metrics.
// Its methods are safe for concurrent use.
type Host struct{}

// New makes the cache directory and a runtime. The configuration must be valid.
func New(cfg Config, log *slog.Logger) (*Host, error) { return nil, errors.New("not built yet") }

// Close ends every plugin. No Handle may run or follow.
func (h *Host) Close(ctx context.Context) error { return nil }

// Metrics returns the samples of the host and its plugins.
func (h *Host) Metrics() []stage.Metric { return nil }

// Load checks a module, compiles it and starts its first instance, so that a
// plugin that cannot work is an error now. name is the plugin's name in
// gateway.toml; settings are handed to the plugin with every event.
func (h *Host) Load(ctx context.Context, name string, wasm []byte, grant Grant, settings map[string]string) (*Plugin, error) {
	return nil, errors.New("not built yet")
}

// Plugin is one loaded plugin with a bounded pool of instances.
type Plugin struct{}

// Handle hands an event to the plugin and returns its answer, which owns its
// memory. shard picks the instance (modulo the pool size); calls for the same
// instance wait for each other, so give every goroutine a shard of its own. now
// is the plugin's clock during the call.
//
// The effects are checked: what the operator did not grant makes the result a
// permanent Failure that names the key of gateway.toml. reads lists every key
// that the plugin read, absent ones too, for the caller's optimistic check.
//
// A *Fault says that the plugin broke: the instance has been restored to the
// state it had before its first event. Other errors come from st, and the event
// may be tried again.
func (p *Plugin) Handle(ctx context.Context, shard int, in *event.Inbound, now time.Time, st StateReader) (event.Result, []Read, error) {
	return event.Result{}, nil, errors.New("not built yet")
}

// Name returns the plugin's name in gateway.toml.
func (p *Plugin) Name() string { return "" }

// Version returns the version that the manifest states; empty without one.
func (p *Plugin) Version() string { return "" }

// Digest returns "sha256:" and the hex digest of the file that was loaded.
func (p *Plugin) Digest() string { return "" }

// Manifest returns what the plugin says of itself.
func (p *Plugin) Manifest() Manifest { return Manifest{} }

// Grant returns the capabilities and limits in force, defaults filled in.
func (p *Plugin) Grant() Grant { return Grant{} }
