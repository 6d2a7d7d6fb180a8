package mqtt

import (
	"errors"
	"fmt"
	"strings"

	"tributary.io/gateway/access"
	"tributary.io/gateway/filter"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// isConsumer says whether app/… and command/… are logs and commands for a client, and not its
// device's own topics.
func isConsumer(g *access.Grant) bool { return g.Device == "" || len(g.Read)+len(g.Write) > 0 }

// logFilter is a topic filter that names a log.
type logFilter struct {
	group, application, topic string
	shared, quarantine        bool
	bad                       event.Code // why the filter is refused, although it names a log
	reason                    string
}

// parseLogFilter recognises app/<application>, also written a/ and application/, and
// quarantine/<application>, optionally after $share/<group>/ (or the older $shared/<group>/).
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
		f.bad, f.reason = event.WildcardSubscriptionsNotSupported, "wildcards are not supported here; name the application: app/<application>"
	case strings.Contains(application, "/") || f.shared && f.group == "":
		f.bad, f.reason = event.TopicFilterInvalid, "the filter is app/<application> or $share/<group>/app/<application>"
	}
	return f, true
}

// checkUserFilter refuses filters that a client without a device may not subscribe to: all except
// logs and the filters of its grant.
func (x *subscribing) checkUserFilter(f *packet.Filter) (event.Code, string) {
	if x.conn.MaySubscribe(f.Topic) {
		return event.Success, ""
	}
	if strings.ContainsAny(f.Topic, "+#") {
		return event.WildcardSubscriptionsNotSupported, "wildcards are not supported here; name the application: app/<application>"
	}
	if group, rest, shared := topic.SplitShare(f.Topic); shared && !strings.Contains(rest, "/") {
		return event.TopicFilterInvalid, fmt.Sprintf("did you mean $share/%s/app/%s", group, rest)
	}
	return event.TopicFilterInvalid, "the filter is app/<application> or $share/<group>/app/<application>"
}

// logOptions are what the user properties of a SUBSCRIBE say about a log.
type logOptions struct {
	binary bool
	start  stage.Start
	where  string // CESQL
	filter stage.Filter
}

// readOptions reads content-mode, stream-offset and filter. It ignores other properties.
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
		case "filter":
			if o.where != "" {
				return o, errors.New("filter is there twice; join the expressions with AND or OR")
			}
			o.where = u.Value
			if o.filter, err = parseWhere(o.where); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// parseWhere reads the filter of a subscription to a log.
func parseWhere(sql string) (stage.Filter, error) {
	f, err := filter.Parse(filter.Terms{SQL: sql})
	if f == nil {
		return nil, err // not a Filter that is nil
	}
	return f, err
}

func parseStart(s string) (stage.Start, error) {
	if start, ok := stage.ParseStart(s); ok {
		return start, nil
	}
	return stage.Start{}, fmt.Errorf("stream-offset is %q; it must be first, last, next, resume, an offset, or an RFC 3339 time", s)
}

// join subscribes to a log. Only the reader calls it.
func (x *subscribing) join(i int, f logFilter) {
	c := x.conn
	switch {
	case f.bad != 0:
		x.refuse(i, f.bad, f.reason)
		return
	case f.application == "" || !c.Granted().MayRead(f.application):
		x.refuse(i, event.NotAuthorized, "no such application, or no right to read its events")
		return
	}
	want := &x.packet.Filters[i]
	r := &session.LogSubscription{Filter: want.Topic, Topic: f.topic, QoS: min(want.QoS, 1), IDs: x.ids,
		Binary: x.options.binary && c.version == packet.V5, Where: x.options.where,
		Log: stage.Subscription{Application: f.application, Quarantine: f.quarantine, Start: x.options.start, Window: c.logWindow(want.QoS),
			Filter: x.options.filter}}
	if f.shared {
		r.Log.Group = "s." + f.group
	}
	if err := c.Session.SubscribeLog(c, r); err != nil {
		code, reason, known := session.Refusal(err)
		if !known {
			c.server.log.Warn("a consumer could not join", "client", c.ClientID, "application", f.application, "error", err)
		}
		x.refuse(i, code, reason)
		return
	}
	x.codes[i], x.readers[i] = r.QoS, r
}

// logWindow returns how many records may be unacknowledged at once. Records of QoS 0 need no
// acknowledgement from the client, so its Receive Maximum does not count.
func (c *conn) logWindow(qos byte) int {
	if qos == 0 {
		return c.listener.Limits.MaxInFlight
	}
	return c.window
}

// rejoin subscribes a resumed session to its logs again, which it left when its last connection
// ended. Only the reader calls it.
func (c *conn) rejoin() {
	for _, r := range c.Session.LostLogs(c, c.version == packet.V5) {
		r.Log.Window = c.logWindow(r.QoS)
		var err error
		if r.Log.Filter, err = parseWhere(r.Where); err == nil {
			err = r.Rejoin()
		}
		if err != nil {
			c.server.log.Warn("consumer could not return to its log", "client", c.ClientID, "application", r.Log.Application, "error", err)
			c.shut(packet.CodeServerBusy, "the log of application "+r.Log.Application+" cannot be read now")
			return
		}
	}
}
