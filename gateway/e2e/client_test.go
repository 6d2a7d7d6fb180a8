package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// client speaks packets. Sending and receiving may be done by two goroutines;
// the methods that fail the test are for the test's own.
type client struct {
	t       testing.TB
	nc      net.Conn
	in      *bufio.Reader
	version byte
}

// dial opens a connection and says nothing.
func (g *gateway) dial(version byte) *client {
	g.t.Helper()
	c, err := open(g.mqtt, version)
	if err != nil {
		g.t.Fatal(err)
	}
	c.t = g.t
	g.t.Cleanup(func() { c.nc.Close() })
	return c
}

func open(address string, version byte) (*client, error) {
	nc, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	return &client{nc: nc, in: bufio.NewReaderSize(nc, 64<<10), version: version}, nil
}

// login opens a connection and expects it to be accepted.
func (g *gateway) login(p packet.Connect) (*client, *packet.Connack) {
	g.t.Helper()
	c := g.dial(p.Version)
	c.send(&p)
	ack := expect[*packet.Connack](c)
	if ack.Code != 0 {
		g.t.Fatalf("CONNACK %#x %s", ack.Code, reason(ack.Props))
	}
	return c, ack
}

// v5 connects a clean client; its id is its device.
func (g *gateway) v5(id string) *client {
	g.t.Helper()
	c, _ := g.login(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id})
	return c
}

func (g *gateway) v3(id string) *client {
	g.t.Helper()
	c, _ := g.login(packet.Connect{Version: packet.V311, CleanStart: true, ClientID: id})
	return c
}

// kept connects with a session that stays.
func (g *gateway) kept(id string) *client {
	g.t.Helper()
	c, _ := g.login(packet.Connect{Version: packet.V5, ClientID: id, Props: &packet.Properties{SessionExpiry: ptr(uint32(3600))}})
	return c
}

func (c *client) write(list ...packet.Packet) error {
	var b []byte
	for _, p := range list {
		b = p.Append(b, c.version)
	}
	return c.raw(b)
}

func (c *client) raw(b []byte) error {
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.nc.Write(b)
	return err
}

func (c *client) send(list ...packet.Packet) {
	c.t.Helper()
	if err := c.write(list...); err != nil {
		c.t.Fatalf("writing: %v", err)
	}
}

// read is the next packet; io.EOF at an orderly end of the connection.
func (c *client) read() (packet.Packet, error) {
	c.nc.SetReadDeadline(time.Now().Add(patience))
	for n := 2; ; n++ {
		head, err := c.in.Peek(n)
		if err != nil {
			return nil, err
		}
		first, size, length, err := packet.Header(head, packet.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("malformed from the gateway: %w", err)
		}
		if length == 0 {
			continue
		}
		c.in.Discard(length)
		body := make([]byte, size)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return nil, err
		}
		p, err := packet.Decode(c.version, first, body)
		if err != nil {
			return nil, fmt.Errorf("malformed from the gateway: %w", err)
		}
		return p, nil
	}
}

// recv is the next packet, nil at the end of the connection.
func (c *client) recv() packet.Packet {
	c.t.Helper()
	p, err := c.read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("nothing came from the gateway")
	}
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return p
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

// quiet expects that nothing is under way to the client, and that it is served.
func (c *client) quiet() {
	c.t.Helper()
	c.send(&packet.Pingreq{})
	expect[*packet.Pingresp](c)
}

// publish sends a message at QoS 1 and returns its PUBACK.
func (c *client) publish(topic, payload string, props ...*packet.Properties) *packet.Ack {
	c.t.Helper()
	p := &packet.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, ID: 9}
	if len(props) > 0 {
		p.Props = props[0]
	}
	c.send(p)
	return expect[*packet.Ack](c)
}

// accepted publishes a message that has to be acknowledged with success.
func (c *client) accepted(topic, payload string, props ...*packet.Properties) {
	c.t.Helper()
	if ack := c.publish(topic, payload, props...); ack.Code != 0 {
		c.t.Fatalf("PUBACK %#x %s", ack.Code, reason(ack.Props))
	}
}

// subscribe subscribes at QoS 1 and returns the code; options are pairs of user
// properties.
func (c *client) subscribe(filter string, options ...string) byte {
	c.t.Helper()
	p := &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter, QoS: 1}}}
	for i := 0; i < len(options); i += 2 {
		if p.Props == nil {
			p.Props = &packet.Properties{}
		}
		p.Props.User = append(p.Props.User, packet.UserProperty{Name: options[i], Value: options[i+1]})
	}
	c.send(p)
	return expect[*packet.Suback](c).Codes[0]
}

// next is the next message, acknowledged.
func (c *client) next() *packet.Publish {
	c.t.Helper()
	m := c.take()
	if m.QoS > 0 {
		c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
	}
	return m
}

// take is the next message, not acknowledged.
func (c *client) take() *packet.Publish {
	c.t.Helper()
	return expect[*packet.Publish](c)
}

// event is the next event of a structured subscription, acknowledged and
// strictly parsed.
func (c *client) event() event.Event {
	c.t.Helper()
	return parse(c.t, c.next())
}

// consumer subscribes to the log of application demo as nobody's device.
func (g *gateway) consumer(options ...string) *client {
	g.t.Helper()
	c := g.v5("") // nobody's device
	if code := c.subscribe("app/demo", options...); code != 1 {
		g.t.Fatalf("SUBACK %#x", code)
	}
	return c
}

// events reads the log of application demo from its first event to its end,
// which it marks with an event of its own.
func (g *gateway) events() []event.Event {
	g.t.Helper()
	mark := strconv.FormatInt(time.Now().UnixNano(), 36)
	g.v5("the-end").accepted("end", mark)
	c := g.consumer("stream-offset", "first")
	defer c.nc.Close()
	var list []event.Event
	for {
		e := c.event()
		if e.Device == "the-end" && string(e.Data) == mark {
			return list
		}
		if e.Device != "the-end" {
			list = append(list, e)
		}
	}
}

// parse reads a structured delivery.
func parse(t testing.TB, m *packet.Publish) (e event.Event) {
	t.Helper()
	if err := codec.ParseJSON(m.Payload, &e); err != nil {
		t.Fatalf("not a CloudEvent: %v\n%s", err, m.Payload)
	}
	return e
}

func reason(p *packet.Properties) string {
	if p == nil || p.ReasonString == nil {
		return ""
	}
	return *p.ReasonString
}

func user(p *packet.Properties, name string) string {
	if p != nil {
		for _, u := range p.User {
			if u.Name == name {
				return u.Value
			}
		}
	}
	return ""
}

func ptr[T any](v T) *T { return &v }
