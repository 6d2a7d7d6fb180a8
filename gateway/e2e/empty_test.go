package e2e

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"tributary.io/gateway/store"
)

// The program runs in a root directory that holds it, its settings and a plugin, and
// nothing else: no C library, no /etc, /proc, /dev or /tmp.
func TestEmptyRoot(t *testing.T) {
	switch {
	case os.Getuid() != 0:
		t.Skip("LEFT OUT: only root may change the root directory of a process")
	case os.Getenv("TRIBUTARY_E2E_RACE") == "1":
		t.Skip("LEFT OUT: the race detector needs the C library")
	case runtime.GOOS != "linux":
		t.Skip("LEFT OUT: elsewhere than on Linux every program needs the system's libraries")
	}
	config := configured(t, strings.ReplaceAll(demo("", ""), wasm("drogue"), "/drogue.wasm"))
	root := t.TempDir()
	for name, source := range map[string]string{"tributary": artefacts.binary, "drogue.wasm": wasm("drogue"), "gateway.toml": config} {
		copied(t, source, filepath.Join(root, name))
	}
	g := &gateway{t: t, dir: filepath.Join(root, "data"), config: config, within: root}
	g.run()
	t.Cleanup(func() {
		if g.cmd != nil {
			g.kill()
		}
	})
	g.v5("d").accepted("temperature", "21")
	if status := g.stop(); status != 0 {
		t.Fatalf("exit status %d\n%s", status, g.out.tail())
	}
	if list := g.stored(store.Events("demo")); len(list) != 1 || string(list[0].Data) != "21" {
		t.Errorf("events: %+v", list)
	}
}

func copied(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
