package main

import (
	"testing"
	"time"

	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/vector"
)

func TestVectors(t *testing.T) {
	vector.Test(t, "testdata/*.json", func(c *vector.Case) event.Result {
		return sdk.Run(handle, c.Inbound, c.Config, c.State)
	})
}

// The user hash of the vendor's documents (EX01) and of the golden vectors.
func TestSign(t *testing.T) {
	for _, tt := range []struct{ secret, external, want string }{
		{"your_secret_key", "user_123", "87e872278f2a1d189e2a5715a69d694fc0102de93858f1d863e279060ffc2fb4"},
		{"test-secret", "partner-user-123", "4d96f6c750a149ea5237d17f4243534a86350c7e400e843c79be97023048b1a5"},
	} {
		if got := sign(tt.secret, tt.external); got != tt.want {
			t.Errorf("the hash of %s is %s, want %s", tt.external, got, tt.want)
		}
	}
	a := app{secret: ""}
	if a.proves("x", sign("", "x")) {
		t.Error("an app without a secret lets somebody in")
	}
}

// Times are written as package time would.
func TestStamp(t *testing.T) {
	for _, ms := range []int64{0, 1, 999, 1767225600000, 1776513600123, 951782400000, 4107542399999, -1, -86400001, 9223372036854} {
		if got, want := stamp(ms), time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("%d is %s, want %s", ms, got, want)
		}
	}
}
