package conformance

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/config"
	"tributary.io/gateway/registry"
	"tributary.io/gateway/server"
)

// target is the server that is looked at.
type target struct {
	address string
	foreign bool // not a gateway with the settings below
}

// password is that of the users below.
const password = "correct horse"

// settings make a gateway whose clients exchange messages. limited@things is a
// device with few rights, any@things one with more than anonymous ones have, and
// reader a user who has no topics at all.
const settings = `
[listeners.mqtt]
address = "127.0.0.1:0"
topic_alias_max = 5
receive_maximum = 20
refuse_filters = ["refused"]
linger = "200ms"
[admin]
address = ""
[store]
dir = "DIR"
[applications.testing]
anonymous = true
messaging = true
[applications.things]
messaging = true
[applications.things.devices.limited]
password_hashes = ["HASH"]
publish = ["allowed/#"]
subscribe = ["allowed/#"]
[applications.things.devices.any]
password_hashes = ["HASH"]
publish = ["#"]
subscribe = ["#", "$x/#"]
[users.reader]
password_hashes = ["HASH"]
read = ["testing"]
`

// serve starts a gateway, or takes the server that the environment names.
func serve(t *testing.T) *target {
	if address := os.Getenv("TRIBUTARY_CONFORMANCE_ADDRESS"); address != "" {
		return &target{address: address, foreign: true}
	}
	hash, err := registry.Hash([]byte(password))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.toml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("DIR", filepath.ToSlash(dir)+"/store", "HASH", hash).Replace(settings)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	out := &logged{}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.New(cfg, slog.New(slog.NewTextHandler(out, nil))).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the gateway: %v", err)
		}
	})
	pattern := regexp.MustCompile(`msg=listening listener=mqtt address=(\S+)`)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if m := pattern.FindStringSubmatch(out.String()); m != nil {
			return &target{address: m[1]}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the gateway: %v\n%s", err, out)
		default:
		}
	}
	t.Fatalf("the gateway does not listen:\n%s", out)
	return nil
}

// logged is what the gateway logs.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// own leaves a check out that needs the settings above.
func (r *run) own() {
	if r.foreign {
		r.Skip("needs the settings of this package's own gateway")
	}
}

func (r *run) limited() *peer {
	r.own()
	return r.connect(login{id: r.id("limited"), user: "limited@things", password: password})
}

// any is a client that may use topics that begin with $, too.
func (r *run) any(name string) *peer {
	if r.foreign {
		return r.client(name)
	}
	return r.connect(login{id: r.id(name), user: "any@things", password: password})
}
