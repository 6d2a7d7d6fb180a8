package e2e

import (
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// mosquitto_rr subscribes to its response topic before it asks. A consumer may do
// that below reply/<client id>/, and there gets the answer to its command.
func TestMosquittoRequestResponse(t *testing.T) {
	rr := program(t, "mosquitto_rr")
	g := start(t, demo("", `
[users.alice]
password_hashes = ["`+hashed(t, "alice's")+`"]
read = ["demo"]
write = ["demo"]
`))
	for name, login := range map[string][]string{"anonymous": nil, "a user": {"-u", "alice", "-P", "alice's"}} {
		args := append([]string{"-V", "5", "-i", "asker", "-q", "1", "-t", "command/demo/nobody/start", "-e", "reply/asker/1", "-m", "{}"},
			login...)
		if out := foreground(t, g, rr, args...); !strings.Contains(out, `"status":"no-such-device"`) {
			t.Errorf("%s: the answer is %q", name, out)
		}
	}
	c := g.in("asker", "alice", "alice's")
	if code := c.subscribe("reply/somebody-else/1"); code < 0x80 {
		t.Errorf("SUBACK %#x for another client's answers", code)
	}
}

// A connection ends when the key that opened it expires: no sooner, and without a
// packet of the client.
func TestKeyExpires(t *testing.T) {
	g := start(t, demo(anywhere, ""))
	g.did("app", "create", "plant")
	g.did("device", "create", "plant", "pump-1")
	end := time.Now().Add(4 * time.Second).Truncate(time.Second)
	key := strings.TrimSpace(g.did("key", "create", "pump-1@plant", "--expires", end.Format(time.RFC3339)))
	pump := g.in("pump", "pump-1@plant", key)
	d := expect[*packet.Disconnect](pump)
	if d.Code != packet.CodeNotAuthorized || !strings.Contains(reason(d.Props), "expired") {
		t.Errorf("DISCONNECT %#x %s", d.Code, reason(d.Props))
	}
	if early := time.Until(end); early > 0 {
		t.Errorf("it ended %v early", early)
	}
	if _, code := g.present("pump", "pump-1@plant", key); code < 0x80 {
		t.Errorf("an expired key: CONNACK %#x", code)
	}
}
