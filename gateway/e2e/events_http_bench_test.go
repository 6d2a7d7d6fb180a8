package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// BenchmarkPostBeside is a durable event by POST /events beside one by MQTT QoS 1, each with 50
// clients that have one in flight.
func BenchmarkPostBeside(b *testing.B) {
	const clients = 50
	body := strings.Replace(numberedEvent(1), `"n":1`, `"n":1,"text":"`+strings.Repeat("x", 200)+`"`, 1)
	share := func(b *testing.B, one func(client int) func() error) {
		var left atomic.Int64
		left.Store(int64(b.N))
		var all sync.WaitGroup
		var each []func() error
		for i := range clients {
			do := one(i)
			if err := do(); err != nil { // connections and passwords are not what is measured
				b.Fatal(err)
			}
			each = append(each, do)
		}
		b.ResetTimer()
		for _, do := range each {
			all.Go(func() {
				for left.Add(-1) >= 0 {
					if err := do(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("http", func(b *testing.B) {
		g := eventsGateway(b, "")
		request := "POST /events/demo HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YmFja2VuZDpzZWNyZXQ=\r\nContent-Type: application/cloudevents+json\r\n" +
			"Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
		share(b, func(int) func() error {
			c, err := net.Dial("tcp", g.out.address("http.web"))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { c.Close() })
			in := bufio.NewReader(c)
			return func() error {
				if _, err := io.WriteString(c, request); err != nil {
					return err
				}
				status, err := in.ReadString('\n')
				if !strings.Contains(status, " 204 ") {
					return fmt.Errorf("%s %w", status, err)
				}
				for line := status; line != "\r\n" && err == nil; { // 204 has no body
					line, err = in.ReadString('\n')
				}
				return err
			}
		})
	})
	b.Run("mqtt", func(b *testing.B) {
		g := eventsGateway(b, "")
		share(b, func(int) func() error {
			c := g.v5("")
			p := &packet.Publish{Topic: "events", QoS: 1, ID: 1, Payload: []byte(body),
				Props: &packet.Properties{ContentType: ptr("application/cloudevents+json")}}
			return func() error {
				if err := c.write(p); err != nil {
					return err
				}
				_, err := c.read()
				return err
			}
		})
	})
}
