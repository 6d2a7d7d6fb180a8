package meter

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// FuzzRewrite: whatever the bytes, Rewrite neither panics nor allocates beyond their measure; and
// of the modules that it accepts, the runtime accepts the result exactly if it accepts the original.
// The second half is a matter of security: where the runtime read other instructions than Rewrite
// did, they could reach the meter, whose indices are invalid in the original. With inCode the bytes are the
// code of a function, since few random modules get as far as that.
func FuzzRewrite(f *testing.F) {
	for _, m := range testModules(f) {
		f.Add(m, false, false)
	}
	all := []byte{}
	for _, code := range opcodes() {
		all = append(append(append(all, 0x00), code...), 0x00)
		if len(all) > 200 {
			f.Add(bytes.Clone(all), true, true)
			all = all[:0]
		}
	}
	f.Add([]byte{0x02, void, opLoop, void, 0x41, 0, opIf, void, 0x0c, 2, opElse, 0x0c, 1, opEnd, 0x41, 0, 0x0e, 1, 0, 1, opEnd, opEnd}, true,
		true)
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Cleanup(func() { r.Close(ctx) })
	f.Fuzz(func(t *testing.T, data []byte, inCode, report bool) {
		if inCode {
			data = codeModule(data...)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Rewrite(data, Options{ReportCheckpoints: report})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > uint64(1<<16+400*len(data)) {
			t.Errorf("%d bytes of input took %d bytes of memory", len(data), n)
		}
		if err != nil {
			return
		}
		if again := rewrite(t, data, Options{ReportCheckpoints: report}); !bytes.Equal(again.Bytes, m.Bytes) {
			t.Error("rewriting twice gives different bytes")
		}
		want, got := compiles(r, data), compiles(r, m.Bytes)
		if want != nil && strings.Contains(want.Error(), "custom") {
			return // which may be left out
		}
		if (want == nil) != (got == nil) {
			t.Errorf("original: %v\nrewritten: %v", want, got)
		}
	})
}
