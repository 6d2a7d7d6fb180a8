package mqtt

import (
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/sdk-plugin/event"
)

// rateWindow is the time over which rates hold on average: after a pause, a client may publish at
// once as much as the rate allows in this time.
const rateWindow = 2 * time.Second

// bucket is the use of one rate by all connections that share it: the time, in nanoseconds of the
// table's clock, at which all use is paid for. A leaky bucket in one word costs a message one atomic
// change and no lock.
type bucket struct{ paid atomic.Int64 }

// debt returns for how long nothing more may be used.
func (b *bucket) debt(now int64) time.Duration {
	return time.Duration(b.paid.Load()-now) - rateWindow
}

// charge uses up cost nanoseconds of the rate.
func (b *bucket) charge(now, cost int64) {
	for {
		old := b.paid.Load()
		if b.paid.CompareAndSwap(old, max(old, now)+cost) {
			return
		}
	}
}

// buckets are the two buckets of one device, user or application.
type buckets struct {
	key             string
	users           int  // how many meters hold it; the table's mu guards it and expiring
	expiring        bool // a timer will remove the entry
	messages, bytes bucket
}

// rateTable has the buckets of everybody with a rate who is connected, or who still owes something
// from an earlier connection: reconnecting pays no debt. Only authenticated clients get into the
// table.
type rateTable struct {
	start   time.Time // when its clock began
	mu      sync.Mutex
	entries map[string]*buckets
}

func (t *rateTable) now() int64 { return int64(time.Since(t.start)) }

func (t *rateTable) acquire(key string) *buckets {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.entries[key]
	if b == nil {
		b = &buckets{key: key}
		t.entries[key] = b
	}
	b.users++
	return b
}

func (t *rateTable) release(b *buckets) {
	if b == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b.users--
	t.dropIfPaidLocked(b)
}

// dropIfPaidLocked removes an entry that no meter holds: now, or as soon as it is paid for.
func (t *rateTable) dropIfPaidLocked(b *buckets) {
	if b.users > 0 || b.expiring {
		return
	}
	now := t.now()
	owed := max(b.messages.paid.Load(), b.bytes.paid.Load()) - now
	if owed <= 0 { // a new entry would be the same
		delete(t.entries, b.key)
		return
	}
	b.expiring = true
	time.AfterFunc(time.Duration(owed)+time.Millisecond, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		b.expiring = false
		t.dropIfPaidLocked(b)
	})
}

// meter holds the buckets that a connection's messages are charged to. It belongs to the reader.
type meter struct {
	grant *access.Grant // the grant that parts are for
	parts []metered     // empty: nothing is bounded
}

// metered is one entry of the table with the price of a message and of a byte in nanoseconds. The
// price is 0 if there is no bound.
type metered struct {
	*buckets
	message, byte float64
	limit         limit
}

// use makes the meter that of a grant.
func (m *meter) use(t *rateTable, g *access.Grant, l *Limits) {
	old := m.parts
	m.grant, m.parts = g, nil
	device := g.Rates
	if device.Messages == 0 {
		device.Messages = float64(l.MessageRate)
	}
	if device.Bytes == 0 {
		device.Bytes = float64(l.ByteRate)
	}
	name := "principal/" + g.Principal
	if g.Device != "" {
		name = "device/" + g.Application + "/" + g.Device
	}
	m.add(t, name, device, limitDeviceRate)
	m.add(t, "application/"+g.Application, g.ApplicationRates, limitApplicationRate)
	for i := range old { // after the new ones are acquired, so that an entry in both stays
		t.release(old[i].buckets)
	}
}

func (m *meter) add(t *rateTable, key string, r access.Rates, l limit) {
	price := func(rate float64) float64 {
		if rate <= 0 {
			return 0
		}
		return float64(time.Second) / rate
	}
	if x := (metered{message: price(r.Messages), byte: price(r.Bytes), limit: l}); x.message > 0 || x.byte > 0 {
		x.buckets = t.acquire(key)
		m.parts = append(m.parts, x)
	}
}

func (m *meter) close(t *rateTable) {
	for i := range m.parts {
		t.release(m.parts[i].buckets)
	}
	*m = meter{}
}

// charge charges a message, unless some debt is above patience already: then it charges nothing, and
// over is the debtor. wait is how long the reader should pause.
func (m *meter) charge(now int64, size int, patience time.Duration) (wait time.Duration, over *metered) {
	for i := range m.parts {
		p := &m.parts[i]
		if owed := p.debt(now); owed > patience {
			wait, over = max(wait, owed), p
		}
	}
	if over != nil {
		return wait, over
	}
	for i := range m.parts {
		p := &m.parts[i]
		if p.message > 0 {
			p.messages.charge(now, int64(p.message))
		}
		if p.byte > 0 {
			p.bytes.charge(now, int64(p.byte*float64(size)))
		}
		wait = max(wait, p.debt(now))
	}
	return wait, nil
}

func (p *metered) debt(now int64) time.Duration {
	return max(p.messages.debt(now), p.bytes.debt(now))
}

// Charge charges events that came another way than MQTT to the same buckets: as many events, of so
// many bytes together. If a bucket still has a debt, Charge charges nothing: it returns how long the
// debt takes, and whose it is.
func (s *Server) Charge(g *access.Grant, events, bytes int) (wait time.Duration, who string) {
	var m meter
	m.use(&s.rates, g, &Limits{})
	defer m.close(&s.rates)
	now := s.rates.now()
	for i := range m.parts {
		if owed := m.parts[i].debt(now); owed > wait {
			wait, who = owed, m.parts[i].who()
		}
	}
	if who != "" {
		return wait, who
	}
	for i := range m.parts {
		p := &m.parts[i]
		p.messages.charge(now, int64(p.message*float64(events)))
		p.bytes.charge(now, int64(p.byte*float64(bytes)))
	}
	return 0, ""
}

// withinRate holds a message to the rates of a grant. v says why the message is refused, if it is.
// Only the reader calls it.
func (c *conn) withinRate(g *access.Grant, p *packet.Publish) (v session.Verdict, err error) {
	if c.meter.grant != g {
		c.meter.use(&c.server.rates, g, &c.listener.Limits)
	}
	if len(c.meter.parts) == 0 {
		return v, nil
	}
	return c.slowed(p)
}

// slowed holds a message to the rates of the meter. First the reader pauses, which slows the client
// down and loses nothing. All connections of a device or application together can still owe more
// than rate_wait_max. Then a message of QoS 0 is dropped and an MQTT 5 client is told that its
// message is refused; a message of QoS 1 or 2 from an MQTT 3.1.1 client waits, because the client
// could not be told.
func (c *conn) slowed(p *packet.Publish) (v session.Verdict, err error) {
	t, patience := &c.server.rates, c.listener.Limits.RateWaitMax
	for {
		wait, over := c.meter.charge(t.now(), len(p.Topic)+len(p.Payload), patience)
		if over == nil {
			if wait > 0 {
				c.server.limited(limitRateWait)
				c.pause(min(wait, patience))
			}
			return v, nil
		}
		c.server.limited(over.limit)
		if c.pause(min(wait, patience)); c.over() != nil {
			return v, c.over()
		}
		if p.QoS == 0 || c.version == packet.V5 {
			return session.Verdict{Code: event.QuotaExceeded, Reason: "more messages or bytes than the rate of the " + over.who()}, nil
		}
	}
}

func (p *metered) who() string {
	if p.limit == limitApplicationRate {
		return "application"
	}
	return "device"
}

// pause makes the reader wait, at most until the connection ends.
func (c *conn) pause(d time.Duration) {
	until := time.Now().Add(d)
	wake := time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change.Broadcast()
	})
	defer wake.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kickLocked() // acknowledgements leave before the pause
	for c.phase == connOpen && time.Now().Before(until) {
		c.change.Wait()
	}
}
