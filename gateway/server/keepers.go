package server

import (
	"log/slog"

	"tributary.io/gateway/config"
	"tributary.io/gateway/outbound"
	"tributary.io/gateway/router"
	"tributary.io/gateway/timer"
)

// makeKeepers makes the stages that keep what plugins want done later, and gives them to
// the router.
func makeKeepers(cfg *config.Config, st durable, rt *router.Router, log *slog.Logger) (*timer.Timers, *outbound.Calls, error) {
	known := func(plugin string) bool { _, ok := cfg.Plugins[plugin]; return ok }
	timers, err := timer.New(st, rt, known, log)
	if err != nil {
		return nil, nil, err
	}
	rules := map[string]outbound.Rules{}
	for name, p := range cfg.Plugins {
		rules[name] = outbound.Rules{Hosts: p.Grant.Hosts, PrivateNetworks: p.Grant.PrivateNetworks}
	}
	calls, err := outbound.New(cfg.Outbound, st, rt, rules, log)
	if err != nil {
		return nil, nil, err
	}
	rt.UseKeepers(timers, calls)
	return timers, calls, nil
}
