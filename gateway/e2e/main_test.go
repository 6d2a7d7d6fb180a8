package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of a test; it is only ever used up by a failure.
const patience = 60 * time.Second

// built is what TestMain made, in one directory for the whole run.
type built struct {
	dir     string // of modules <name>.wasm
	binary  string // the gateway
	cache   string // compiled plugins, so that only the first start compiles
	problem error
}

// artefacts is written by TestMain, before any test.
var artefacts built

// TestMain builds the gateway and the plugins once. A failure to build is told
// by each test, so that the run names it like any other.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tributary-e2e-")
	if err != nil {
		artefacts.problem = err
	} else {
		defer os.RemoveAll(dir)
		artefacts = built{dir: dir, binary: filepath.Join(dir, "tributary"), cache: filepath.Join(dir, "cache")}
		artefacts.problem = build(&artefacts)
	}
	m.Run() // the testing package ends the process with its result
}

func build(b *built) error {
	args := []string{"CGO_ENABLED=0", "go", "build", "-o", b.binary} // as the Makefile builds it
	if os.Getenv("TRIBUTARY_E2E_RACE") == "1" {
		args = []string{"CGO_ENABLED=1", "go", "build", "-race", "-o", b.binary}
	}
	if err := command("env", append(args, "tributary.io/gateway")...); err != nil {
		return err
	}
	for _, source := range []string{"../../plugins/drogue", "../../plugins/fleets", "../../plugins/eixam", "../../examples/decoder",
		"testdata/chaos",
		"testdata/later", "testdata/judge", "testdata/cabinet"} {
		if err := command(b.binary, "plugin", "build", source, "-o", wasm(filepath.Base(source))); err != nil {
			return err
		}
	}
	// This compiles the modules, so that no test waits for it.
	settings := filepath.Join(b.dir, "gateway.toml")
	if err := os.WriteFile(settings, []byte(demo(chaos("")+later("http://127.0.0.1")+decoder(),
		fleetsPlugin()+eixamPlugin("http://127.0.0.1", ""))), 0o600); err != nil {
		return err
	}
	return command(b.binary, "check", "--config", settings, "--set", "wasm.cache_dir="+b.cache)
}

// watched makes the test cache depend on what the gateway and the plugins are
// built of, which only child processes read: go test remembers the files that a
// test asked for.
var watched = sync.OnceFunc(func() {
	for _, root := range []string{"../../gateway", "../../plugins", "../../examples", "../../sdk-plugin", "testdata"} {
		_ = filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(name)
			}
			return err
		})
	}
})

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// decoder is the example plugin and its route.
func decoder() string {
	return `
[plugins.decoder]
path = "` + wasm("decoder") + `"
[plugins.decoder.grant]
emit = ["io.tributary.example.reading.v1"]
[[routes]]
application = "demo"
plugin = "decoder"
type = "io.tributary.publish.v1"
topic = "$emqx/things/+/shadow/update"
`
}

// wasm is the path of a built plugin.
func wasm(name string) string { return filepath.Join(artefacts.dir, name+".wasm") }

// program finds an outside client, or skips the test, or fails it where all of
// them are required.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		without(t, "the program "+name+" is not installed")
	}
	return path
}

func without(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("TRIBUTARY_REQUIRE_CLIENTS") == "1" {
		t.Fatal(what)
	}
	t.Skip("LEFT OUT: " + what)
}
