package mqtt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// patience bounds every wait of a test; it is only ever used up by a failure.
const patience = 60 * time.Second

// fakeAuth grants what its function says; everybody is a device of application
// "demo" that may do everything, without one. It has no more to say.
type fakeAuth func(c *access.Credentials) (*access.Grant, error)

func (f fakeAuth) Connect(_ context.Context, c *access.Credentials) (*access.Grant, error) {
	if f != nil {
		return f(c)
	}
	return messaging(c.ClientID), nil
}

func (fakeAuth) Begin(context.Context, string, *access.Credentials) (access.Exchange, error) {
	return nil, &stage.Error{Code: event.Code(packet.CodeBadAuthenticationMethod), Reason: "no such method"}
}

func (fakeAuth) Message(_ context.Context, g *access.Grant, _ []event.Property) (*access.Grant, error) {
	return g, nil
}

func (fakeAuth) Authorize(context.Context, *access.Grant, access.Action, string, byte, bool) error {
	return nil
}

func (fakeAuth) Renew(g *access.Grant) (*access.Grant, error) { return g, nil }

func messaging(device string) *access.Grant {
	return &access.Grant{Principal: "p", Namespace: "n", Application: "demo", Device: device, Messaging: true,
		Publish: []string{"#", "$own/#"}, Subscribe: []string{"#", "$own/#"}}
}

// alice reads and commands my-app and reads ro-app.
func alice(*access.Credentials) (*access.Grant, error) {
	return &access.Grant{Principal: "alice", Namespace: "alice", Read: []string{"my-app", "ro-app"}, Write: []string{"my-app"}}, nil
}

// fakeRouter keeps what it is given; respond, if set, answers at once.
type fakeRouter struct {
	respond  func(*event.Inbound) stage.Outcome
	unrouted bool
	store    session.Store // what is committed along with events goes here
	got      chan submitted
}

type submitted struct {
	in   *event.Inbound
	done func(stage.Outcome)
}

func (r *fakeRouter) Routes(string) bool { return !r.unrouted }

func (r *fakeRouter) Submit(in *event.Inbound, along stage.Companion, done func(stage.Outcome)) {
	if along != nil {
		done = r.committing(along, done)
	}
	if r.respond != nil {
		o := r.respond(in)
		r.got <- submitted{in, nil}
		done(o)
		return
	}
	r.got <- submitted{in, done}
}

// committing has an accepted event committed before its outcome is told.
func (r *fakeRouter) committing(along stage.Companion, done func(stage.Outcome)) func(stage.Outcome) {
	return func(o stage.Outcome) {
		var b store.Batch
		if o.Unavailable || o.Code.Refused() {
			done(o)
			return
		}
		along.Prepare(&b)
		if len(b.Puts)+len(b.Deletes) == 0 {
			along.Committed()
			done(o)
			return
		}
		err := r.store.Commit(&b, func(err error) {
			if err != nil {
				along.Withdraw()
				o = stage.Outcome{Unavailable: true}
			} else {
				along.Committed()
			}
			done(o)
		})
		if err != nil {
			along.Withdraw()
			done(stage.Outcome{Unavailable: true})
		}
	}
}

// next is the next event of a type that the router got.
func (r *fakeRouter) next(t testing.TB, typ string) submitted {
	t.Helper()
	for {
		select {
		case s := <-r.got:
			if s.in.Event.Type == typ {
				return s
			}
			if s.done != nil {
				s.done(stage.Outcome{})
			}
		case <-time.After(patience):
			t.Fatalf("the router got no %s", typ)
		}
	}
}

// fakeLogs has memberships that a test feeds by hand.
type fakeLogs struct {
	joined chan *member
	err    error
}

type member struct {
	sub     stage.Subscription
	deliver func(stage.Record)
	acks    chan uint64
	left    chan struct{}
	once    sync.Once
}

func (l *fakeLogs) Join(sub stage.Subscription, deliver func(stage.Record)) (stage.Membership, error) {
	if l.err != nil {
		return nil, l.err
	}
	m := &member{sub: sub, deliver: deliver, acks: make(chan uint64, 10_000), left: make(chan struct{})}
	l.joined <- m
	return m, nil
}

func (m *member) Ack(offset uint64) { m.acks <- offset }
func (m *member) Leave()            { m.once.Do(func() { close(m.left) }) }

func (m *member) waitLeft(t testing.TB) {
	t.Helper()
	select {
	case <-m.left:
	case <-time.After(patience):
		t.Fatal("the consumer did not leave")
	}
}

func (m *member) waitAck(t testing.TB, want uint64) {
	t.Helper()
	select {
	case got := <-m.acks:
		if got != want {
			t.Fatalf("acked offset %d, want %d", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("offset %d was not acked", want)
	}
}

type fixture struct {
	t      testing.TB
	server *Server
	addr   string
	router *fakeRouter
	logs   *fakeLogs
	store  session.Store // set to nil for a server without one
	auth   Authenticator // in the place of start's, if set
	log    *slog.Logger  // in the place of none, if set
	stop   func()        // what the end of the test does, if it is not early
}

// settings is all of a server with one listener.
type settings struct {
	Config
	Limits
}

// newServer makes a server with sessions of its own.
func newServer(cfg Config, router session.Router, logs session.Logs, st session.Store) *Server {
	return newLoggedServer(cfg, router, logs, st, slog.New(slog.DiscardHandler))
}

func newLoggedServer(cfg Config, router session.Router, logs session.Logs, st session.Store, log *slog.Logger) *Server {
	return New(cfg, session.New(cfg.Sessions, router, logs, st, log), router, log)
}

// start runs a server on loopback until the test ends. change may adjust its
// settings and fakes.
func start(t testing.TB, auth fakeAuth, change func(*settings, *fixture)) *fixture {
	t.Helper()
	cfg := settings{Default(), DefaultLimits()}
	cfg.Linger = 200 * time.Millisecond
	f := &fixture{t: t, store: newMemStore(), router: &fakeRouter{unrouted: true},
		logs: &fakeLogs{joined: make(chan *member, 100)}}
	if change != nil {
		change(&cfg, f)
	}
	if f.router.got == nil {
		f.router.got = make(chan submitted, 100_000)
	}
	if err := errors.Join(cfg.Config.Validate(), cfg.Limits.Validate()); err != nil {
		t.Fatal(err)
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.server = newLoggedServer(cfg.Config, f.router, f.logs, f.store, f.log)
	f.router.store = f.store
	if f.auth == nil {
		f.auth = auth
	}
	door := &Listener{Name: "mqtt", Auth: f.auth, Limits: cfg.Limits}
	if err := f.server.Restore(door); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	ended := make(chan error, 1)
	go func() {
		ended <- f.server.Serve(context.Background(), ln, door)
	}()
	f.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		f.server.Shutdown(ctx)
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) member() *member {
	f.t.Helper()
	select {
	case m := <-f.logs.joined:
		return m
	case <-time.After(patience):
		f.t.Fatal("nobody joined")
		return nil
	}
}

// client speaks packets, one at a time.
type client struct {
	t       testing.TB
	nc      net.Conn
	version byte
	buf     []byte
	n       int
}

// dial opens a connection and says nothing.
func (f *fixture) dial(version byte) *client {
	f.t.Helper()
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { nc.Close() })
	return &client{t: f.t, nc: nc, version: version, buf: make([]byte, 4<<20)}
}

// connect opens a connection and expects it to be accepted.
func (f *fixture) connect(p packet.Connect) (*client, *packet.Connack) {
	f.t.Helper()
	c := f.dial(p.Version)
	c.send(&p)
	ack := expect[*packet.Connack](c)
	if ack.Code != 0 {
		f.t.Fatalf("CONNACK %#x", ack.Code)
	}
	return c, ack
}

// v5 and v3 connect a clean client.
func (f *fixture) v5(id string) *client {
	f.t.Helper()
	c, _ := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id})
	return c
}

func (f *fixture) v3(id string) *client {
	f.t.Helper()
	c, _ := f.connect(packet.Connect{Version: packet.V311, CleanStart: true, ClientID: id})
	return c
}

// kept connects with a session that stays.
func (f *fixture) kept(id string, change func(*packet.Connect)) (*client, *packet.Connack) {
	f.t.Helper()
	expiry := uint32(3600)
	p := packet.Connect{Version: packet.V5, ClientID: id, Props: &packet.Properties{SessionExpiry: &expiry}}
	if change != nil {
		change(&p)
	}
	return f.connect(p)
}

func (c *client) send(list ...packet.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range list {
		b = p.Append(b, c.version)
	}
	c.raw(b)
}

func (c *client) raw(b []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("writing: %v", err)
	}
}

// recv is the next packet, nil at the end of the connection.
func (c *client) recv() packet.Packet {
	c.t.Helper()
	for {
		first, size, header, err := packet.Header(c.buf[:c.n], packet.MaxSize)
		if err != nil {
			c.t.Fatalf("from the server: %v", err)
		}
		if header > 0 && c.n >= header+size {
			body := append([]byte(nil), c.buf[header:header+size]...)
			c.n = copy(c.buf, c.buf[header+size:c.n])
			p, err := packet.Decode(c.version, first, body)
			if err != nil {
				c.t.Fatalf("from the server: %v (% x)", err, body)
			}
			return p
		}
		c.nc.SetReadDeadline(time.Now().Add(patience))
		n, err := c.nc.Read(c.buf[c.n:])
		c.n += n
		if errors.Is(err, io.EOF) && c.n == 0 {
			return nil
		}
		if n == 0 && err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.t.Fatal("nothing came from the server")
			}
			c.t.Fatalf("reading: %v", err)
		}
	}
}

// expect receives a packet of one type.
func expect[P packet.Packet](c *client) P {
	c.t.Helper()
	p := c.recv()
	got, ok := p.(P)
	if !ok {
		var want P
		c.t.Fatalf("got %T %+v, want %T", p, p, want)
	}
	return got
}

// quiet expects that nothing is under way to the client.
func (c *client) quiet() {
	c.t.Helper()
	c.send(&packet.Pingreq{})
	expect[*packet.Pingresp](c)
}

// ended expects the end of the connection, after a DISCONNECT with the code for
// MQTT 5 (0: without one).
func (c *client) ended(code byte) {
	c.t.Helper()
	if code != 0 && c.version == packet.V5 {
		if d := expect[*packet.Disconnect](c); d.Code != code {
			c.t.Fatalf("DISCONNECT %#x, want %#x", d.Code, code)
		}
	}
	if p := c.recv(); p != nil {
		c.t.Fatalf("got %T, want the end of the connection", p)
	}
}

func (c *client) subscribe(qos byte, filters ...string) *packet.Suback {
	c.t.Helper()
	p := &packet.Subscribe{ID: 1}
	for _, f := range filters {
		p.Filters = append(p.Filters, packet.Filter{Topic: f, QoS: qos})
	}
	c.send(p)
	return expect[*packet.Suback](c)
}

// publish sends a message of QoS 1 and returns its PUBACK.
func (c *client) publish(topic, payload string) *packet.Ack {
	c.t.Helper()
	c.send(&packet.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, ID: 9})
	return expect[*packet.Ack](c)
}

func ptr[T any](v T) *T { return &v }

// effect is a plugin's publish.
func effect(device string, qos byte, topics ...string) *event.Publish {
	return &event.Publish{Device: device, Topics: topics, QoS: qos, Payload: []byte("do"), ContentType: "text/plain",
		ResponseTopic: "r", Correlation: []byte("c"), Properties: []event.Property{{Name: "a", Value: "b"}}, Expiry: time.Hour}
}

// deliver sends a plugin's message as the router does.
func (f *fixture) deliver(application string, p *event.Publish) stage.Delivery {
	return f.answer(application, "", p)
}

// answer is deliver for a plugin that handles an event of a client.
func (f *fixture) answer(application, client string, p *event.Publish) stage.Delivery {
	var b store.Batch
	x := f.server.sessions.Prepare(application, client, p, &b)
	if f.store != nil {
		if err := f.store.Commit(&b, nil); err != nil {
			x.Withdraw()
			return stage.NoDevice
		}
	}
	got, _ := x.Deliver()
	return got
}
