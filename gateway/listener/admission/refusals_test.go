package admission

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

func TestRefusals(t *testing.T) {
	var log bytes.Buffer
	r := NewRefusals(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(1000, 0)
	wrong := fmt.Errorf("password: %w", &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the password is wrong"})
	login := func(address, name string) {
		r.Tell(&access.Credentials{Listener: "mqtt", ClientID: "c1", Username: name, Password: []byte("hunter2"),
			Peer: netip.MustParseAddrPort(address)}, wrong, now)
	}
	lines := func() int { return strings.Count(log.String(), "\n") }
	for range 100 {
		login("192.0.2.1:1000", "d1@demo")
	}
	if lines() != 1 || strings.Contains(log.String(), "hunter2") {
		t.Errorf("100 wrong passwords of one name are told so:\n%s", &log)
	}
	for _, want := range []string{"level=INFO", "listener=mqtt", "peer=192.0.2.1", "client=c1", "username=d1@demo", "code=0x86",
		`reason="password: the password is wrong"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the line lacks %s:\n%s", want, &log)
		}
	}
	login("192.0.2.1:1001", "d2@demo")
	login("192.0.2.2:1000", "d1@demo")
	if lines() != 3 {
		t.Errorf("another name and another address are not told:\n%s", &log)
	}
	now = now.Add(time.Minute)
	login("192.0.2.1:1002", "d1@demo")
	if lines() != 4 || !strings.Contains(log.String(), "refusals=100") {
		t.Errorf("after a minute:\n%s", &log)
	}
	r.Tell(&access.Credentials{}, errors.New("the provider does not answer"), now)
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("a login that nobody could judge:\n%s", &log)
	}
}
