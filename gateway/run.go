package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"tributary.io/gateway/config"
	"tributary.io/gateway/server"
)

func runCommand() command {
	return command{
		name:    "run",
		summary: "run the gateway",
		help: `
Runs the gateway until SIGINT, SIGTERM or SIGHUP. It then accepts nothing more,
finishes and acknowledges what it has, and exits; a second signal ends it at once.
Settings are read at the start only. The log goes to standard error.

Settings come from gateway.toml, over it from the environment (TRIBUTARY_ and the
key in capitals, two underscores for each dot), over that from the options.

Examples:
  tributary run
  tributary run --config /etc/tributary/gateway.toml --data-dir /var/lib/tributary
  tributary run --set log.format=json --set applications.demo.messaging=true
  TRIBUTARY_LISTENERS__MQTT__TCP__ADDRESS=0.0.0.0:1883 tributary run
`,
		setup: func(flags *flag.FlagSet) func(context.Context, *terminal, []string) error {
			settings := settingOptions(flags)
			return func(ctx context.Context, t *terminal, args []string) error {
				cfg, err := settings.load(t, args)
				if err != nil {
					return err
				}
				// Nobody may end the gateway by closing the other end of its standard error.
				signal.Ignore(syscall.SIGPIPE)
				log := server.NewLog(t.err, cfg.Log)
				defer log.Close()
				return server.New(cfg, cfg.Log.Logger(log), log.Metrics).Run(ctx)
			}
		},
	}
}

// settings are the options that choose and change settings.
type settings struct {
	file, dataDir string
	short         []*string // values of the named options
	keys          []string  // the keys that they stand for
	set           repeated
}

func settingOptions(flags *flag.FlagSet) *settings {
	s := &settings{}
	named := func(name, key, usage string) {
		s.keys = append(s.keys, key)
		s.short = append(s.short, flags.String(name, "", usage))
	}
	flags.StringVar(&s.file, "config", "", "`file` with the settings (default $TRIBUTARY_CONFIG, else gateway.toml)")
	flags.StringVar(&s.dataDir, "data-dir", "",
		"`directory` for everything that is stored (store.dir, files.dir,\nwasm.cache_dir, admin.token_file)")
	named("listen", "listeners.mqtt.tcp.address", "`address` of the MQTT listener tcp, host:port")
	named("admin", "admin.address", "`address` of metrics and health, host:port")
	named("log-level", "log.level", "`level`: debug, info, warn or error")
	flags.Var(&s.set, "set", "`key=value` for any key of gateway.toml; may be repeated")
	return s
}

// load loads the settings of a command that takes no arguments.
func (s *settings) load(t *terminal, args []string) (*config.Config, error) {
	if err := noArgs(args); err != nil {
		return nil, err
	}
	var set []string
	if s.dataDir != "" {
		set = append(set, "store.dir="+filepath.Join(s.dataDir, "store"), "wasm.cache_dir="+filepath.Join(s.dataDir, "wasm"),
			"files.dir="+filepath.Join(s.dataDir, "files"),
			"admin.token_file="+filepath.Join(s.dataDir, "admin.token"))
	}
	for i, value := range s.short {
		if *value != "" {
			set = append(set, s.keys[i]+"="+*value)
		}
	}
	cfg, err := config.Load(config.Sources{File: s.path(t), Env: t.env, Set: append(set, s.set...)})
	if err == nil {
		return cfg, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; name the file with --config, or /dev/null for none", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return nil, err
	}
	return nil, fmt.Errorf("%d problems with the settings:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// path is the file that the options, the environment or nobody chose.
func (s *settings) path(t *terminal) string {
	if s.file != "" {
		return s.file
	}
	for _, variable := range t.env {
		if file, ok := strings.CutPrefix(variable, "TRIBUTARY_CONFIG="); ok && file != "" {
			return file
		}
	}
	return "gateway.toml"
}

// repeated is an option that may be given more than once.
type repeated []string

func (r *repeated) String() string     { return "" }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }
