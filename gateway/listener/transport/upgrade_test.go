package transport

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestUpgrade(t *testing.T) {
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	const version, protocol = "Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Protocol: mqtt\r\n"
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	const all = upgrade + key + version + protocol
	line := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: gateway.example:8083\r\n" }
	for _, tt := range []struct {
		name    string
		origins []string
		request string
		status  int
		says    string // of a refusal; of 101 the subprotocol
	}{
		{"as it should be", nil, line("/mqtt") + all, 101, "mqtt"},
		{"among others, in any case", nil, line("/mqtt") + "connection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n" + key + version +
			"sec-websocket-protocol: mqttv3.1, mqtt\r\n", 101, "mqtt"},
		{"in capitals, which come back", nil, line("/mqtt") + upgrade + key + version + "Sec-WebSocket-Protocol: MQTT\r\n", 101, "MQTT"},
		{"in two headers", nil, line("/mqtt") + upgrade + key + version + "Sec-WebSocket-Protocol: mqttv3.1\r\n" + protocol, 101, "mqtt"},
		{"with a query", nil, line("/mqtt?x=1") + all, 101, "mqtt"},
		{"compression is not taken up", nil, line("/mqtt") + all + "Sec-WebSocket-Extensions: permessage-deflate\r\n", 101, "mqtt"},
		{"a look", nil, line("/mqtt"), 426, "MQTT client"},
		{"a look elsewhere", nil, line("/"), 404, "is at /mqtt"},
		{"another path", nil, line("/mqtt/") + all, 404, "is at /mqtt"},
		{"another method", nil, "POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + all, 405, "GET"},
		{"a body", nil, line("/mqtt") + "Content-Length: 5\r\n" + all + "\r\nhello", 405, "GET"},
		{"HTTP/1.0", nil, "GET /mqtt HTTP/1.0\r\n" + all, 101, "mqtt"},
		{"no subprotocol", nil, line("/mqtt") + upgrade + key + version, 400, "subprotocol"},
		{"another subprotocol", nil, line("/mqtt") + upgrade + key + version + "Sec-WebSocket-Protocol: mqttv3.1\r\n", 400, "subprotocol"},
		{"no key", nil, line("/mqtt") + upgrade + version + protocol, 400, "Sec-WebSocket-Key"},
		{"a short key", nil, line("/mqtt") + upgrade + "Sec-WebSocket-Key: AAAA\r\n" + version + protocol, 400, "Sec-WebSocket-Key"},
		{"an old version", nil, line("/mqtt") + upgrade + key + "Sec-WebSocket-Version: 8\r\n" + protocol, 426, "13"},
		{"no upgrade", nil, line("/mqtt") + "Connection: keep-alive\r\nUpgrade: websocket\r\n" + key + version + protocol, 426, "MQTT client"},
		{"another upgrade", nil, line("/mqtt") + "Connection: Upgrade\r\nUpgrade: h2c\r\n" + key + version + protocol, 426, "MQTT client"},
		{"headers without end", nil, line("/mqtt") + all + "X: " + strings.Repeat("x", 20_000) + "\r\n", 431, ""},
		{"no HTTP", nil, "\x10\x0c\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00", 400, ""},
		{"TLS", nil, "\x16\x03\x01\x00\x05hello", 400, ""},

		{"a page of this host", nil, line("/mqtt") + all + "Origin: http://gateway.example:8083\r\n", 101, "mqtt"},
		{"in capitals", nil, line("/mqtt") + all + "Origin: HTTP://Gateway.Example:8083\r\n", 101, "mqtt"},
		{"a page of another host", nil, line("/mqtt") + all + "Origin: http://evil.example\r\n", 403, "origin"},
		{"of another port", nil, line("/mqtt") + all + "Origin: http://gateway.example\r\n", 403, "origin"},
		{"of a host that ends alike", nil, line("/mqtt") + all + "Origin: http://evil-gateway.example:8083\r\n", 403, "origin"},
		{"of nowhere", nil, line("/mqtt") + all + "Origin: null\r\n", 403, "origin"},
		{"of two hosts", nil, line("/mqtt") + all + "Origin: http://gateway.example:8083\r\nOrigin: http://evil.example\r\n", 403, "origin"},
		{"no URL", nil, line("/mqtt") + all + "Origin: ://\r\n", 403, "origin"},
		{"a page that is listed", []string{"https://app.example.com"}, line("/mqtt") + all + "Origin: https://app.example.com\r\n", 101, "mqtt"},
		{"of the same host where others are listed", []string{"https://app.example.com"},
			line("/mqtt") + all + "Origin: http://gateway.example:8083\r\n", 101, "mqtt"},
		{"a page that is not listed", []string{"https://app.example.com"}, line("/mqtt") + all +
			"Origin: https://app.example.com.evil.example\r\n", 403, "origin"},
		{"of another scheme", []string{"https://app.example.com"}, line("/mqtt") + all + "Origin: http://app.example.com\r\n", 403, "origin"},
		{"all pages", []string{"*"}, line("/mqtt") + all + "Origin: http://evil.example\r\n", 101, "mqtt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Default()
			cfg.WebSocket.Enabled, cfg.WebSocket.Origins = true, tt.origins
			s := serve(t, cfg, Options{})
			nc := s.dial()
			go io.WriteString(nc, tt.request+"\r\n")
			in := bufio.NewReader(nc)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode == 101 {
				if h := res.Header; h.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || h.Get("Sec-WebSocket-Extensions") != "" {
					t.Errorf("headers %v", h)
				}
				nc.Write([]byte(frame(0x82, "hello")))
				if b := make([]byte, 7); tt.status == 101 {
					if _, err := io.ReadFull(in, b); err != nil || string(b) != "\x82\x05hello" {
						t.Errorf("%q, %v", b, err)
					}
				}
			}
			body := res.Header.Get("Sec-WebSocket-Protocol")
			if res.StatusCode != 101 {
				b, err := io.ReadAll(res.Body)
				if body = string(b); isTimeout(err) || ended(nc) != nil {
					t.Errorf("the connection did not end: %v", err)
				}
			}
			if res.StatusCode != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("%s %s, want %d %s", res.Status, body, tt.status, tt.says)
			}
			if tt.status != 101 && len(s.met) > 0 {
				t.Error("the protocol was told of it")
			}
		})
	}
}

// Who talks before the answer is not cut short, and the whole of PROXY, TLS and
// WebSocket is taken in one listener.
func TestEverythingAtOnce(t *testing.T) {
	cfg, ca, _ := secured(t, None)
	cfg.WebSocket.Enabled, cfg.WebSocket.Path = true, "/"
	cfg.Proxy.Trusted = []string{"127.0.0.1"}
	for _, size := range []int{5, 1000, 20_000} {
		s := serve(t, cfg, Options{})
		c := tls.Client(&announcing{Conn: s.dial(), said: "PROXY TCP4 203.0.113.7 192.0.2.1 4711 1883\r\n"},
			&tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1"})
		said := strings.Repeat("e", size)
		go fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: "+
			"13\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
			frame(0x82, said), frame(0x88, ""))
		in := bufio.NewReader(c)
		if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != 101 {
			t.Fatal(res, err)
		}
		if m := s.next(); m != (met{v4Said, true, ""}) {
			t.Errorf("the protocol is told %+v", m)
		}
		back, err := io.ReadAll(in)
		if err != nil || !strings.HasSuffix(string(back), closing(1000)) || strings.Count(string(back), "e") != size {
			t.Errorf("%d bytes came back, %v", len(back), err)
		}
	}
}
