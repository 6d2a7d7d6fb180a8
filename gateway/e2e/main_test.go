package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of a test; it is only ever used up by a failure.
const patience = 30 * time.Second

// built is what TestMain made, in one directory for the whole run.
type built struct {
	dir     string // of modules <name>.wasm
	binary  string // the gateway
	cache   string // compiled plugins, so that only the first start compiles
	problem error
}

var artefacts built

// TestMain builds the gateway and the plugins once. A failure to build is told
// by each test, so that the run names it like any other.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tributary-e2e-")
	if err != nil {
		artefacts.problem = err
	} else {
		defer os.RemoveAll(dir)
		artefacts = build(dir)
	}
	m.Run() // the testing package ends the process with its result
}

func build(dir string) built {
	b := built{dir: dir, binary: filepath.Join(dir, "tributary"), cache: filepath.Join(dir, "cache")}
	args := []string{"build", "-o", b.binary}
	if raceDetector {
		args = append(args, "-race")
	}
	b.problem = command("go", append(args, "tributary.io/gateway")...)
	for _, source := range []string{"../../plugins/drogue", "../../examples/decoder", "testdata/chaos"} {
		if b.problem == nil {
			b.problem = command(b.binary, "plugin", "build", source, "-o", filepath.Join(dir, filepath.Base(source)+".wasm"))
		}
	}
	return b
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
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
