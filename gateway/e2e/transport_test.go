package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/paho"

	"tributary.io/gateway/listener/mqtt/packet"
)

// transports are listeners of every kind, with certificates of an authority.
func transports(ca *issuer) string {
	ca.t.Helper()
	ca.issue("gateway", time.Now().Add(time.Hour))
	pair := `certificate = "` + filepath.Join(ca.dir, "gateway.pem") + `", key = "` + filepath.Join(ca.dir, "gateway.key") + `"`
	return `
[listeners.mqtt.tls]
address = "127.0.0.1:0"
tls = { ` + pair + ` }
[listeners.mqtt.mutual]
address = "127.0.0.1:0"
auth = ["certificate.fleet"]
tls = { ` + pair + `, client_ca = "` + filepath.Join(ca.dir, "ca.pem") + `", client_certificate = "required" }
[listeners.mqtt.ws]
address = "127.0.0.1:0"
websocket = { enabled = true }
[listeners.mqtt.wss]
address = "127.0.0.1:0"
tls = { ` + pair + ` }
websocket = { enabled = true }
[listeners.mqtt.proxied]
address = "127.0.0.1:0"
proxy = { trusted = ["127.0.0.1"], required = true }
[auth.certificate.fleet]
pattern = "fleet-{device}"
applications = ["demo"]
enroll = true
`
}

// through is the gateway with another of its listeners.
func (g *gateway) through(listener string) *gateway {
	g.t.Helper()
	other := *g
	if other.mqtt = g.out.address("mqtt." + listener); other.mqtt == "" {
		g.t.Fatalf("no listener %s", listener)
	}
	return &other
}

func (ca *issuer) client(shown ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: shown}
}

// over makes a client of an established connection, and logs it in.
func (g *gateway) over(nc net.Conn, p packet.Connect) *client {
	g.t.Helper()
	g.t.Cleanup(func() { nc.Close() })
	c := &client{t: g.t, nc: nc, in: bufio.NewReader(nc), version: p.Version}
	c.send(&p)
	if ack := expect[*packet.Connack](c); ack.Code != 0 {
		g.t.Fatalf("CONNACK %#x %s", ack.Code, reason(ack.Props))
	}
	return c
}

// secure connects by TLS, webSocket by WebSocket, with TLS where there is a
// configuration for it.
func (g *gateway) secure(cfg *tls.Config) net.Conn {
	g.t.Helper()
	nc, err := tls.Dial("tcp", g.mqtt, cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	return nc
}

func (g *gateway) webSocket(cfg *tls.Config) net.Conn {
	g.t.Helper()
	url, o := "ws://"+g.mqtt+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}}
	if cfg != nil {
		url, o.HTTPClient = "wss://"+g.mqtt+"/mqtt", &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		g.t.Fatal(err)
	}
	return websocket.NetConn(context.WithoutCancel(ctx), c, websocket.MessageBinary)
}

// From a device with a certificate to a consumer with TLS, by mosquitto's clients.
func TestMosquittoTLS(t *testing.T) {
	mosquittoSub, mosquittoPub := program(t, "mosquitto_sub"), program(t, "mosquitto_pub")
	ca, stranger := newIssuer(t, "CA"), newIssuer(t, "CA")
	ca.issue("fleet-m-1", time.Now().Add(time.Hour))
	stranger.issue("fleet-m-1", time.Now().Add(time.Hour))
	g := start(t, demo("", transports(ca)))
	file := func(name string) string { return filepath.Join(ca.dir, name) }
	group := background(t, g.through("tls"), mosquittoSub, "-V", "5", "--cafile", file("ca.pem"), "-t", "$share/readers/app/demo", "-q", "1")
	g.heard(group)
	foreground(t, g.through("tls"), mosquittoPub, "--cafile", file("ca.pem"), "--tls-version", "tlsv1.2", "-i", "m-2", "-t", "temperature",
		"-q", "1", "-m", "21.5")
	if e := parse(t, &packet.Publish{Payload: []byte(nextLine(t, group, `"subject":"temperature"`))}); e.Device != "m-2" {
		t.Errorf("%+v", e)
	}
	mutual := g.through("mutual")
	foreground(t, mutual, mosquittoPub, "-V", "5", "--cafile", file("ca.pem"), "--cert", file("fleet-m-1.pem"), "--key", file("fleet-m-1.key"),
		"-i", "anything", "-t", "humidity", "-q", "2", "-m", "40")
	if e := parse(t, &packet.Publish{Payload: []byte(nextLine(t, group, `"subject":"humidity"`))}); e.Device != "m-1" {
		t.Errorf("%+v", e)
	}
	for what, more := range map[string][]string{
		"no certificate": {"--cafile", file("ca.pem")},
		"one of another authority": {"--cafile", file("ca.pem"), "--cert", filepath.Join(stranger.dir, "fleet-m-1.pem"), "--key",
			filepath.Join(stranger.dir, "fleet-m-1.key")},
		"a gateway that is not theirs": {"--cafile", filepath.Join(stranger.dir, "ca.pem"), "--cert", file("fleet-m-1.pem"), "--key",
			file("fleet-m-1.key")},
	} {
		if out, err := exec.Command(mosquittoPub, mutual.at(append(more, "-t", "x", "-q", "1", "-m", "x"))...).CombinedOutput(); err == nil {
			t.Errorf("%s: it published: %s", what, out)
		}
	}
}

func TestPahoTLS(t *testing.T) {
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)))
	overTLS := g.through("tls")
	reader := g.pahoOver(overTLS.secure(ca.client()), "p-reader")
	if code := reader.subscribe(t, "$share/a/app/demo"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	device := g.pahoOver(overTLS.secure(ca.client()), "p-1")
	payload := `{"text":"` + strings.Repeat("long ", 20_000) + `"}` // more than a TLS record
	if code, _ := device.publish(t, &paho.Publish{Topic: "note", Payload: []byte(payload)}); code != 0 {
		t.Errorf("PUBACK %#x", code)
	}
	p := reader.next(t, func(p *paho.Publish) bool { return strings.Contains(string(p.Payload), `"note"`) })
	if !strings.Contains(string(p.Payload), payload) {
		t.Errorf("the event has %d bytes", len(p.Payload))
	}
}

// A new certificate on disk is used for the next connection, and nobody who is
// there is disturbed.
func TestCertificateReplaced(t *testing.T) {
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)))
	overTLS := g.through("tls")
	serial := func() string {
		nc := overTLS.secure(ca.client())
		defer nc.Close()
		return nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	reader := g.consumer()
	live := g.over(overTLS.secure(ca.client()), packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "live"})
	first := serial()
	ca.issue("gateway", time.Now().Add(2*time.Hour))
	eventually(t, "the new certificate is used", func() bool { return serial() != first })
	second := serial()
	live.accepted("temperature", "21.5")
	if e := reader.event(); e.Device != "live" {
		t.Errorf("%+v", e)
	}
	if at, ok := g.metric(`tributary_transport_certificate_expiry_seconds{listener="mqtt.tls"}`); !ok ||
		time.Until(time.Unix(int64(at), 0)) < 119*time.Minute {
		t.Errorf("the metric says that it expires at %v", at)
	}
	if err := os.WriteFile(filepath.Join(ca.dir, "gateway.pem"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log tells of a broken file", func() bool {
		if serial() != second {
			t.Fatal("the certificate changed once more")
		}
		return strings.Contains(g.out.tail(), "cannot be used")
	})
}

// A session belongs to no listener: a client takes it from one to the next.
func TestSessionMovesBetweenListeners(t *testing.T) {
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)))
	reader, commander := g.consumer(), g.v5("c-commander")
	connect := packet.Connect{Version: packet.V5, ClientID: "roamer", Props: &packet.Properties{SessionExpiry: ptr(uint32(3600))}}
	first, ack := g.login(connect)
	if ack.SessionPresent {
		t.Error("a new session was there before")
	}
	first.subscribe("command/inbox/#")
	var last *client
	for _, x := range []struct {
		listener string
		dial     func(*gateway) net.Conn
	}{
		{"wss", func(g *gateway) net.Conn { return g.webSocket(ca.client()) }},
		{"ws", func(g *gateway) net.Conn { return g.webSocket(nil) }},
		{"tls", func(g *gateway) net.Conn { return g.secure(ca.client()) }},
		{"wss", func(g *gateway) net.Conn { return g.webSocket(ca.client()) }},
	} {
		last = &client{t: t, nc: x.dial(g.through(x.listener)), version: packet.V5}
		t.Cleanup(func() { last.nc.Close() })
		last.in = bufio.NewReader(last.nc)
		last.send(&connect)
		if ack := expect[*packet.Connack](last); ack.Code != 0 || !ack.SessionPresent {
			t.Fatalf("%s: CONNACK %#x, session present %v", x.listener, ack.Code, ack.SessionPresent)
		}
		if first != nil {
			if d := expect[*packet.Disconnect](first); d.Code != packet.CodeSessionTakenOver {
				t.Errorf("%s: the former connection was told %#x", x.listener, d.Code)
			}
			first = nil
		}
		last.accepted("where", x.listener)
		if e := reader.event(); e.Device != "roamer" || string(e.Data) != x.listener {
			t.Errorf("%+v", e)
		}
		commander.publish("command/demo/roamer/come", x.listener)
		if m := last.take(); string(m.Payload) != x.listener {
			t.Errorf("%s: the command is %q", x.listener, m.Payload)
		}
	}
}

// What stands in an announcement decides who is on this machine.
func TestProxiedClients(t *testing.T) {
	g := start(t, demo("", transports(newIssuer(t, "CA"))))
	reader := g.consumer()
	proxied := g.through("proxied")
	connect := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "somebody"}
	dial := func(said string) *client {
		t.Helper()
		c := proxied.dial(packet.V5)
		if _, err := io.WriteString(c.nc, said); err != nil {
			t.Fatal(err)
		}
		c.write(&connect)
		return c
	}
	local := dial("PROXY TCP4 127.0.0.1 192.0.2.1 4711 1883\r\n")
	if ack := expect[*packet.Connack](local); ack.Code != 0 {
		t.Fatalf("CONNACK %#x", ack.Code)
	}
	local.accepted("temperature", "21.5")
	if e := reader.event(); e.Device != "somebody" {
		t.Errorf("%+v", e)
	}
	remote := dial("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x12\x67\x07\x5b")
	if ack := expect[*packet.Connack](remote); ack.Code != notAuthorized && ack.Code != badCredentials {
		t.Errorf("a client from elsewhere without credentials: CONNACK %#x", ack.Code)
	}
	for what, said := range map[string]string{"unknown": "PROXY UNKNOWN\r\n", "none": "", "broken": "PROXY TCP4 127.0.0.1\r\n"} {
		if p, err := dial(said).read(); err == nil {
			t.Errorf("announcement %s: got %T", what, p)
		}
	}
}

// Every kind of connection hears that the gateway stops, and its end is clean.
func TestShutdownOfAllKinds(t *testing.T) {
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)))
	connect := func(id string) packet.Connect {
		return packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id}
	}
	stalled := g.through("wss").dial(packet.V5) // on its way only
	clients := map[string]*client{
		"tcp": g.v5("over-tcp"),
		"tls": g.over(g.through("tls").secure(ca.client()), connect("over-tls")),
		"ws":  g.over(g.through("ws").webSocket(nil), connect("over-ws")),
		"wss": g.over(g.through("wss").webSocket(ca.client()), connect("over-wss")),
	}
	if status := g.stop(); status != 0 {
		t.Fatalf("exit status %d\n%s", status, g.out.tail())
	}
	for kind, c := range clients {
		if d := expect[*packet.Disconnect](c); d.Code != packet.CodeServerShuttingDown {
			t.Errorf("%s: DISCONNECT %#x", kind, d.Code)
		}
		if b, err := io.ReadAll(c.in); err != nil || len(b) > 0 { // a close frame or alert, not a reset
			t.Errorf("%s ends with %x, %v", kind, b, err)
		}
	}
	if p, err := stalled.read(); err == nil {
		t.Errorf("who never finished its handshake got %T", p)
	}
}

// Settings that cannot work are found before anything listens.
func TestCheckCertificates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gateway.toml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("[listeners.mqtt.tls]\naddress = \"127.0.0.1:8883\"\ntls = { certificate = \"nope.pem\", key = \"nope.key\" }\n")
	if _, problems, status := tool(t, "", "check", "--config", file); status != 1 ||
		!strings.Contains(problems, "listeners.mqtt.tls: reading tls.certificate: open nope.pem") {
		t.Errorf("status %d: %s", status, problems)
	}
	write("[listeners.mqtt.tls]\naddress = \"127.0.0.1:1883\"\ntls = { key = \"nope.key\", min_version = \"1.1\" }\n")
	for _, want := range []string{":3: listeners.mqtt.tls.tls.certificate is empty", "tls.min_version is \"1.1\"",
		"listeners.mqtt.tls.address is \"127.0.0.1:1883\", which listeners.mqtt.tcp.address is, too"} {
		if _, problems, status := tool(t, "", "check", "--config", file); status != 1 || !strings.Contains(problems, want) {
			t.Errorf("status %d, want %s: %s", status, want, problems)
		}
	}
}
