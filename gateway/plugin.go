package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"tributary.io/gateway/config"
	"tributary.io/gateway/plugin"
)

// pluginCommands build plugins and test them.
func pluginCommands() []command { return []command{pluginBuildCommand(), pluginTestCommand()} }

func pluginBuildCommand() command {
	return command{
		name:    "plugin build",
		args:    "<directory>",
		summary: "build a plugin from Go source",
		help: `
Builds the plugin in a directory: compiles its Go package to WebAssembly with the Go
toolchain on the path, and puts what plugin.toml says of it into the module. The
result is <name>.wasm in the current directory unless -o says otherwise.

Examples:
  tributary plugin build plugins/drogue -o build/plugins/drogue.wasm
  tributary plugin build .
`,
		setup: func(flags *flag.FlagSet) func(context.Context, *terminal, []string) error {
			var out string
			flags.StringVar(&out, "o", "", "`file` to write")
			return func(ctx context.Context, t *terminal, args []string) error {
				dir, err := oneArg(args, "the plugin's directory")
				if err != nil {
					return err
				}
				return buildPlugin(ctx, t, dir, out)
			}
		},
	}
}

func pluginTestCommand() command {
	return command{
		name:    "plugin test",
		args:    "<directory>",
		summary: "run a plugin's test vectors",
		help: `
Runs the vectors of a plugin, the JSON files in its directory testdata, against its
module: each event is handed to the plugin as the gateway does it, with the prior
state, the settings and the time that the vector says, and with every capability that
plugin.toml wants. For each vector that fails the first difference is shown, by effect
and field. The exit status is 1 when one did.

The directory is a Go plugin, which is built first, or holds <name>.wasm, in whatever
language it was written; --module names another file.

Examples:
  tributary plugin test plugins/fleets
  tributary plugin test . --module build/thermostat.wasm --vectors 'tests/*.json'
  tributary plugin test plugins/fleets --run FL2
`,
		setup: func(flags *flag.FlagSet) func(context.Context, *terminal, []string) error {
			v := vectorRun{}
			flags.StringVar(&v.module, "module", "", "`file` of the module to test")
			flags.StringVar(&v.pattern, "vectors", "testdata/*.json", "`pattern` of the vector files, from the directory on")
			flags.StringVar(&v.only, "run", "", "run only vectors whose names contain `text`")
			flags.StringVar(&v.emit, "emit", "", "further `types` of events that the plugin may emit, separated by commas")
			flags.BoolVar(&v.all, "all", false, "show every difference, not just the first")
			flags.BoolVar(&v.verbose, "v", false, "name the vectors that pass, too")
			return func(ctx context.Context, t *terminal, args []string) error {
				dir, err := oneArg(args, "the plugin's directory")
				if err != nil {
					return err
				}
				v.t, v.dir = t, dir
				return v.run(ctx)
			}
		},
	}
}

// buildPlugin compiles the Go package in dir and writes the module with its
// manifest to out, at once or not at all.
func buildPlugin(ctx context.Context, t *terminal, dir, out string) error {
	described := filepath.Join(dir, "plugin.toml")
	text, err := os.ReadFile(described)
	if err != nil {
		return fmt.Errorf("reading what the plugin says of itself: %w; a plugin needs a plugin.toml with its name and version", err)
	}
	manifest, err := config.ParseManifest(described, text)
	if err != nil {
		return err
	}
	if out == "" {
		out = manifest.Name + ".wasm"
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("making the directory of the module: %w", err)
	}
	// Beside its destination, so that the rename stays within a file system.
	work, err := os.MkdirTemp(filepath.Dir(out), ".build-")
	if err != nil {
		return fmt.Errorf("making a directory to build in: %w", err)
	}
	defer os.RemoveAll(work)
	built := filepath.Join(work, "module.wasm")
	if err := compile(ctx, t, dir, built); err != nil {
		return err
	}
	module, err := os.ReadFile(built)
	if err != nil {
		return fmt.Errorf("reading the compiled module: %w", err)
	}
	if module, err = plugin.EmbedManifest(module, manifest); err != nil {
		return fmt.Errorf("putting the manifest into the module: %w", err)
	}
	if err := plugin.CheckModule(module); err != nil {
		return fmt.Errorf("the compiled module is none that a gateway loads: %w", err)
	}
	if err := os.WriteFile(built, module, 0o644); err != nil {
		return fmt.Errorf("writing the module: %w", err)
	}
	if err := os.Rename(built, out); err != nil {
		return fmt.Errorf("writing the module: %w", err)
	}
	fmt.Fprintf(t.out, "%s: plugin %s %s, %.1f MiB\n", out, manifest.Name, manifest.Version, float64(len(module))/(1<<20))
	return nil
}

// compile runs the Go toolchain. A reactor module (c-shared) stays loaded
// between calls; symbols and paths of this machine are left out.
func compile(ctx context.Context, t *terminal, dir, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		return errors.New("the Go toolchain is not on the path; install it from https://go.dev/dl/")
	}
	cmd := exec.CommandContext(ctx, goTool, "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(slices.Clone(t.env), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("compiling the Go package in %s: %w\n%s", dir, err, bytes.TrimSpace(output))
	}
	return nil
}
