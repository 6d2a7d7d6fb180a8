package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuests builds the C guest that ABI.md shows and the example in Go, and
// compares what they export and import with ABI 1. The plugin host's tests run
// guests; this keeps the words of ABI.md and the SDK to the same names.
func TestGuests(t *testing.T) {
	abi, err := os.ReadFile("ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("c", func(t *testing.T) {
		clang, err := exec.LookPath("clang")
		if err != nil {
			t.Skip("left out: clang is not installed")
		}
		if _, err := exec.LookPath("wasm-ld"); err != nil {
			t.Skip("left out: wasm-ld (lld) is not installed")
		}
		_, code, _ := strings.Cut(string(abi), "```c\n")
		code, _, ok := strings.Cut(code, "```")
		if !ok {
			t.Fatal("ABI.md has no C guest")
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "bytes.c"), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(clang, "--target=wasm32", "-O2", "-mbulk-memory", "-nostdlib", "-Wall", "-Wextra", "-Werror", "-Wl,--no-entry", "-o",
			"bytes.wasm", "bytes.c")
		cmd.Dir = dir
		checkGuest(t, string(abi), cmd, filepath.Join(dir, "bytes.wasm"), 8<<10)
	})
	t.Run("go", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "decoder.wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "../examples/decoder")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		checkGuest(t, string(abi), cmd, out, 3<<20) // fmt or encoding/json in the SDK would pass this
	})
}

func checkGuest(t *testing.T, abi string, cmd *exec.Cmd, path string, most int) {
	t.Helper()
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	wasm, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(wasm) > most {
		t.Errorf("the module has %d bytes, more than %d", len(wasm), most)
	}
	imports, exports := names(t, wasm)
	for _, want := range []string{"memory", "tributary_abi_1", "tributary_buffer", "tributary_handle"} {
		if !exports[want] {
			t.Errorf("%s is not exported", want)
		}
	}
	for name := range imports {
		_, ours := strings.CutPrefix(name, "tributary.")
		if ours && !strings.Contains(abi, "| `tributary` `"+strings.TrimPrefix(name, "tributary.")+"` |") || !ours &&
			!strings.HasPrefix(name, "wasi_snapshot_preview1.") {
			t.Errorf("%s is imported, which ABI 1 does not have", name)
		}
	}
}

// names reads the import and export sections (WebAssembly 2.0, section 5.5).
func names(t *testing.T, wasm []byte) (imports, exports map[string]bool) {
	t.Helper()
	imports, exports = make(map[string]bool), make(map[string]bool)
	b := wasm[8:]
	number := func() (v int) {
		for shift := 0; ; shift += 7 {
			c := b[0]
			b = b[1:]
			if v |= int(c&0x7f) << shift; c < 0x80 {
				return v
			}
		}
	}
	name := func() string {
		n := number()
		s := string(b[:n])
		b = b[n:]
		return s
	}
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		size := number()
		rest := b[size:]
		switch id {
		case 2:
			for range number() {
				full := name() + "." + name()
				if imports[full] = true; b[0] != 0 {
					t.Fatalf("%s is no function", full)
				}
				b = b[1:]
				number()
			}
		case 7:
			for range number() {
				exports[name()] = true
				b = b[1:]
				number()
			}
		}
		b = rest
	}
	return imports, exports
}
