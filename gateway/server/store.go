package server

import (
	"fmt"
	"log/slog"

	"tributary.io/gateway/config"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/store"
	"tributary.io/gateway/store/pebble"
)

// durable is a store as the gateway runs it: the contract of the stages, and what an
// operator is told of it.
type durable interface {
	store.Store
	// Failure returns why the store takes no writes any more, or nil.
	Failure() error
	// Damaged returns the files that are damaged, while the store goes on without what is in
	// them.
	Damaged() []string
	Metrics() []metric.Sample
}

// openStore opens the store of the configuration. Nothing else in the gateway knows
// which one it is.
func openStore(cfg *config.Config, log *slog.Logger) (durable, error) {
	st, err := pebble.Open(cfg.Store, log)
	if err != nil {
		return nil, fmt.Errorf("opening the store in %s: %w", cfg.Store.Dir, err)
	}
	return st, nil
}
