package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// directory is a registry in memory: device d1 of demo with password and key "right",
// device off that is disabled, and user alice with the same secrets.
type directory struct {
	mu       sync.Mutex
	devices  map[string]bool // "<application>/<device>", whether it is disabled
	down     error
	asked    map[string]int // calls by method
	enrolled []string
	prints   map[[sha256.Size]byte]string
	publish  []string
	gone     bool
}

func newDirectory() *directory {
	return &directory{devices: map[string]bool{"demo/d1": false, "demo/child": false, "demo/off": true},
		asked: map[string]int{}, prints: map[[sha256.Size]byte]string{}, publish: []string{"{device}/#", "u/{username}"}}
}

func (d *directory) count(what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked[what]++
	return d.down
}

func (d *directory) calls(what string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[what]
}

func (d *directory) Vouch(application, device string) (*access.Grant, error) {
	if err := d.count("vouch"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	disabled, ok := d.devices[application+"/"+device]
	switch {
	case !ok:
		return nil, badCredentials("unknown")
	case disabled:
		return nil, notAuthorized("disabled")
	}
	return &access.Grant{Principal: "device:" + application + "/" + device, Namespace: application, Application: application,
		Device: device, Publish: d.publish, Subscribe: []string{"to/{clientid}"}}, nil
}

func (d *directory) VouchUser(name string) (*access.Grant, error) {
	if err := d.count("vouchuser"); err != nil {
		return nil, err
	}
	if name != "alice" {
		return nil, badCredentials("unknown")
	}
	return &access.Grant{Principal: "user:alice", Namespace: "user:alice", Read: []string{"demo"}}, nil
}

func (d *directory) login(username string, right bool) (*access.Grant, error) {
	if !right {
		return nil, badCredentials("wrong")
	}
	device, application, ok := strings.Cut(username, "@")
	if !ok {
		return d.VouchUser(username)
	}
	return d.Vouch(application, device)
}

func (d *directory) Login(_ context.Context, username string, password []byte) (*access.Grant, error) {
	if err := d.count("login"); err != nil {
		return nil, err
	}
	return d.login(username, string(password) == "right")
}

func (d *directory) Key(_ context.Context, username string, key []byte) (*access.Grant, error) {
	if err := d.count("key"); err != nil {
		return nil, err
	}
	return d.login(username, string(key) == "trk_right")
}

func (d *directory) DeviceKey(_ context.Context, application, device string, key []byte) (*access.Grant, error) {
	if err := d.count("devicekey"); err != nil {
		return nil, err
	}
	return d.login(device+"@"+application, string(key) == "key of "+device)
}

func (d *directory) Certificate(sum [sha256.Size]byte) (*access.Grant, error) {
	if err := d.count("certificate"); err != nil {
		return nil, err
	}
	name, ok := d.prints[sum]
	if !ok {
		return nil, badCredentials("unknown")
	}
	return d.Vouch("demo", name)
}

func (d *directory) Anonymous(c *access.Credentials) (*access.Grant, error) {
	if err := d.count("anonymous"); err != nil {
		return nil, err
	}
	if !c.Peer.Addr().IsLoopback() {
		return nil, notAuthorized("from here only")
	}
	return &access.Grant{Principal: "anonymous:demo/" + c.ClientID, Namespace: "demo", Read: []string{"demo"}}, nil
}

func (d *directory) Enroll(_ context.Context, application, device, by string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.devices[application+"/"+device] = false
	d.enrolled = append(d.enrolled, application+"/"+device+" by "+by)
	return d.down
}

func (d *directory) Scram(username string) (salt, stored, server []byte, iterations int, g *access.Grant, err error) {
	if err := d.count("scram"); err != nil {
		return nil, nil, nil, 0, nil, err
	}
	sum := sha256.Sum256([]byte("salt of " + username))
	salt, iterations = sum[:16], 4096
	if username == "user" { // of RFC 7677
		salt = []byte("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
	}
	password := map[string]string{"d1@demo": "right", "off@demo": "right", "user": "pencil"}[username]
	if password == "" {
		return salt, sum[:], sum[:], iterations, nil, nil
	}
	salted, _ := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	mac := func(s string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	key := sha256.Sum256(mac("Client Key"))
	if username == "user" {
		username = "d1@demo"
	}
	g, err = d.login(username, true)
	return salt, key[:], mac("Server Key"), iterations, g, err
}

func (d *directory) Renew(g *access.Grant) (*access.Grant, error) {
	if err := d.count("renew"); err != nil {
		return nil, err
	}
	if d.gone {
		return nil, notAuthorized("revoked")
	}
	if name, ok := strings.CutPrefix(g.Principal, "user:"); ok {
		return d.VouchUser(name)
	}
	return d.Vouch(g.Application, g.Device)
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// judgeFunc is a plugin.
type judgeFunc func(in *event.Inbound) (event.Effect, error)

func (f judgeFunc) Judge(_ context.Context, _ string, in *event.Inbound) (event.Effect, func() bool, error) {
	verdict, err := f(in)
	return verdict, func() bool { return true }, err
}

// world is everything around an Auth.
type world struct {
	*Auth
	t     *testing.T
	dir   *directory
	clock *clock
	log   *bytes.Buffer
}

// newWorld makes an Auth. When the test ends, its log must not hold a secret.
func newWorld(t *testing.T, cfg Config, judge Judge) *world {
	t.Helper()
	w := &world{t: t, dir: newDirectory(), clock: newClock(), log: new(bytes.Buffer)}
	var mu sync.Mutex
	a, err := newAuth(cfg, w.dir, judge, slog.New(slog.NewTextHandler(&lockedWriter{mu: &mu, b: w.log},
		&slog.HandlerOptions{Level: slog.LevelDebug})), w.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	w.Auth = a
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, secret := range []string{"right", "s3cret", "eyJ"} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("the log holds a secret:\n%s", w.log)
			}
		}
	})
	return w
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *world) chain(methods ...string) *Chain {
	w.t.Helper()
	c, err := w.Chain(methods)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// client is credentials from elsewhere.
func client(username, password string) *access.Credentials {
	return &access.Credentials{Listener: "mqtt", Protocol: "mqtt", ClientID: "c1", Username: username, Password: []byte(password),
		HasUsername: username != "", HasPassword: password != "", Peer: netip.MustParseAddrPort("192.0.2.7:4711")}
}

// code is the reason code of a verdict.
func code(err error) event.Code {
	var e *stage.Error
	switch {
	case err == nil:
		return event.Success
	case errors.As(err, &e):
		return e.Code
	}
	return 0xFF // no verdict
}
