package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"

	"tributary.io/gateway/server"
)

func checkCommand() command {
	return command{
		name:    "check",
		summary: "check the settings and load the plugins without serving",
		help: `
Checks all settings and loads every plugin, as run would, but opens no store and no
port. It names everything that is wrong, with file and line, and takes the options
of run. The exit status is 0 when the gateway can run.

Examples:
  tributary check
  tributary check --config /etc/tributary/gateway.toml && systemctl restart tributary
`,
		setup: func(flags *flag.FlagSet) func(context.Context, *terminal, []string) error {
			settings := settingOptions(flags)
			return func(ctx context.Context, t *terminal, args []string) error {
				cfg, err := settings.load(t, args)
				if err != nil {
					return err
				}
				quiet := slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
				if err := server.Check(ctx, cfg, quiet); err != nil {
					return err
				}
				fmt.Fprintf(t.out, "%s is fine: %s, %s, %s, %s\n", settings.path(t),
					count(len(cfg.Registry.Applications), "application"), count(len(cfg.Registry.Users), "user"),
					count(len(cfg.Plugins), "plugin"), count(len(cfg.Routes), "route"))
				return nil
			}
		},
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
