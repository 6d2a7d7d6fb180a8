package plugin

import (
	"fmt"
	"sort"
	"strings"

	"tributary.io/gateway/plugin/meter"
)

// The names of ABI 1 (sdk-plugin/ABI.md).
const (
	hostModule     = "tributary"
	wasiModule     = "wasi_snapshot_preview1"
	abiPrefix      = "tributary_abi_"
	exportMarker   = abiPrefix + "1"
	exportInit     = "_initialize"
	exportMemory   = "memory"
	exportBuffer   = "tributary_buffer"
	exportHandle   = "tributary_handle"
	importStateGet = "state_get"
	importScan     = "state_scan"
	importLog      = "log"
	importJSON     = "json_index"
)

// CheckModule says why no gateway would load a module, whatever it is granted: it breaks
// the ABI, or is too large or too expensive to compile. It compiles and runs nothing.
func CheckModule(wasm []byte) error {
	module, err := rewrite(wasm)
	if err != nil {
		return err
	}
	return checkABI(module.Interface)
}

// rewrite reads a module and makes it one that can be bounded.
func rewrite(wasm []byte) (*meter.Module, error) {
	return meter.Rewrite(wasm, meter.Options{ReportCheckpoints: true})
}

// maxComplaints bounds what is said of one module.
const maxComplaints = 32

// checkABI says whether a module keeps to ABI 1. It names everything that is
// wrong, so that a plugin author need not build once per mistake.
func checkABI(m *meter.Interface) error {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	if _, ok := m.Exports[exportMarker]; !ok {
		var other []string
		for name := range m.Exports {
			if strings.HasPrefix(name, abiPrefix) {
				other = append(other, strings.TrimPrefix(name, abiPrefix))
			}
		}
		sort.Strings(other)
		if len(other) > 0 {
			return fmt.Errorf("it speaks plugin ABI %s, this gateway knows only 1: build it with an SDK of this gateway's version",
				strings.Join(other, ", "))
		}
		complain("the export %s is missing: this is no Tributary plugin, or it was not built as a reactor (Go: -buildmode=c-shared)",
			exportMarker)
	}
	for _, want := range []struct{ name, params, results string }{
		{exportMarker, "", ""}, {exportBuffer, "i", "i"}, {exportHandle, "i", "I"}, {exportInit, "", ""},
	} {
		got, ok := m.Exports[want.name]
		sig := sigText(want.params, want.results)
		switch {
		case !ok && want.name != exportInit && want.name != exportMarker:
			complain("the export %s %s is missing", want.name, sig)
		case ok && (got.Kind != meter.Function || m.Signature(got) != sig):
			complain("the export %s is %s, it must be a function %s", want.name, m.Describe(got), sig)
		}
	}
	if e, ok := m.Exports[exportMemory]; !ok || e.Kind != meter.Memory || !m.Memory {
		complain("it must have exactly one memory of its own, exported as %q", exportMemory)
	}
	allowed := allowedImports()
	for _, im := range m.Imports {
		sig, ok := allowed[im.Module+"."+im.Name]
		switch {
		case len(wrong) > maxComplaints:
			return fmt.Errorf("it does not keep to plugin ABI 1: %s; and there is more", strings.Join(wrong, "; "))
		case !ok || im.Kind != meter.Function:
			complain("it imports %s.%s (%s), which a plugin may not use", im.Module, im.Name, m.Describe(im))
		case m.Signature(im) != sig:
			complain("it imports %s.%s as %s, it is %s", im.Module, im.Name, m.Signature(im), sig)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("it does not keep to plugin ABI 1: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// allowedImports returns the signature of everything that a plugin may import.
func allowedImports() map[string]string {
	allowed := map[string]string{}
	for _, f := range hostFunctions() {
		allowed[hostModule+"."+f.name] = sigText(f.params, f.results)
	}
	for _, f := range wasiFunctions() {
		allowed[wasiModule+"."+f.name] = sigText(f.params, f.results)
	}
	return allowed
}

// sigText writes a signature from one letter per value: i for i32, I for i64.
func sigText(params, results string) string {
	list := func(s string) string {
		return "(" + strings.Join(strings.Split(strings.NewReplacer("I", "i64,", "i", "i32,").Replace(s), ",")[:len(s)], ", ") + ")"
	}
	return list(params) + " → " + list(results)
}
