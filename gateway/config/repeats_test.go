package config

import (
	"bytes"
	"fmt"
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

// verbose is an error as some libraries make them: with its stack where a format asks for more.
type verbose struct{}

func (verbose) Error() string { return "short" }

func (verbose) Format(s fmt.State, verb rune) { fmt.Fprint(s, "short with a stack") }

func TestErrorsInTheLog(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		Log{Level: "info", Format: format}.Logger(&out).Error("it failed", "error", verbose{})
		if got := out.String(); strings.Contains(got, "stack") || !strings.Contains(got, "short") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
