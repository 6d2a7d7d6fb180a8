package plugin

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tributary.io/sdk-plugin/event"
)

// documentGuest builds the guest in C that sdk-plugin/ABI.md shows.
func documentGuest(t *testing.T) []byte {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("left out: %s is not installed", tool)
		}
	}
	page, err := os.ReadFile("../../sdk-plugin/ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(page), "```c\n")
	code, _, ok := strings.Cut(code, "```")
	if !ok {
		t.Fatal("ABI.md has no C guest")
	}
	source, module := filepath.Join(t.TempDir(), "bytes.c"), filepath.Join(t.TempDir(), "bytes.wasm")
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("clang", "--target=wasm32", "-O2", "-mbulk-memory", "-nostdlib", "-Wl,--no-entry", "-o", module,
		source).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The guest that the document shows takes every kind of data that an event can have.
func TestGuestOfTheDocument(t *testing.T) {
	p := load(t, testHost(t, testConfig()), documentGuest(t), everything())
	for _, c := range []struct {
		name, contentType, data string
		text                    bool
	}{
		{"bytes", "", "\x00\xff", false},
		{"JSON", "application/json", `{"t":21.5}`, false},
		{"JSON of a CloudEvent", "application/json", `{"t":21.5}`, true},
		{"text", "text/plain", "21.5 °C", true},
		{"empty text", "text/plain", "", true},
		{"no bytes", "", "", false},
	} {
		in := inbound(c.data)
		in.Event.DataContentType, in.Event.Text = c.contentType, c.text
		result, err := p.Handle(context.Background(), 0, in, testTime, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := emitted(t, result); got != c.data {
			t.Errorf("%s: %q became %q", c.name, c.data, got)
		}
		if out := result.Effects[0].(*event.Emit); out.Event.Text != c.text {
			t.Errorf("%s: whether it is text is %v", c.name, out.Event.Text)
		}
	}
	in := inbound("")
	in.Event.Data = nil
	result, err := p.Handle(context.Background(), 0, in, testTime, nil)
	var failure *event.Failure
	if err != nil || !errors.As(result.Failure, &failure) || failure.Message != "no data" {
		t.Errorf("without data: %+v %v", result, err)
	}
}
