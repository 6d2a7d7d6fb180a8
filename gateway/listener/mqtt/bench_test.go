package mqtt

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// The front door alone: PUBACKs of QoS 1 messages of 200 bytes that nobody reads,
// 20 publishers. TRIBUTARY_BROKER=host:port measures another broker with the
// same load:
//
//	go test -run xxx -bench Puback -benchtime 3s ./gateway/listener/mqtt
func BenchmarkPuback(b *testing.B) {
	for _, window := range []int{1, 50} {
		for _, version := range []byte{packet.V311, packet.V5} {
			b.Run(fmt.Sprintf("window=%d/v%d", window, version), func(b *testing.B) {
				addr := os.Getenv("TRIBUTARY_BROKER")
				if addr == "" {
					addr = start(b, nil, nil).addr
				}
				const publishers = 20
				var ready, done sync.WaitGroup
				ready.Add(publishers)
				done.Add(publishers)
				goOn := make(chan struct{})
				for i := range publishers {
					go func() {
						defer done.Done()
						load := newLoad(b, addr, version, fmt.Sprint("bench/", i), window)
						defer load.nc.Close()
						ready.Done()
						<-goOn
						load.run(b, b.N/publishers+1)
					}()
				}
				ready.Wait()
				b.ReportAllocs()
				b.ResetTimer()
				close(goOn)
				done.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
			})
		}
	}
}

// load publishes with a window, and costs as little as it can.
type load struct {
	nc     net.Conn
	frame  []byte
	window int
}

func newLoad(t testing.TB, addr string, version byte, topic string, window int) *load {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	nc.Write((&packet.Connect{Version: version, CleanStart: true, ClientID: topic}).Append(nil, version))
	ack := make([]byte, 2)
	io.ReadFull(nc, ack)
	io.ReadFull(nc, make([]byte, ack[1]))
	frame := (&packet.Publish{Topic: topic, QoS: 1, ID: 1, Payload: make([]byte, 200)}).Append(nil, version)
	var frames []byte
	for range window {
		frames = append(frames, frame...)
	}
	return &load{nc, frames, window}
}

// run sends n messages, so that window of them are under way whenever possible.
func (l *load) run(t testing.TB, n int) {
	one := len(l.frame) / l.window
	buf := make([]byte, 64<<10)
	sent, acked, held := 0, 0, 0
	for acked < n {
		if more := min(l.window-(sent-acked), n-sent); more > 0 {
			if _, err := l.nc.Write(l.frame[:more*one]); err != nil {
				t.Error(err)
				return
			}
			sent += more
		}
		r, err := l.nc.Read(buf[held:])
		if err != nil {
			t.Error(err)
			return
		}
		r += held
		i := 0
		for r-i >= 2 && r-i >= 2+int(buf[i+1]) { // every packet is short
			i += 2 + int(buf[i+1])
			acked++
		}
		held = copy(buf, buf[i:r])
	}
}

// Deliveries from 10 publishers to 1 or 10 subscribers of all, QoS 1.
func BenchmarkDeliver(b *testing.B) {
	for _, subscribers := range []int{1, 10} {
		b.Run(fmt.Sprintf("10pub/%dsub", subscribers), func(b *testing.B) {
			addr := os.Getenv("TRIBUTARY_BROKER")
			if addr == "" {
				// The subscribers may fall behind; what is measured is not what is dropped then.
				addr = start(b, nil, func(c *settings, _ *fixture) { c.Sessions.QueueMessages, c.Sessions.QueueBytes = 1<<30, 1<<30 }).addr
			}
			each := b.N/10 + 1
			var subs, pubs sync.WaitGroup
			for i := range subscribers {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				defer nc.Close()
				filter := "bench/#"
				if subscribers > 1 {
					filter = fmt.Sprint("bench/", i)
				}
				wire := (&packet.Connect{Version: 4, CleanStart: true, ClientID: fmt.Sprint("sub", i)}).Append(nil, 4)
				wire = (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter, QoS: 1}}}).Append(wire, 4)
				nc.Write(wire)
				io.ReadFull(nc, make([]byte, 4+5))
				subs.Add(1)
				want := each * 10 / subscribers
				go func() {
					defer subs.Done()
					receive(b, nc, want)
				}()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range 10 {
				pubs.Add(1)
				go func() {
					defer pubs.Done()
					l := newLoad(b, addr, 4, fmt.Sprint("bench/", i), 50)
					defer l.nc.Close()
					l.run(b, each)
				}()
			}
			pubs.Wait()
			subs.Wait()
			b.ReportMetric(float64(each*10)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// receive takes n messages of QoS 1 and acknowledges them.
func receive(t testing.TB, nc net.Conn, n int) {
	buf := make([]byte, 256<<10)
	var acks []byte
	held := 0
	for n > 0 {
		nc.SetReadDeadline(time.Now().Add(patience))
		r, err := nc.Read(buf[held:])
		if err != nil {
			t.Errorf("%d messages are missing: %v", n, err)
			return
		}
		r += held
		i := 0
		acks = acks[:0]
		for {
			_, size, header, err := packet.Header(buf[i:r], packet.MaxSize)
			if err != nil {
				t.Error(err)
				return
			}
			if header == 0 || r-i < header+size {
				break
			}
			body := buf[i+header:]
			topic := int(body[0])<<8 | int(body[1])
			acks = append(acks, 0x40, 2, body[2+topic], body[3+topic])
			i += header + size
			n--
		}
		held = copy(buf, buf[i:r])
		if _, err := nc.Write(acks); err != nil {
			t.Error(err)
			return
		}
	}
}

// The same through a router that commits 256 events or what there is at a time.
func BenchmarkRouted(b *testing.B) {
	for _, window := range []int{1, 50} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			f := start(b, silent, func(_ *settings, f *fixture) {
				f.router.unrouted = false
				f.router.got = make(chan submitted, 1024)
			})
			go func() {
				var batch []submitted
				for s := range f.router.got {
					batch = append(batch[:0], s)
					for len(f.router.got) > 0 && len(batch) < 256 {
						batch = append(batch, <-f.router.got)
					}
					for _, s := range batch {
						s.done(stage.Outcome{})
					}
				}
			}()
			const publishers = 20
			var done sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for i := range publishers {
				done.Add(1)
				go func() {
					defer done.Done()
					l := newLoad(b, f.addr, 5, fmt.Sprint("bench/", i), window)
					defer l.nc.Close()
					l.run(b, b.N/publishers+1)
				}()
			}
			done.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
		})
	}
}

// What a consumer of one log gets, QoS 1.
func BenchmarkConsume(b *testing.B) {
	for _, mode := range []string{"structured", "binary"} {
		b.Run(mode, func(b *testing.B) {
			f := start(b, alice, nil)
			c := f.v5("c")
			c.consume("app/my-app", 1, options("content-mode", mode))
			m := f.member()
			r := record(0, `{"temperature":21.5,"humidity":40,"battery":3.3,"firmware":"1.2.3"}`)
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for i := range b.N {
					if i >= m.sub.Window {
						<-m.acks
					}
					m.deliver(stage.Record{Offset: uint64(i), Event: r.Event})
				}
			}()
			receive(b, c.nc, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
