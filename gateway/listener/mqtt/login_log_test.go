package mqtt

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// A flood of refused logins is one line a minute for each address and name, without the token.
func TestRefusedLoginsAreLogged(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzdWJqZWN0LTEifQ.c2lnbmF0dXJl"
	var log logText
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the token has expired"}
	}, func(_ *settings, f *fixture) { f.log = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 3 {
		c := f.dial(packet.V5)
		c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "c1", HasUsername: true, Username: token})
		if ack := expect[*packet.Connack](c); ack.Code != packet.CodeBadUserNameOrPassword {
			t.Fatalf("CONNACK %#x", ack.Code)
		}
		c.ended(0)
	}
	f.stop()
	if strings.Contains(log.String(), token) || strings.Contains(log.String(), "c2lnbmF0dXJl") {
		t.Errorf("the log holds the token:\n%s", log.String())
	}
	if n := strings.Count(log.String(), `msg="login refused"`); n != 1 || !strings.Contains(log.String(), "token:") ||
		!strings.Contains(log.String(), "the token has expired") {
		t.Errorf("three refusals are told in %d lines:\n%s", n, log.String())
	}
}

// logText is what was logged so far. A connection may still log while a test reads.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
