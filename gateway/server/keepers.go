package server

import (
	"log/slog"

	"tributary.io/gateway/config"
	"tributary.io/gateway/files"
	"tributary.io/gateway/outbound"
	"tributary.io/gateway/router"
	"tributary.io/gateway/timer"
)

// makeKeepers makes the stages that keep what plugins want done later, and their files,
// and gives them to the router.
func (g *gateway) makeKeepers(cfg *config.Config, log *slog.Logger) (err error) {
	known := func(plugin string) bool { _, ok := cfg.Plugins[plugin]; return ok }
	if g.timers, err = timer.New(g.store, g.router, known, log); err != nil {
		return err
	}
	quotas := map[string]int64{}
	rules := map[string]outbound.Rules{}
	for name, p := range cfg.Plugins {
		rules[name] = outbound.Rules{Hosts: p.Grant.Hosts, PrivateNetworks: p.Grant.PrivateNetworks}
		quotas[name] = p.Grant.FileBytes
	}
	if g.calls, err = outbound.New(cfg.Outbound, g.store, g.router, rules, log); err != nil {
		return err
	}
	if g.files, err = files.New(cfg.Files, g.store, quotas, log); err != nil {
		return err
	}
	g.router.UseKeepers(router.Keepers{Timers: g.timers, Calls: g.calls, Files: g.files})
	return nil
}
