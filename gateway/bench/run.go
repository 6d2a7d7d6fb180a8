package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tributary.io/gateway/listener/mqtt/packet"
)

// quiet is how long subscribers must have received nothing for the run to be over.
const quiet = 500 * time.Millisecond

// A run is one measurement.
type run struct {
	config     Config
	id         uint32 // in stamps, so that messages of other runs are not taken for ours
	start, end time.Time
	stopped    atomic.Bool // nobody sends or waits any more
	halt       chan struct{}

	publishers  []*publisher
	subscribers []*subscriber
	idle        []*client
	consuming   atomic.Int32 // subscribers still at work

	mu     sync.Mutex
	errors int
	first  []string // of the errors
}

// Run measures as cfg says and writes a line each second to progress. It returns when
// the messages are sent and answered, when the time is over (and Config.Drain after
// it), or when ctx ends; then the report says what was measured so far, beside
// ctx.Err(). An error before the load begins (a wrong setting, a refused connection)
// comes with an empty report; what goes wrong later is counted in the report.
func Run(ctx context.Context, cfg Config, progress io.Writer) (Report, error) {
	if err := cfg.Validate(); err != nil {
		return Report{}, err
	}
	address, err := resolve(ctx, &cfg)
	if err != nil {
		return Report{}, err
	}
	r := &run{config: cfg, id: rand.Uint32(), halt: make(chan struct{}), first: []string{}}
	defer r.close()
	publishers, err := r.connect(ctx, address)
	if err != nil {
		return Report{}, err
	}

	r.start = time.Now()
	r.end = r.start.Add(cfg.Duration)
	for n, cl := range publishers {
		r.publishers = append(r.publishers, newPublisher(r, cl, n))
	}
	cancel := context.AfterFunc(ctx, r.stop)
	defer cancel()

	var publishing, consuming sync.WaitGroup
	for _, p := range r.publishers {
		publishing.Go(func() { r.note(p.id, p.loop()) })
	}
	r.consuming.Store(int32(len(r.subscribers)))
	for _, s := range r.subscribers {
		consuming.Go(func() {
			r.note(s.id, s.loop())
			r.consuming.Add(-1)
		})
	}
	published := make(chan struct{})
	go func() { publishing.Wait(); close(published) }()

	m := newMonitor(r, progress)
	m.until(func() bool { return r.loadIsOver(published) })
	m.until(r.drained())
	r.stop()
	<-published
	consuming.Wait()
	alive := r.checkIdle()
	return r.report(alive), ctx.Err()
}

// connect opens all connections, a limited number at a time, and subscribes. Publishers
// are returned; they start when everybody is there.
func (r *run) connect(ctx context.Context, address string) ([]*client, error) {
	c := &r.config
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	open := func(id string, n int, filter string) (*client, error) {
		cl, err := connect(ctx, c, address, id, n)
		if err == nil && filter != "" {
			if err = cl.subscribe(filter, c.QoS, c.ConnectTimeout); err != nil {
				cl.nc.Close()
			}
		}
		return cl, err
	}
	var mu sync.Mutex
	publishers := make([]*client, c.Publishers)
	each := func(count int, name string, filtered bool, keep func(n int, cl *client)) {
		for n := range count {
			g.Go(func() error {
				id := fmt.Sprintf("%s%s-%d", c.ClientIDPrefix, name, n)
				filter := ""
				if filtered {
					filter = c.filter(id, n)
				}
				cl, err := open(id, n, filter)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				keep(n, cl)
				return nil
			})
		}
	}
	each(c.Subscribers, "-sub", true, func(_ int, cl *client) {
		cl.grow(64 << 10) // what comes while a batch is handled is taken in one read
		r.subscribers = append(r.subscribers, &subscriber{client: cl, run: r})
	})
	each(c.Idle, "-idle", c.ConsumeFilter != "", func(_ int, cl *client) { r.idle = append(r.idle, cl) })
	each(c.Publishers, "", false, func(n int, cl *client) {
		cl.grow(16 << 10) // four thousand acknowledgements
		publishers[n] = cl
	})
	if err := g.Wait(); err != nil {
		for _, cl := range publishers {
			if cl != nil {
				cl.nc.Close()
			}
		}
		return nil, err
	}
	return publishers, nil
}

// loadIsOver says whether publishers are done or, without any, whether subscribers
// have what they came for or the time is over.
func (r *run) loadIsOver(published <-chan struct{}) bool {
	if r.stopped.Load() {
		return true
	}
	if len(r.publishers) == 0 {
		c := &r.config
		enough := c.Messages > 0 && c.Subscribers > 0 && r.total().consumed >= int64(c.Messages)
		allGone := c.Subscribers > 0 && c.Idle == 0 && r.consuming.Load() == 0
		return enough || allGone || !time.Now().Before(r.end)
	}
	select {
	case <-published:
		return true
	default:
		return false
	}
}

// drained returns the condition that nothing is on its way to subscribers any more.
func (r *run) drained() func() bool {
	if len(r.publishers) == 0 {
		return func() bool { return true }
	}
	begin := time.Now()
	seen, since := int64(-1), begin
	return func() bool {
		now := time.Now()
		if n := r.total().consumed; n != seen {
			seen, since = n, now
		}
		return r.stopped.Load() || r.consuming.Load() == 0 || now.Sub(since) >= quiet || now.Sub(begin) >= r.config.Drain
	}
}

// checkIdle counts the idle connections that still answer.
func (r *run) checkIdle() int {
	var alive atomic.Int32
	var g errgroup.Group
	g.SetLimit(64)
	for _, cl := range r.idle {
		g.Go(func() error {
			cl.nc.SetDeadline(time.Now().Add(r.config.Drain))
			cl.out = (&packet.Pingreq{}).Append(cl.out, cl.version)
			for {
				reply, err := cl.request()
				if err != nil {
					r.note(cl.id, err)
					return nil
				}
				if _, ok := reply.(*packet.Pingresp); ok { // messages may have come before it
					alive.Add(1)
					return nil
				}
			}
		})
	}
	g.Wait()
	return int(alive.Load())
}

// stop ends all loops at once.
func (r *run) stop() {
	if r.stopped.Swap(true) {
		return
	}
	close(r.halt)
	past := time.Unix(1, 0)
	for _, p := range r.publishers {
		p.nc.SetDeadline(past)
	}
	for _, s := range r.subscribers {
		s.nc.SetDeadline(past)
	}
}

// close closes all connections.
func (r *run) close() {
	for _, p := range r.publishers {
		p.close()
	}
	for _, s := range r.subscribers {
		s.close()
	}
	for _, cl := range r.idle {
		cl.close()
	}
}

// note counts an error of a client, unless stop caused it; the first ones are kept.
func (r *run) note(id string, err error) {
	if err == nil || isTimeout(err) && r.stopped.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors++
	if len(r.first) < 5 {
		r.first = append(r.first, id+": "+err.Error())
	}
}

// totals are counters over all clients.
type totals struct{ published, acked, consumed, out, in int64 }

func (r *run) total() (t totals) {
	for _, p := range r.publishers {
		t.published += p.published.Load()
		t.acked += p.acked.Load()
		t.out += p.bytesOut.Load()
		t.in += p.bytesIn.Load()
	}
	for _, s := range r.subscribers {
		t.consumed += s.consumed.Load()
		t.out += s.bytesOut.Load()
		t.in += s.bytesIn.Load()
	}
	return t
}

// A monitor writes a line of progress each second.
type monitor struct {
	run    *run
	w      io.Writer
	last   totals
	lastAt time.Time
}

func newMonitor(r *run, w io.Writer) *monitor { return &monitor{run: r, w: w, lastAt: r.start} }

// until waits for the condition.
func (m *monitor) until(over func() bool) {
	const tick = 50 * time.Millisecond
	t := time.NewTicker(tick)
	defer t.Stop()
	for !over() {
		select {
		case <-t.C:
		case <-m.run.halt:
		}
		if now := time.Now(); now.Sub(m.lastAt) >= time.Second-tick/2 {
			m.line(now)
		}
	}
}

// line writes what the last second brought.
func (m *monitor) line(now time.Time) {
	t := m.run.total()
	secs := now.Sub(m.lastAt).Seconds()
	rate := func(now, before int64) string { return grouped(int64(float64(now-before)/secs)) + "/s" }
	line := fmt.Sprintf("%4.0fs", now.Sub(m.run.start).Seconds())
	if len(m.run.publishers) > 0 {
		line += "  published " + rate(t.published, m.last.published)
		if m.run.config.QoS > 0 {
			line += "  acknowledged " + rate(t.acked, m.last.acked)
		}
	}
	if len(m.run.subscribers) > 0 {
		line += "  consumed " + rate(t.consumed, m.last.consumed)
	}
	if n := len(m.run.idle); n > 0 {
		line += "  idle " + grouped(int64(n))
	}
	m.run.mu.Lock()
	if m.run.errors > 0 {
		line += "  errors " + grouped(int64(m.run.errors))
	}
	m.run.mu.Unlock()
	fmt.Fprintln(m.w, line)
	m.last, m.lastAt = t, now
}
