package auth

import "testing"

// No authority can vouch for a device whose name leads elsewhere.
func TestPlainName(t *testing.T) {
	for name, want := range map[string]bool{
		"pump-1": true, "...": true, "a.b": true, "é": true,
		"": false, ".": false, "..": false, "a/b": false, "+": false, "a#": false, "a*": false, "{device}": false, "a\tb": false, "\xff": false,
	} {
		if plainName(name) != want {
			t.Errorf("plainName(%q) is %v", name, !want)
		}
	}
}
