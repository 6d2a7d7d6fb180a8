package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// script is a gateway that answers with what it was told, and notes what it
// was sent.
type script struct {
	connack packet.Connack
	suback  packet.Suback
	then    []interface {
		Append([]byte, byte) []byte
	}
}

func (s script) start(t *testing.T) (address string, sent <-chan packet.Packet) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan packet.Packet, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(got)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		client := &subscriber{conn: conn, in: bufio.NewReader(conn)}
		for {
			p, err := client.read()
			if err != nil {
				return // a DISCONNECT too
			}
			got <- p
			switch p.(type) {
			case *packet.Connect:
				conn.Write(s.connack.Append(nil, packet.V5))
			case *packet.Subscribe:
				frames := s.suback.Append(nil, packet.V5)
				for _, p := range s.then {
					frames = p.Append(frames, packet.V5)
				}
				conn.Write(frames)
			}
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String(), got
}

const (
	temperature = `{"specversion":"1.0","id":"1","type":"io.drogue.event.v1","time":"2026-11-21T08:00:00Z","subject":"temperature","device":"sensor-1","sender":"sensor-1","data":{"celsius":21.5}}`
	viaGateway  = `{"specversion":"1.0","id":"2","type":"t","time":"2026-11-21T08:00:01Z","subject":"x\u001b[31my","device":"d","sender":"gw","data_base64":"AP8="}`
)

func TestTail(t *testing.T) {
	text := func(s string) *string { return &s }
	granted := packet.Suback{ID: 1, Codes: []byte{1}}
	events := script{suback: granted}
	for i, payload := range []string{temperature, viaGateway, "not JSON \x1b]0;x\x07"} {
		events.then = append(events.then, &packet.Publish{Topic: "app/demo", QoS: 1, ID: uint16(i + 7), Payload: []byte(payload)})
	}
	ended := script{suback: granted}
	ended.then = append(ended.then, &packet.Disconnect{Code: packet.CodeServerShuttingDown})
	tests := []struct {
		name   string
		script script
		args   string
		stdin  string
		status int
		out    string
		err    string
	}{
		{name: "lines", script: events, args: "demo --count 3",
			out: "2026-11-21T08:00:00Z  sensor-1  io.drogue.event.v1  temperature  {\"celsius\":21.5}\n" +
				"2026-11-21T08:00:01Z  d (by gw)  t  x\\u001b[31my  AP8=\n" + "not JSON \\u001b]0;x\\u0007\n"},
		{name: "json", script: events, args: "demo --json --count 2", out: temperature + "\n" + viaGateway + "\n"},
		{name: "pretty", script: events, args: "--pretty --count 1 demo", out: strings.NewReplacer(`{"s`, "{\n  \"s", `,"`, ",\n  \"", `":`,
			`": `, `{"c`, "{\n    \"c", `}}`, "\n  }\n}").Replace(temperature) + "\n"},
		{name: "bad password", script: script{connack: packet.Connack{Code: packet.CodeBadUserNameOrPassword}}, args: "demo --username alice",
			stdin:  "wrong\n",
			status: 1, err: "tributary tail: the gateway refuses the connection (0x86); check --username and the password\n"},
		{name: "not allowed", script: script{suback: packet.Suback{ID: 1, Codes: []byte{packet.CodeNotAuthorized},
			Props: &packet.Properties{ReasonString: text("no \x1bapplication")}}}, args: "demo",
			status: 1, err: "tributary tail: the gateway refuses to show app/demo (0x87): no \\u001bapplication; does the application exist, and " +
				"may this user read it? See [users] in gateway.toml\n"},
		{name: "not anonymous", script: script{connack: packet.Connack{Code: packet.CodeNotAuthorized}}, args: "plant",
			status: 1, err: "tributary tail: the gateway refuses the connection (0x87); does the application exist? Where it is not anonymous, " +
				"name a user who may read it with --username\n"},
		{name: "a user who may not", script: script{connack: packet.Connack{Code: packet.CodeNotAuthorized}}, args: "plant --username alice",
			stdin:  "secret\n",
			status: 1, err: "tributary tail: the gateway refuses the connection (0x87); does the application exist, and may this user read it? " +
				"See [users] in gateway.toml\n"},
		{name: "shut down", script: ended, args: "demo", status: 1,
			err: "tributary tail: the gateway ended the connection (0x8B): it is shutting down\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, _ := tt.script.start(t)
			args := append([]string{"tail", "--address", address}, strings.Fields(tt.args)...)
			status, out, errs := tributary(t, t.Context(), tt.stdin, nil, args...)
			if status != tt.status || out != tt.out || errs != tt.err {
				t.Errorf("status %d, want %d\noutput:\n%s\nwant:\n%s\nerrors:\n%s\nwant:\n%s", status, tt.status, out, tt.out, errs, tt.err)
			}
		})
	}
}

func TestTailSends(t *testing.T) {
	s := script{suback: packet.Suback{ID: 1, Codes: []byte{1}}}
	s.then = append(s.then, &packet.Publish{Topic: "app/demo", QoS: 1, ID: 42, Payload: []byte(temperature)})
	address, sent := s.start(t)
	password := write(t, "password", "secret\n")
	status, _, errs := tributary(t, t.Context(), "", nil, "tail", "plant", "--address", address, "--username", "alice", "--password-file",
		password, "--from", "17", "--count", "1")
	if status != 0 {
		t.Fatal(errs)
	}
	hello := (<-sent).(*packet.Connect)
	if hello.Version != packet.V5 || hello.Username != "alice" || string(hello.Password) != "secret" {
		t.Errorf("CONNECT: %+v", hello)
	}
	sub := (<-sent).(*packet.Subscribe)
	if sub.Filters[0].Topic != "app/plant" || sub.Filters[0].QoS != 1 || sub.Props.User[0] != (packet.UserProperty{Name: "stream-offset",
		Value: "17"}) {
		t.Errorf("SUBSCRIBE: %+v", sub)
	}
	if ack := (<-sent).(*packet.Ack); ack.Type != packet.PUBACK || ack.ID != 42 {
		t.Errorf("acknowledgement: %+v", ack)
	}
}

func TestTailEndsWithItsContext(t *testing.T) {
	address, sent := script{suback: packet.Suback{ID: 1, Codes: []byte{1}}}.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"tail", "demo", "--address", address}, &terminal{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	}()
	<-sent
	<-sent
	cancel()
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
}

// Without a user name it is anonymous in the application that it reads, whichever others are.
func TestTailOfAnonymousApplications(t *testing.T) {
	file := write(t, "gateway.toml",
		"[applications.plant]\nanonymous = true\n[applications.garden]\nanonymous = true\n[applications.closed]\n"+
			"[plugins.p]\npath = \"plugin/testdata/wat/minimal.wasm\"\n[[routes]]\napplication = \"*\"\nplugin = \"p\"\n")
	mqtt, _, _ := startGateway(t, "--config", file, "--data-dir", t.TempDir())
	for application, refused := range map[string]bool{"plant": false, "garden": false, "closed": true} {
		ctx, cancel := context.WithCancel(t.Context())
		if !refused { // there are no events, so it would not end
			time.AfterFunc(time.Second, cancel)
		}
		status, _, errs := tributary(t, ctx, "", nil, "tail", application, "--address", mqtt)
		cancel()
		if refused != (status == 1) || refused != strings.Contains(errs, "--username") {
			t.Errorf("tail %s: %d %s", application, status, errs)
		}
	}
}
