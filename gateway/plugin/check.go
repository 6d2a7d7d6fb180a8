package plugin

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"tributary.io/gateway/access"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// violation is an effect that the grant does not cover.
type violation struct {
	did string // what the plugin did
	key string // the key of the grant that would allow it; empty: no key can
}

// check returns the first effect on an event that the grant does not cover, nil
// if none.
func (g *Grant) check(in *event.Inbound, effects []event.Effect) *violation {
	for _, e := range effects {
		if v := g.checkEffect(in, e); v != nil {
			return v
		}
	}
	return nil
}

func (g *Grant) checkEffect(in *event.Inbound, e event.Effect) *violation {
	switch e := e.(type) {
	case *event.Emit:
		if !anyCovers(g.Emit, e.Event.Type, access.MatchName) {
			return &violation{fmt.Sprintf("emitted an event of type %q", e.Event.Type), "emit"}
		}
	case *event.Publish:
		if len(e.Topics) == 0 {
			return &violation{"published to no topic", ""}
		}
		for _, name := range e.Topics {
			if !topic.ValidName(name) {
				return &violation{fmt.Sprintf("published to %q, which is no topic name", name), ""}
			}
			if !anyCovers(g.Publish, name, topic.Match) {
				return &violation{fmt.Sprintf("published to topic %q", name), "publish"}
			}
		}
		return checkProperties(e)
	case *event.Put:
		if err := g.checkState(e.Key, e.Value); err != nil {
			return err
		}
	case *event.Delete:
		return g.checkState(e.Key, nil)
	case *event.Pass:
		if !g.Pass {
			return &violation{"passed an event on", "pass"}
		}
	case *event.Reply:
		if e.File != "" && g.FileBytes == 0 {
			return &violation{"replied with a file", "file_bytes"}
		}
	case *event.KeepFile:
		return g.checkFile(e.Name)
	case *event.DropFile:
		return g.checkFile(e.Name)
	case *event.SetTimer:
		return g.checkTimer(e.Key, e)
	case *event.CancelTimer:
		return g.checkTimer(e.Key, nil)
	case *event.Call:
		return g.checkCall(e)
	case *event.Allow:
		return g.checkAllow(in, e)
	case *event.Deny:
		if len(g.Judge.Applications) == 0 {
			return &violation{"judged credentials", "judge.applications"}
		}
		return checkDeny(e)
	default:
		return &violation{fmt.Sprintf("used the unknown effect %T", e), ""}
	}
	return nil
}

// maxText bounds a text in an MQTT packet, MQTT 5.0 section 1.5.4.
const maxText = 65_535

// checkProperties finds what an MQTT packet cannot carry beside the payload.
func checkProperties(e *event.Publish) *violation {
	bad := func(what, s string) *violation {
		return &violation{fmt.Sprintf("published %s of %d bytes that is no text of MQTT: at most %d bytes of UTF-8 without U+0000", what, len(s),
			maxText), ""}
	}
	switch {
	case !isText(e.ContentType):
		return bad("a content type", e.ContentType)
	case e.ResponseTopic != "" && !topic.ValidName(e.ResponseTopic):
		return &violation{fmt.Sprintf("named the response topic %q, which is no topic name", e.ResponseTopic), ""}
	case len(e.Correlation) > maxText:
		return &violation{fmt.Sprintf("published correlation data of %d bytes; at most %d are possible", len(e.Correlation), maxText), ""}
	}
	for _, p := range e.Properties {
		if !isText(p.Name) {
			return bad("a user property's name", p.Name)
		}
		if !isText(p.Value) {
			return bad("a user property", p.Value)
		}
	}
	return nil
}

// isText says whether s can be a UTF-8 encoded string of MQTT.
func isText(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func (g *Grant) checkState(key string, value []byte) *violation {
	if key == "" || len(key) > maxKeyBytes {
		return &violation{fmt.Sprintf("used a state key of %d bytes; 1 to %d are possible", len(key), maxKeyBytes), ""}
	}
	if size := int64(len(key) + len(value)); size > g.StateBytes {
		return &violation{fmt.Sprintf("wrote %d bytes of state", size), "state_bytes"}
	}
	return nil
}

func (g *Grant) checkFile(name string) *violation {
	switch {
	case g.FileBytes == 0:
		return &violation{"used a file", "file_bytes"}
	case name == "" || len(name) > maxKeyBytes || !event.ValidString(name):
		return &violation{fmt.Sprintf("used a file name of %d bytes; 1 to %d without control characters are possible", len(name), maxKeyBytes),
			""}
	}
	return nil
}

// What a timer may hold. The time is bounded so that it fits the order of the
// store.
const (
	maxTimerData = 64 << 10
	maxTimerTime = 9_214_646_400 // the year 2262, in Unix seconds
)

func (g *Grant) checkTimer(key string, set *event.SetTimer) *violation {
	switch {
	case g.Timers == 0:
		return &violation{"used a timer", "timers"}
	case key == "" || len(key) > maxKeyBytes:
		return &violation{fmt.Sprintf("used a timer key of %d bytes; 1 to %d are possible", len(key), maxKeyBytes), ""}
	case !event.ValidString(key):
		return &violation{"used a timer key with control characters or noncharacters", ""}
	case set == nil:
		return nil
	case set.At.Unix() < 0 || set.At.Unix() >= maxTimerTime:
		return &violation{fmt.Sprintf("set a timer for %s, which is out of range", set.At), ""}
	case len(set.Data) > maxTimerData:
		return &violation{fmt.Sprintf("set a timer with %d bytes of data; at most %d are possible", len(set.Data), maxTimerData), ""}
	}
	return nil
}

// checkAllow holds a verdict against what the plugin may allow at most. An
// application that is not named is the event's.
func (g *Grant) checkAllow(in *event.Inbound, e *event.Allow) *violation {
	if in.Event.Type != event.TypeConnect {
		return &violation{"allowed a connection when it was not asked to judge one", ""}
	}
	if e.Application == "" {
		e.Application = in.Event.Application
	}
	name := e.Device
	if name == "" {
		name = e.Identity
	}
	switch {
	case !anyCovers(g.Judge.Applications, e.Application, access.MatchName):
		return &violation{fmt.Sprintf("let somebody into application %q", e.Application), "judge.applications"}
	case name == "" || len(name) > 256 || !event.ValidString(name) || e.Device != "" && e.Application == "":
		return &violation{"let somebody in without a name of 1 to 256 bytes, or a device without its application", ""}
	case e.Device == "" && len(e.Publish)+len(e.Subscribe) > 0:
		return &violation{"gave topics to somebody who is no device", ""}
	}
	at := access.Placeholders{Application: e.Application, Device: e.Device, ClientID: in.Transport.ClientID, Username: in.Transport.Username}
	for _, l := range []struct {
		key        string
		want, most []string
	}{{"publish", e.Publish, g.Judge.Publish}, {"subscribe", e.Subscribe, g.Judge.Subscribe}} {
		most := at.Fill(l.most)
		for _, filter := range l.want {
			if !topic.ValidFilter(filter) {
				return &violation{fmt.Sprintf("allowed to %s %q, which is no topic filter", l.key, filter), ""}
			}
			if !anyCovers(most, filter, topic.Covers) {
				return &violation{fmt.Sprintf("allowed to %s %q", l.key, filter), "judge." + l.key}
			}
		}
	}
	return nil
}

// checkDeny holds a refusal to the codes that say so.
func checkDeny(e *event.Deny) *violation {
	switch e.Code {
	case 0, event.BadUserNameOrPassword, event.NotAuthorized, event.ServerUnavailable, event.Banned, event.QuotaExceeded:
	default:
		return &violation{fmt.Sprintf("refused credentials with the code %#x, which is none for that", byte(e.Code)), ""}
	}
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	if len(e.Name) > 64 || strings.ContainsFunc(e.Name, func(c rune) bool { return !plain(c) }) {
		return &violation{"named a refusal with something else than 1 to 64 of A-Z, a-z, 0-9, _ and -", ""}
	}
	return nil
}

// failure turns a violation into the permanent failure of the plugin's result. It names the
// file in which the missing key belongs: gateway.toml, or plugin.toml for a plugin under test.
func (v *violation) failure(plugin string, wanted bool) *event.Failure {
	const longest = 300 // what a plugin made up need not fill a log
	text := fmt.Sprintf("plugin %s %.*s", plugin, longest, v.did)
	switch {
	case v.key == "":
	case wanted:
		text += fmt.Sprintf(", which it does not want: see wants.%s in its plugin.toml", v.key)
	default:
		text += fmt.Sprintf(", which it is not granted: see plugins.%s.grant.%s in gateway.toml", plugin, v.key)
	}
	return &event.Failure{Code: event.ImplementationSpecificError, Message: text}
}
