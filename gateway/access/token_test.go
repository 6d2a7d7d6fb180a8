package access

import (
	"strings"
	"testing"
)

func TestPublicName(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkMSJ9.c2lnbmF0dXJl"
	for name, hidden := range map[string]bool{
		token: true, token[:len(token)-1]: true, token + " ": true,
		strings.TrimSuffix(token, ".c2lnbmF0dXJl"): true, token + strings.Repeat("A", 1<<20): true,
		"": false, "device1@plant": false, "eyJack": false, "sdk:app:user.name": false,
	} {
		got := PublicName(name)
		if (got != name) != hidden || hidden && (len(got) > 20 || strings.Contains(got, "eyJ")) {
			t.Errorf("%.60q becomes %.60q", name, got)
		}
	}
	digest := PublicName(token)
	if again := PublicName(token); again != digest || PublicName(token+"A") == digest {
		t.Error("the digest does not tell tokens apart")
	}
}
