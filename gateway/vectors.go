package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tributary.io/gateway/config"
	"tributary.io/gateway/plugin"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/vector"
)

// vectorRun is one run of a plugin's vectors.
type vectorRun struct {
	dir, module, pattern, only, emit string
	all, verbose                     bool

	t        *terminal
	host     *plugin.Host
	wasm     []byte
	manifest plugin.Manifest
	loaded   map[string]*plugin.Plugin // by settings

	ran, failed int
}

func (v *vectorRun) run(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(v.dir, v.pattern))
	if err != nil {
		return usageError(fmt.Sprintf("--vectors %q is no pattern: %v", v.pattern, err))
	}
	if len(files) == 0 {
		return fmt.Errorf("no file matches %s: a vector file is a JSON array of cases; see sdk-plugin/README.md", filepath.Join(v.dir, v.pattern))
	}
	if err := v.read(ctx); err != nil {
		return err
	}
	limits := plugin.Default()
	limits.CacheDir = cacheDir(v.t.env)
	if v.host, err = plugin.New(limits, 1, slog.New(slog.DiscardHandler)); err != nil {
		return fmt.Errorf("starting the plugin host: %w", err)
	}
	defer v.host.Close(ctx)
	v.loaded = map[string]*plugin.Plugin{}
	slices.Sort(files)
	for _, file := range files {
		cases, err := vector.Load(file)
		if err != nil {
			return err
		}
		for i := range cases {
			if err := v.one(ctx, file, &cases[i]); err != nil {
				return fmt.Errorf("%s: %s: %w", file, cases[i].Name, err)
			}
		}
	}
	switch {
	case v.ran == 0:
		return fmt.Errorf("no vector's name contains %q", v.only)
	case v.failed > 0:
		return fmt.Errorf("%d of %s failed", v.failed, count(v.ran, "vector"))
	}
	fmt.Fprintf(v.t.out, "%s %s: %s in %s passed\n", v.manifest.Name, v.manifest.Version, count(v.ran, "vector"), count(len(files), "file"))
	return nil
}

// cacheDir is where the user keeps what programs can make again; "" when that is
// not known.
func cacheDir(env []string) string {
	for _, from := range [...]struct{ variable, below string }{{"XDG_CACHE_HOME=", "tributary"}, {"HOME=", ".cache/tributary"}} {
		for _, e := range env {
			if dir, ok := strings.CutPrefix(e, from.variable); ok && filepath.IsAbs(dir) {
				return filepath.Join(dir, from.below, "wasm")
			}
		}
	}
	return ""
}

// read finds the module, building it where it is a Go package, and what it wants.
func (v *vectorRun) read(ctx context.Context) error {
	described := filepath.Join(v.dir, "plugin.toml")
	text, err := os.ReadFile(described)
	if err != nil {
		return fmt.Errorf("reading what the plugin says of itself: %w; a plugin needs a plugin.toml with its name and version", err)
	}
	if v.manifest, err = config.ParseManifest(described, text); err != nil {
		return err
	}
	path := v.module
	if path == "" {
		path = filepath.Join(v.dir, v.manifest.Name+".wasm")
		if source, _ := filepath.Glob(filepath.Join(v.dir, "*.go")); len(source) > 0 {
			work, err := os.MkdirTemp("", "tributary-test-")
			if err != nil {
				return fmt.Errorf("making a directory to build in: %w", err)
			}
			defer os.RemoveAll(work)
			path = filepath.Join(work, "module.wasm")
			quiet := *v.t
			quiet.out = new(strings.Builder)
			if err := buildPlugin(ctx, &quiet, v.dir, path); err != nil {
				return err
			}
		}
	}
	if v.wasm, err = os.ReadFile(path); err != nil {
		return fmt.Errorf("reading the module: %w; build it first, or name it with --module", err)
	}
	// It may have been built with a plugin.toml of before.
	if v.wasm, err = plugin.EmbedManifest(v.wasm, v.manifest); err != nil {
		return fmt.Errorf("putting %s into the module: %w", described, err)
	}
	return nil
}

// one runs one vector. Its error says that it could not be run.
func (v *vectorRun) one(ctx context.Context, file string, c *vector.Case) error {
	if !strings.Contains(c.Name, v.only) {
		return nil
	}
	v.ran++
	p, err := v.load(ctx, c.Config)
	if err != nil {
		return err
	}
	var state plugin.StateReader
	if c.State != nil {
		state = vectorState(c.State)
	}
	got, err := p.Handle(ctx, 0, &c.Inbound, c.Inbound.Event.Time, state)
	var fault *plugin.Fault
	if errors.As(err, &fault) {
		got, err = event.Result{Failure: &event.Failure{Message: "the plugin broke: " + fault.Error()}}, nil
	}
	if err != nil {
		return err
	}
	differences := c.Check(got)
	if len(differences) == 0 {
		if v.verbose {
			fmt.Fprintf(v.t.out, "ok    %s: %s\n", filepath.Base(file), c.Name)
		}
		return nil
	}
	v.failed++
	if !v.all {
		differences = differences[:1]
	}
	fmt.Fprintf(v.t.out, "FAIL  %s: %s\n", filepath.Base(file), c.Name)
	for _, d := range differences {
		fmt.Fprintf(v.t.out, "      %s\n", strings.ReplaceAll(d, "\n", "\n      "))
	}
	return nil
}

// load returns the plugin with settings, which it gets with every event.
func (v *vectorRun) load(ctx context.Context, settings map[string]string) (*plugin.Plugin, error) {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&key, "%q=%q,", name, settings[name])
	}
	if p := v.loaded[key.String()]; p != nil {
		return p, nil
	}
	p, err := v.host.Load(ctx, v.manifest.Name, v.wasm, v.grant(settings), settings)
	if err != nil {
		return nil, fmt.Errorf("loading the plugin: %w", err)
	}
	v.loaded[key.String()] = p
	return p, nil
}

// grant is all that the plugin wants, and what --emit adds. An operator who sets a URL
// grants its host, too.
func (v *vectorRun) grant(settings map[string]string) plugin.Grant {
	g := *v.manifest.Wants.Grant()
	g.Hosts = slices.Concat(g.Hosts, v.manifest.Called(settings))
	if v.emit != "" {
		g.Emit = slices.Concat(g.Emit, strings.Split(v.emit, ","))
	}
	return g
}

// vectorState is the prior state of a vector.
type vectorState map[string][]byte

func (s vectorState) Get(key string) ([]byte, error) { return s[key], nil }

func (s vectorState) Scan(prefix, after string, fn func(key string, value []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if strings.HasPrefix(key, prefix) && (after == "" || key > after) && !fn(key, s[key]) {
			return nil
		}
	}
	return nil
}
