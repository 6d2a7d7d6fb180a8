package config

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A message that comes thousands of times is logged a few times, then once a second with how
// many were left out; another message is logged all the same.
func TestRepeats(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	log := slog.New(newRepeats(slog.NewTextHandler(&out, nil), func() time.Time { return now }))
	for range 1000 {
		log.With("device", "d1").Error("it cannot be stored")
	}
	log.Info("something else")
	if n := strings.Count(out.String(), "stored"); n != burst {
		t.Errorf("%d lines, want %d", n, burst)
	}
	if !strings.Contains(out.String(), "something else") {
		t.Error("another message is lost")
	}
	out.Reset()
	now = now.Add(time.Second)
	log.Error("it cannot be stored")
	log.Error("it cannot be stored")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "omitted=980") {
		t.Errorf("after a second: %q", got)
	}
}
