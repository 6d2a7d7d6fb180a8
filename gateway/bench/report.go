package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// A Report is the outcome of a run. Durations are nanoseconds in JSON.
type Report struct {
	Address      string `json:"address"`
	Version      string `json:"version"` // 3.1.1 or 5.0
	QoS          byte   `json:"qos"`
	Publishers   int    `json:"publishers"`
	Subscribers  int    `json:"subscribers"`
	Idle         int    `json:"idle"`
	Window       int    `json:"window"`        // the smallest that a publisher had, after the server's Receive Maximum
	PayloadBytes int    `json:"payload_bytes"` // of the first message

	Elapsed        time.Duration  `json:"elapsed_ns"` // from the start to the last acknowledgement or, without publishers, message
	Published      int64          `json:"published"`
	Acknowledged   int64          `json:"acknowledged"`    // with success
	Refused        map[string]int `json:"refused"`         // acknowledgements with an error, by reason code
	Unacknowledged int64          `json:"unacknowledged"`  // at the end of the run
	PublishRate    float64        `json:"publish_per_sec"` // published in Elapsed
	AckRate        float64        `json:"ack_per_sec"`     // acknowledged in Elapsed
	AckLatency     Latency        `json:"ack_latency"`     // PUBLISH to PUBACK or PUBREC; from when it was due, if Rate was set

	Consumed    int64   `json:"consumed"`
	ConsumeRate float64 `json:"consume_per_sec"` // between the first and the last message
	EndToEnd    Latency `json:"end_to_end"`      // of this run's stamped messages, from PUBLISH to the subscriber

	IdleAlive     int      `json:"idle_alive"` // idle connections that answered at the end
	BytesSent     int64    `json:"bytes_sent"` // with MQTT framing, without TCP's, and without idle connections
	BytesReceived int64    `json:"bytes_received"`
	Errors        int      `json:"errors"`       // clients that ended early
	FirstErrors   []string `json:"first_errors"` // at most five
}

// Latency is a distribution of durations. Quantiles are exact to 1/64.
type Latency struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

// report sums up. The loops have ended.
func (r *run) report(alive int) Report {
	c := &r.config
	t := r.total()
	rep := Report{
		Address: c.Address, Version: "5.0", QoS: c.QoS, Publishers: c.Publishers, Subscribers: c.Subscribers, Idle: c.Idle, Window: c.Window,
		Published: t.published, Acknowledged: t.acked, Refused: map[string]int{}, Consumed: t.consumed,
		IdleAlive: alive, BytesSent: t.out, BytesReceived: t.in, Errors: r.errors, FirstErrors: r.first,
	}
	if c.Version == packet.V311 {
		rep.Version = "3.1.1"
	}
	var acks, ends histogram
	var last, first, until time.Time
	refused := 0
	for _, p := range r.publishers {
		acks.merge(&p.latency)
		if p.lastAck.After(last) {
			last = p.lastAck
		}
		for code, n := range p.refused {
			rep.Refused[fmt.Sprintf("0x%02x", code)] += n
			refused += n
		}
		rep.Window = min(rep.Window, len(p.free))
	}
	if len(r.publishers) > 0 {
		rep.PayloadBytes = len(r.publishers[0].payload.appendTo(nil, 0, r.start))
	}
	if c.QoS > 0 {
		rep.Unacknowledged = t.published - t.acked - int64(refused)
	}
	for _, s := range r.subscribers {
		ends.merge(&s.latency)
		if s.consumed.Load() == 0 {
			continue
		}
		if first.IsZero() || s.first.Before(first) {
			first = s.first
		}
		if s.latest.After(until) {
			until = s.latest
		}
	}
	rep.AckLatency, rep.EndToEnd = acks.latency(), ends.latency()
	switch {
	case !last.IsZero():
		rep.Elapsed = last.Sub(r.start)
	case len(r.publishers) == 0 && !until.IsZero():
		rep.Elapsed = until.Sub(r.start)
	default:
		rep.Elapsed = time.Since(r.start)
	}
	rep.PublishRate = perSecond(rep.Published, rep.Elapsed)
	rep.AckRate = perSecond(rep.Acknowledged, rep.Elapsed)
	rep.ConsumeRate = perSecond(rep.Consumed, until.Sub(first))
	return rep
}

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("server", "%s, MQTT %s, QoS %d", r.Address, r.Version, r.QoS)
	if r.Publishers > 0 {
		row("publishers", "%s, window %s, payload %s B, %.1f s", grouped(int64(r.Publishers)), grouped(int64(r.Window)),
			grouped(int64(r.PayloadBytes)), r.Elapsed.Seconds())
		row("published", "%s\t%s/s", grouped(r.Published), grouped(int64(r.PublishRate)))
		if r.QoS > 0 {
			row("acknowledged", "%s\t%s/s", grouped(r.Acknowledged), grouped(int64(r.AckRate)))
			row("latency", "%s", &r.AckLatency)
		}
		for _, code := range slices.Sorted(maps.Keys(r.Refused)) {
			row("refused "+code, "%s", grouped(int64(r.Refused[code])))
		}
		if r.Unacknowledged > 0 {
			row("unacknowledged", "%s", grouped(r.Unacknowledged))
		}
	}
	if r.Subscribers > 0 {
		row("subscribers", "%s", grouped(int64(r.Subscribers)))
		row("consumed", "%s\t%s/s", grouped(r.Consumed), grouped(int64(r.ConsumeRate)))
		row("end to end", "%s", &r.EndToEnd)
	}
	if r.Idle > 0 {
		row("idle", "%s, %s alive at the end", grouped(int64(r.Idle)), grouped(int64(r.IdleAlive)))
	}
	row("bytes", "%s sent, %s received", grouped(r.BytesSent), grouped(r.BytesReceived))
	if r.Errors > 0 {
		row("errors", "%s", grouped(int64(r.Errors)))
		for _, e := range r.FirstErrors {
			row("", "%s", e)
		}
	}
	return t.Flush()
}

// String is the distribution in milliseconds.
func (l *Latency) String() string {
	if l.Count == 0 {
		return "not measured"
	}
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 3, 64) + " ms" }
	return fmt.Sprintf("p50 %s  p90 %s  p99 %s  max %s", ms(l.P50), ms(l.P90), ms(l.P99), ms(l.Max))
}

// grouped writes a number with a comma between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	head := len(s) % 3
	if n < 0 || len(s) <= 3 {
		return s
	}
	var groups []string
	if head > 0 {
		groups = append(groups, s[:head])
	}
	for i := head; i < len(s); i += 3 {
		groups = append(groups, s[i:i+3])
	}
	return strings.Join(groups, ",")
}
