package registry

import (
	"fmt"
	"regexp"
	"strings"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/topic"
	"tributary.io/sdk-plugin/event"
)

// faults collects what is wrong with an entry.
type faults []*resource.Fault

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, &resource.Fault{Kind: resource.Invalid, Field: field, Reason: fmt.Sprintf(format, args...)})
}

func checkApplication(a *resource.Application) (f faults) {
	if !validApplication(a.Name) {
		f.add("name", "an application's name is 1 to 64 of a-z, 0-9 and -")
	}
	if a.RetentionSeconds < 0 || a.RetentionSeconds > maxRetention {
		f.add("retentionSeconds", "%d seconds are negative or too much; 0 keeps events of any age", a.RetentionSeconds)
	}
	if a.RetentionBytes < 0 {
		f.add("retentionBytes", "%d is negative; 0 keeps any amount", a.RetentionBytes)
	}
	f.rates(a.MessageRate, a.ByteRate)
	return f
}

// maxRetention keeps a retention within a time.Duration: 200 years.
const maxRetention = 200 * 365 * 24 * 3600

func checkDevice(d *resource.Device) (f faults) {
	if !ValidDevice(d.Name) {
		f.add("name", "a device's name is 1 to 128 bytes of text without /, + and #, and neither . nor ..")
	}
	for _, pattern := range d.GatewayFor {
		if !ValidDevice(pattern) {
			f.add("gatewayFor", "%q matches no device name; use * for any run of characters", pattern)
		}
	}
	for _, alias := range d.Aliases {
		if !validAlias(alias) {
			f.add("aliases", "%q cannot be an alias: use 1 to 256 bytes of text, but neither . nor ..", alias)
		}
		if alias == d.Name {
			f.add("aliases", "%q is the device's own name", alias)
		}
	}
	f.list("aliases", len(d.Aliases), 16)
	f.list("gatewayFor", len(d.GatewayFor), 256)
	f.filters("publish", d.Publish)
	f.filters("subscribe", d.Subscribe)
	f.rates(d.MessageRate, d.ByteRate)
	return f
}

func checkUser(u *resource.User) (f faults) {
	if !ValidDevice(u.Name) || strings.Contains(u.Name, "@") {
		f.add("name", "a user's name is 1 to 128 bytes of text without @, /, + and # (with @ it would be a device's login), and neither . nor ..")
	}
	f.applications("read", u.Read, true)
	f.applications("write", u.Write, true)
	return f
}

func checkToken(t *resource.Token) (f faults) {
	if !validApplication(t.Name) {
		f.add("name", "a token's name is 1 to 64 of a-z, 0-9 and -")
	}
	if !t.Role.Includes(resource.Reader) {
		f.add("role", "the role is %q; use reader, operator or admin", t.Role)
	}
	f.applications("applications", t.Applications, false)
	return f
}

// applications checks names of applications, which need not exist yet; with
// star, a * at the end may stand for any rest.
func (f *faults) applications(field string, names []string, star bool) {
	for _, name := range names {
		head, any := strings.CutSuffix(name, "*")
		if !validApplication(name) && !(star && any && (head == "" || validApplication(head))) {
			f.add(field, "%q is no name of an application", name)
		}
	}
	f.list(field, len(names), 1000)
}

func (f *faults) list(field string, n, most int) {
	if n > most {
		f.add(field, "%d entries; at most %d are allowed", n, most)
	}
}

func (f *faults) rates(messages, bytes int) {
	if messages < 0 {
		f.add("messageRate", "%d is negative; 0 is no bound", messages)
	}
	if bytes < 0 {
		f.add("byteRate", "%d is negative; 0 is no bound", bytes)
	}
}

var placeholder = regexp.MustCompile(`\{([a-z]+)\}`)

// filters checks topic filters with placeholders.
func (f *faults) filters(field string, list []string) {
	for _, filter := range list {
		if !topic.ValidFilter(filter) {
			f.add(field, "%q is no MQTT topic filter", filter)
		}
		for _, m := range placeholder.FindAllStringSubmatch(filter, -1) {
			switch m[1] {
			case "application", "device", "clientid", "username":
			default:
				f.add(field, "%q has the unknown placeholder %s; there are {application}, {device}, {clientid} and {username}", filter, m[0])
			}
		}
	}
	f.list(field, len(list), 256)
}

func validApplication(name string) bool {
	ok := len(name) >= 1 && len(name) <= 64
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	return ok
}

// ValidDevice says whether a name can be a device's: 1 to 128 bytes of UTF-8
// without '/', '+' and '#' that an attribute of an event can hold (event.ValidString: no
// control characters, no noncharacters), so that it can be a
// level of an MQTT topic, and neither "." nor "..", so that it can be a part of a URL.
func ValidDevice(name string) bool {
	return text(name, 128) && !strings.ContainsAny(name, "/+#") && !dots(name)
}

// dots says whether a name is . or .., which in a path mean the same place or the one above: a
// URL with such a name would ask about something else.
func dots(name string) bool { return name == "." || name == ".." }

// validAlias says whether a text can be an alias. It never stands in a topic.
func validAlias(alias string) bool { return text(alias, 256) && !dots(alias) }

// text says whether s is 1 to most bytes that an attribute of an event can hold.
func text(s string, most int) bool {
	return len(s) >= 1 && len(s) <= most && event.ValidString(s)
}
