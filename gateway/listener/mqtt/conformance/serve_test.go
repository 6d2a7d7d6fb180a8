package conformance

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
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
	address   string
	foreign   bool   // not a gateway with the settings below
	webSocket string // address of a WebSocket listener; "": there is none
	admin     string // URL of its admin API
	token     string // for that
}

// password is that of the users below.
const password = "correct horse"

// settings make a gateway whose clients exchange messages. limited@things is a
// device with few rights, any@things one with more than anonymous ones have, and
// reader a user who has no topics at all.
const settings = `
[listeners.mqtt.tcp]
address = "127.0.0.1:0"
topic_alias_max = 5
receive_maximum = 20
refuse_filters = ["refused"]
linger = "200ms"
connect_timeout = "3s"
[listeners.mqtt.ws]
address = "127.0.0.1:0"
websocket = { enabled = true }
[admin]
address = "127.0.0.1:0"
token_file = "DIR/admin.token"
[wasm]
cache_dir = ""
[store]
dir = "DIR/store"
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
	if err := os.WriteFile(file, []byte(strings.NewReplacer("DIR", filepath.ToSlash(dir), "HASH", hash).Replace(settings)),
		0o600); err != nil {
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
	pattern := regexp.MustCompile(`msg=listening listener=(\S+) address=(\S+)`)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		at := map[string]string{}
		for _, m := range pattern.FindAllStringSubmatch(out.String(), -1) {
			at[m[1]] = m[2]
		}
		token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
		if at["mqtt.tcp"] != "" && at["admin"] != "" && err == nil {
			s := &target{address: at["mqtt.tcp"], webSocket: at["mqtt.ws"], admin: "http://" + at["admin"] + "/api/v1",
				token: strings.TrimSpace(string(token))}
			s.enrol(t)
			return s
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

// enrol makes a device, prover@provers, that proves to know its password by
// SCRAM-SHA-256. Such credentials are made while a gateway runs.
func (s *target) enrol(t *testing.T) {
	const device = "/applications/provers/devices/prover"
	for _, step := range [][3]string{
		{"PUT", "/applications/provers", `{"name":"provers","messaging":true}`},
		{"PUT", device, `{"application":"provers","name":"prover","publish":["#"],"subscribe":["#"]}`},
		{"POST", device + "/credentials", `{"kind":"scram-sha-256","password":"` + password + `"}`},
	} {
		req, err := http.NewRequest(step[0], s.admin+step[1], strings.NewReader(step[2]))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", step[0], step[1], resp.Status)
		}
	}
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
