package mqtt

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

// reader is a subscription of a connection to the log of an application. When
// the connection ends, it leaves; a persistent session gets a new one like it on
// its next connection.
type reader struct {
	session *session
	link    Link
	filter  string // as it was given
	topic   string // what records are delivered on
	log     stage.Subscription
	binary  bool // content mode
	qos     byte
	ids     []uint32

	// Under the session's lock.
	member  stage.Membership
	started bool // the SUBACK went, so records may
	left    bool
	early   []stage.Record // came before it
	scratch []byte         // to render into
}

// receipt is a record whose delivery is over.
type receipt struct {
	from   *reader
	offset uint64
}

// settle tells the log that the client is done with a record. A client that
// refuses one would refuse it again, so that it is not redelivered: it is counted
// and logged.
func (r receipt) settle(code byte, s *session) {
	if r.from == nil {
		return
	}
	if code >= packet.CodeUnspecified {
		s.server.log.Warn("consumer refused an event", "client", s.key.clientID, "application", r.from.log.Application,
			"offset", r.offset, "code", code)
	}
	r.from.ack(r.offset)
}

// ack is called without locks.
func (r *reader) ack(offset uint64) { r.member.Ack(offset) }

// isConsumer says whether app/… and command/… mean logs and devices to a client,
// and not topics of a device.
func isConsumer(g *stage.Grant) bool { return g.Device == "" || len(g.Read)+len(g.Write) > 0 }

// logFilter is a topic filter that names a log.
type logFilter struct {
	group, application, topic string
	shared, quarantine        bool
	bad                       stage.Code // it is of the kind, but refused
	reason                    string
}

// parseLogFilter recognises app/<application>, also spelt a/ and application/, and
// quarantine/<application>, with $share/<group>/ (or the older $shared/<group>/)
// before it.
func parseLogFilter(filter string) (f logFilter, is bool) {
	f.topic = filter
	for _, prefix := range []string{"$share/", "$shared/"} {
		if rest, ok := strings.CutPrefix(filter, prefix); ok {
			f.shared = true
			f.group, f.topic, _ = strings.Cut(rest, "/")
		}
	}
	head, application, _ := strings.Cut(f.topic, "/")
	f.quarantine = head == "quarantine"
	if head != "app" && head != "a" && head != "application" && !f.quarantine || len(head) == len(f.topic) {
		return f, false
	}
	f.application = application
	switch {
	case strings.ContainsAny(f.topic, "+#") || strings.ContainsAny(f.group, "+#"):
		f.bad, f.reason = stage.WildcardNotSupported, "wildcards are not supported here; name the application: app/<application>"
	case strings.Contains(application, "/") || f.shared && f.group == "":
		f.bad, f.reason = stage.TopicFilterInvalid, "the filter is app/<application> or $share/<group>/app/<application>"
	}
	return f, true
}

// pure refuses what a client without a device may not subscribe to: all but logs
// and the filters that its grant names.
func (x *subscribing) pure(f *packet.Filter) (stage.Code, string) {
	if x.conn.maySubscribe(f.Topic) {
		return stage.Success, ""
	}
	if strings.ContainsAny(f.Topic, "+#") {
		return stage.WildcardNotSupported, "wildcards are not supported here; name the application: app/<application>"
	}
	if group, rest, shared := packet.SplitShare(f.Topic); shared && !strings.Contains(rest, "/") {
		return stage.TopicFilterInvalid, fmt.Sprintf("did you mean $share/%s/app/%s", group, rest)
	}
	return stage.TopicFilterInvalid, "the filter is app/<application> or $share/<group>/app/<application>"
}

// logOptions are the user properties of a SUBSCRIBE to a log.
type logOptions struct {
	binary bool
	start  stage.Start
}

// readOptions reads content-mode and stream-offset; others are not ours.
func readOptions(p *packet.Properties) (o logOptions, err error) {
	if p == nil {
		return o, nil
	}
	for _, u := range p.User {
		switch u.Name {
		case "content-mode":
			if u.Value != "structured" && u.Value != "binary" {
				return o, fmt.Errorf("content-mode is %q; it must be structured or binary", u.Value)
			}
			o.binary = u.Value == "binary"
		case "stream-offset":
			if o.start, err = parseStart(u.Value); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

func parseStart(s string) (stage.Start, error) {
	switch s {
	case "first":
		return stage.Start{Kind: stage.StartFirst}, nil
	case "last":
		return stage.Start{Kind: stage.StartLast}, nil
	case "next":
		return stage.Start{Kind: stage.StartNext}, nil
	case "resume":
		return stage.Start{Kind: stage.StartResume}, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return stage.Start{Kind: stage.StartOffset, Offset: n}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return stage.Start{Kind: stage.StartTime, Time: t}, nil
	}
	return stage.Start{}, fmt.Errorf("stream-offset is %q; it must be first, last, next, resume, an offset, or an RFC 3339 time", s)
}

// join makes a reader for one filter. It runs on the connection's reader.
func (x *subscribing) join(i int, f logFilter) {
	c, s := x.conn, x.conn.session
	switch {
	case f.bad != 0:
		x.refuse(i, f.bad, f.reason)
		return
	case f.application == "" || !c.granted().MayRead(f.application):
		x.refuse(i, stage.NotAuthorized, "no such application, or no right to read its events")
		return
	}
	want := &x.packet.Filters[i]
	r := &reader{session: s, link: c, filter: want.Topic, topic: f.topic, qos: min(want.QoS, 1), ids: x.ids,
		binary: x.options.binary && c.version == packet.V5,
		log:    stage.Subscription{Application: f.application, Quarantine: f.quarantine, Start: x.options.start, Window: c.window}}
	if r.qos == 0 { // it needs no acknowledgement of the client
		r.log.Window = c.listener.Limits.MaxInFlight
	}
	s.mu.Lock()
	switch {
	case f.shared:
		r.log.Group = "s." + f.group
	case s.persistent() || r.log.Start.Kind == stage.StartResume:
		r.log.Group = "c." + s.key.namespace + "/" + s.key.clientID
	}
	old := s.readers[r.filter]
	full := old == nil && len(s.subs)+len(s.readers) >= c.listener.Limits.MaxSubscriptions
	var gone []*reader
	if old != nil {
		gone = append(gone, s.remove(old))
	}
	s.mu.Unlock()
	leaveAll(gone)
	if full {
		x.refuse(i, stage.QuotaExceeded, "the session has too many subscriptions")
		return
	}
	if err := r.join(); err != nil {
		code, reason, known := refusal(err)
		if !known {
			c.server.log.Warn("a consumer could not join", "client", c.clientID, "application", f.application, "error", err)
		}
		x.refuse(i, code, reason)
		return
	}
	x.codes[i], x.readers[i] = r.qos, r
}

// join makes the reader a member of its group. Where the connection ended
// meanwhile it leaves at once.
func (r *reader) join() error {
	member, err := r.session.server.logs.Join(r.log, r.deliver)
	if err != nil {
		return fmt.Errorf("joining the log of application %s: %w", r.log.Application, err)
	}
	s := r.session
	s.mu.Lock()
	r.member = member
	current := s.link == r.link && !s.ended
	if current {
		if s.readers == nil {
			s.readers = make(map[string]*reader)
		}
		s.readers[r.filter] = r
	} else {
		r.left = true
	}
	s.mu.Unlock()
	if !current {
		member.Leave()
	}
	return nil
}

// start lets records through. The caller holds the session's lock.
func (r *reader) start() {
	r.started = true
	for _, record := range r.early {
		r.push(record)
	}
	r.early = nil
	r.session.pump(time.Now())
}

// deliver takes a record from the log.
func (r *reader) deliver(record stage.Record) {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.left:
	case !r.started:
		r.early = append(r.early, record)
	default:
		r.push(record)
		s.pump(time.Now())
	}
}

func (r *reader) push(record stage.Record) {
	r.session.outbox.push(item{from: r, record: record, qos: r.qos, ids: r.ids})
}

// remove takes a reader out of the session, and its records with it. The caller
// holds the lock, and calls leaveAll after unlocking.
func (s *session) remove(r *reader) *reader {
	delete(s.readers, r.filter)
	r.left = true
	s.outbox.forget(r)
	return r
}

// leaveAll gives what readers had in hand to other members of their groups. It
// is called without locks.
func leaveAll(readers []*reader) {
	for _, r := range readers {
		if r.member != nil {
			r.member.Leave()
		}
	}
}

// rejoin gives the readers of a resumed session their places back, which it lost
// with its last connection. It runs on the connection's reader.
func (c *conn) rejoin() {
	s := c.session
	s.mu.Lock()
	var again []*reader
	for _, old := range s.readers {
		if old.left && s.link == c {
			again = append(again, &reader{session: s, link: c, filter: old.filter, topic: old.topic, log: old.log,
				binary: old.binary && c.version == packet.V5, qos: old.qos, ids: old.ids})
		}
	}
	s.mu.Unlock()
	for _, r := range again {
		r.log.Start = stage.Start{}
		r.log.Window = c.window
		if r.qos == 0 {
			r.log.Window = c.listener.Limits.MaxInFlight
		}
		if err := r.join(); err != nil {
			c.server.log.Warn("consumer could not return to its log", "client", c.clientID, "application", r.log.Application, "error", err)
			c.shut(packet.CodeServerBusy, "the log of application "+r.log.Application+" cannot be read now")
			return
		}
		s.mu.Lock()
		r.start()
		s.mu.Unlock()
	}
}
