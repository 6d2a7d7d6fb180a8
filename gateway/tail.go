package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tributary.io/gateway/listener/mqtt/packet"
)

func tailCommand() command {
	return command{
		name:    "tail",
		args:    "<application>",
		summary: "print an application's events as they come",
		help: `
Connects to a running gateway as a consumer of its own and prints the events of an
application, a line each, until it is interrupted. It takes nothing away from other
consumers. Where the application is not anonymous, name a user who may read it with
--username; the password comes from the terminal or --password-file.

Examples:
  tributary tail demo
  tributary tail demo --from first --count 10 --pretty
  tributary tail demo --quarantine --from first
  tributary tail demo --from 2026-11-21T08:00:00Z --json | jq .data
  tributary tail plant --address gateway.example:1883 --username alice
`,
		setup: func(flags *flag.FlagSet) func(context.Context, *terminal, []string) error {
			var o tailOptions
			flags.StringVar(&o.address, "address", "127.0.0.1:1883", "`address` of the gateway's MQTT listener")
			flags.StringVar(&o.username, "username", "", "user `name` (default: @<application>, which is anonymous)")
			flags.StringVar(&o.passwordFile, "password-file", "", "`file` whose first line is the password; - is standard input")
			flags.StringVar(&o.from, "from", "next", "`where` to begin: first, last, next, an offset, or an RFC 3339 time")
			flags.BoolVar(&o.quarantine, "quarantine", false, "print the events that no plugin could handle instead")
			flags.BoolVar(&o.json, "json", false, "print each event whole, as JSON")
			flags.BoolVar(&o.pretty, "pretty", false, "print each event whole, as indented JSON")
			flags.Uint64Var(&o.count, "count", 0, "stop after this `number` of events (default: never)")
			return func(ctx context.Context, t *terminal, args []string) error {
				application, err := oneArg(args, "the application")
				if err != nil {
					return err
				}
				if err := o.validate(application); err != nil {
					return err
				}
				if err = o.tail(ctx, t, application); ctx.Err() != nil {
					return nil // interrupted, as it should end
				}
				return err
			}
		},
	}
}

type tailOptions struct {
	address, username, passwordFile, from string
	json, pretty, quarantine              bool
	count                                 uint64
}

func (o *tailOptions) validate(application string) error {
	if o.json && o.pretty {
		return usageError("--json and --pretty exclude each other")
	}
	if strings.ContainsAny(application, "/+#\x00") {
		return usageError(fmt.Sprintf("%q is no application's name", application))
	}
	switch o.from {
	case "first", "last", "next":
		return nil
	}
	_, err := strconv.ParseUint(o.from, 10, 64)
	if _, err2 := time.Parse(time.RFC3339, o.from); err != nil && err2 != nil {
		return usageError(fmt.Sprintf("--from is %q; it must be first, last, next, an offset, or a time such as 2026-11-21T08:00:00Z", o.from))
	}
	return nil
}

// tail subscribes and prints until ctx ends, the count is reached or the
// connection fails.
func (o *tailOptions) tail(ctx context.Context, t *terminal, application string) error {
	hello := &packet.Connect{Version: packet.V5, CleanStart: true, KeepAlive: keepAlive, Username: o.username, HasUsername: true}
	if o.username == "" { // it says whose events it wants, as several applications may be anonymous
		hello.Username = "@" + application
	}
	if !strings.HasPrefix(hello.Username, "@") {
		password, err := passwordFrom(ctx, t, o.passwordFile, "Password of "+o.username+": ")
		if err != nil {
			return err
		}
		hello.Password, hello.HasPassword = password, true
	}
	filter := "app/" + application
	if o.quarantine {
		filter = "quarantine/" + application
	}
	s, err := subscribe(ctx, o.address, hello, &packet.Subscribe{
		ID:      1,
		Filters: []packet.Filter{{Topic: filter, QoS: 1}},
		Props:   &packet.Properties{User: []packet.UserProperty{{Name: "stream-offset", Value: o.from}}},
	})
	if err != nil {
		return err
	}
	defer s.close()
	out := bufio.NewWriter(t.out)
	for n := uint64(0); o.count == 0 || n < o.count; n++ {
		if s.in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("printing an event: %w", err)
			}
		}
		event, err := s.next()
		if err != nil {
			return err
		}
		if err := o.print(out, event); err != nil {
			return fmt.Errorf("printing an event: %w", err)
		}
	}
	return out.Flush()
}

// print writes an event: as it is, indented, or the parts that people look for.
func (o *tailOptions) print(w io.Writer, event []byte) error {
	line := &bytes.Buffer{}
	switch {
	case o.json:
		line.Write(event)
	case o.pretty && json.Indent(line, event, "", "  ") == nil:
	default:
		line.WriteString(summary(event))
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// summary puts an event into one line that is safe to show on a terminal.
func summary(event []byte) string {
	var e struct {
		Time, Type, Subject, Device, Sender string
		Data                                json.RawMessage
		Base64                              string `json:"data_base64"`
		QuarantineError                     string // of an event in quarantine
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return printable(string(event))
	}
	who := e.Device
	if e.Sender != "" && e.Sender != e.Device {
		who += " (by " + e.Sender + ")"
	}
	data := &bytes.Buffer{}
	if json.Compact(data, e.Data) != nil {
		data.WriteString(e.Base64)
	}
	parts := []string{e.Time, who, e.Type, e.Subject, data.String()}
	if e.QuarantineError != "" {
		parts = append(parts, "("+e.QuarantineError+")")
	}
	return printable(strings.Join(parts, "  "))
}

// printable escapes what could steer a terminal: devices choose the text.
func printable(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsPrint(c) {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, "\\u%04x", c)
		}
	}
	return b.String()
}

// keepAlive is in seconds, helloTimeout bounds the connection's beginning.
const (
	keepAlive    = 30
	helloTimeout = 15 * time.Second
	maxPacket    = packet.MaxSize
)

// subscriber is a connection with one subscription at QoS 1.
type subscriber struct {
	conn  net.Conn
	in    *bufio.Reader
	close func()
}

// subscribe connects, logs in and subscribes. ctx closes the connection.
func subscribe(ctx context.Context, address string, hello *packet.Connect, sub *packet.Subscribe) (*subscriber, error) {
	conn, err := (&net.Dialer{Timeout: helloTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the gateway: %w; is it running, and is --address its MQTT listener?", err)
	}
	s := &subscriber{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s.close = func() {
		if stop() {
			conn.Write((&packet.Disconnect{}).Append(nil, packet.V5))
			conn.Close()
		}
	}
	conn.SetDeadline(time.Now().Add(helloTimeout))
	if err := s.hello(hello, sub); err != nil {
		s.close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	go s.keepAlive()
	return s, nil
}

func (s *subscriber) hello(hello *packet.Connect, sub *packet.Subscribe) error {
	if _, err := s.conn.Write(hello.Append(nil, packet.V5)); err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	p, err := s.read()
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	ack, ok := p.(*packet.Connack)
	if !ok {
		return fmt.Errorf("logging in: the gateway answered with %T", p)
	}
	if ack.Code != 0 {
		remedy := mayRead
		if strings.HasPrefix(hello.Username, "@") {
			remedy = "; does the application exist? Where it is not anonymous, name a user who may read it with --username"
		}
		return refusal("the gateway refuses the connection", ack.Code, ack.Props, remedy)
	}
	if _, err := s.conn.Write(sub.Append(nil, packet.V5)); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	if p, err = s.read(); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	granted, ok := p.(*packet.Suback)
	if !ok || len(granted.Codes) != 1 {
		return fmt.Errorf("subscribing: the gateway answered with %T", p)
	}
	if granted.Codes[0] >= 0x80 {
		return refusal("the gateway refuses to show "+sub.Filters[0].Topic, granted.Codes[0], granted.Props, mayRead)
	}
	return nil
}

// mayRead is what to look at when a user is not authorized.
const mayRead = "; does the application exist, and may this user read it? See [users] in gateway.toml"

// refusal words a reason code, with the gateway's own reason where it gave one and
// what to do, also about the code that says no more than not authorized.
func refusal(what string, code byte, props *packet.Properties, notAuthorized string) error {
	reason := ""
	if props != nil && props.ReasonString != nil {
		reason = ": " + printable(*props.ReasonString)
	}
	remedy := ""
	switch code {
	case packet.CodeServerShuttingDown:
		remedy = ": it is shutting down"
	case packet.CodeBadUserNameOrPassword:
		remedy = "; check --username and the password"
	case packet.CodeNotAuthorized:
		remedy = notAuthorized
	}
	return fmt.Errorf("%s (0x%02X)%s%s", what, code, reason, remedy)
}

// next returns the next event, which it has acknowledged.
func (s *subscriber) next() ([]byte, error) {
	for {
		p, err := s.read()
		if err != nil {
			return nil, err
		}
		event, ok := p.(*packet.Publish)
		if !ok {
			continue // the answer to a ping
		}
		if event.QoS == 1 {
			ack := packet.Ack{Type: packet.PUBACK, ID: event.ID}
			if _, err := s.conn.Write(ack.Append(nil, packet.V5)); err != nil {
				return nil, fmt.Errorf("acknowledging an event: %w", err)
			}
		}
		return event.Payload, nil
	}
}

// read reads one packet; a DISCONNECT is an error that says why.
func (s *subscriber) read() (packet.Packet, error) {
	for n := 2; ; n++ {
		head, err := s.in.Peek(n)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the gateway closed the connection")
		}
		if err != nil {
			return nil, fmt.Errorf("reading from the gateway: %w", err)
		}
		first, size, length, err := packet.Header(head, maxPacket)
		if err != nil {
			return nil, fmt.Errorf("reading from the gateway: %w", err)
		}
		if length == 0 {
			continue
		}
		s.in.Discard(length)
		body := make([]byte, size)
		if _, err := io.ReadFull(s.in, body); err != nil {
			return nil, fmt.Errorf("reading from the gateway: %w", err)
		}
		p, err := packet.Decode(packet.V5, first, body)
		if err != nil {
			return nil, fmt.Errorf("reading from the gateway: %w", err)
		}
		if d, ok := p.(*packet.Disconnect); ok {
			return nil, refusal("the gateway ended the connection", d.Code, d.Props, mayRead)
		}
		return p, nil
	}
}

// keepAlive pings until the connection is closed.
func (s *subscriber) keepAlive() {
	for {
		time.Sleep(keepAlive * time.Second / 2)
		if _, err := s.conn.Write((&packet.Pingreq{}).Append(nil, packet.V5)); err != nil {
			return
		}
	}
}
