package vector

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// raw is bytes in a tree of JSON values: a payload or a state value.
type raw []byte

// MarshalJSON shows the bytes in an error message.
func (r raw) MarshalJSON() ([]byte, error) { return json.Marshal(string(r)) }

// effectTrees turns effects into JSON values: one object per effect, with one
// member that is named after its kind.
func effectTrees(effects []event.Effect) []any {
	trees := make([]any, len(effects))
	for i, e := range effects {
		trees[i] = effectTree(e)
	}
	return trees
}

func effectTree(e event.Effect) map[string]any {
	switch e := e.(type) {
	case *event.Emit:
		return map[string]any{"emit": eventTree(&e.Event)}
	case *event.Pass:
		return map[string]any{"pass": eventTree(&e.Event)}
	case *event.Publish:
		return map[string]any{"publish": map[string]any{
			"topics": list(e.Topics), "device": e.Device, "payload": raw(e.Payload), "qos": float64(e.QoS), "retain": e.Retain,
			"content_type": e.ContentType, "response_topic": e.ResponseTopic, "correlation": raw(e.Correlation),
			"properties": properties(e.Properties), "expiry": e.Expiry.String(), "answer": e.Answer}}
	case *event.Put:
		return map[string]any{"put": map[string]any{"key": e.Key, "value": raw(e.Value), "ttl": e.TTL.String()}}
	case *event.Delete:
		return map[string]any{"delete": map[string]any{"key": e.Key}}
	case *event.SetTimer:
		return map[string]any{"set_timer": map[string]any{"key": e.Key, "at": e.At.UTC().Format(time.RFC3339Nano), "data": raw(e.Data)}}
	case *event.CancelTimer:
		return map[string]any{"cancel_timer": map[string]any{"key": e.Key}}
	case *event.Reply:
		return map[string]any{"reply": map[string]any{
			"code": float64(e.Code), "reason": e.Reason, "headers": properties(e.Headers), "payload": raw(e.Payload),
			"file": e.File}}
	case *event.Allow:
		return map[string]any{"allow": map[string]any{"identity": e.Identity, "application": e.Application, "device": e.Device,
			"publish": list(e.Publish), "subscribe": list(e.Subscribe), "expires": e.Expires.UTC().Format(time.RFC3339Nano), "once": e.Once}}
	case *event.Deny:
		return map[string]any{"deny": map[string]any{"reason": e.Reason, "code": float64(e.Code), "name": e.Name}}
	case *event.Call:
		return map[string]any{"call": map[string]any{"id": e.ID, "method": e.Method, "url": e.URL,
			"headers": properties(e.Headers), "body": raw(e.Body), "timeout": e.Timeout.String()}}
	case *event.KeepFile:
		return map[string]any{"keep_file": map[string]any{"name": e.Name, "upload": e.Upload, "append": e.Append, "ttl": e.TTL.String()}}
	case *event.DropFile:
		return map[string]any{"drop_file": map[string]any{"name": e.Name}}
	}
	return nil
}

func failureTree(f *event.Failure) map[string]any {
	return map[string]any{"retryable": f.Retryable, "code": float64(f.Code), "message": f.Message}
}

// eventTree is the event in the CloudEvents JSON format, without the attributes
// that the gateway has yet to fill in.
func eventTree(e *event.Event) any {
	var tree map[string]any
	if err := json.Unmarshal(codec.AppendJSON(nil, e), &tree); err != nil {
		return err.Error()
	}
	maps.DeleteFunc(tree, func(_ string, value any) bool { return value == "" })
	return tree
}

func properties(props []event.Property) []any {
	trees := make([]any, len(props))
	for i, p := range props {
		trees[i] = map[string]any{"name": p.Name, "value": p.Value}
	}
	return trees
}

func list(items []string) []any {
	trees := make([]any, len(items))
	for i, s := range items {
		trees[i] = s
	}
	return trees
}

// diff collects differences, one line each.
type diff struct {
	lines []string
	exact bool              // everything that is there must be expected
	now   time.Time         // of the event
	names map[string]string // what {{id:name}} stands for
}

func (d *diff) add(path, format string, args ...any) {
	d.lines = append(d.lines, path+": "+fmt.Sprintf(format, args...))
}

// compare checks that got has everything that want says.
func (d *diff) compare(path string, want, got any) {
	if b, ok := got.(raw); ok {
		d.compareRaw(path, want, b)
		return
	}
	switch want := want.(type) {
	case map[string]any:
		d.compareObject(path, want, got)
	case []any:
		items, ok := got.([]any)
		if !ok || len(items) != len(want) {
			d.add(path, "want %d elements: %s\n\t\tgot %s", len(want), show(want), show(got))
			return
		}
		for i := range want {
			d.compare(fmt.Sprintf("%s[%d]", path, i), want[i], items[i])
		}
	case string:
		if !d.matches(want, got) {
			d.add(path, "want %s, got %s", show(want), show(got))
		}
	default:
		if want != got {
			d.add(path, "want %s, got %s", show(want), show(got))
		}
	}
}

func (d *diff) compareObject(path string, want map[string]any, got any) {
	members, ok := got.(map[string]any)
	if !ok {
		d.add(path, "want %s, got %s", show(want), show(got))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		at := path + "." + name
		value, there := members[name]
		if plain, is := strings.CutSuffix(name, "_base64"); is && !there {
			if b, ok := members[plain].(raw); ok {
				d.compare(at, want[name], base64.StdEncoding.EncodeToString(b))
				continue
			}
		}
		switch {
		case want[name] == nil && (!there || isEmpty(value)):
		case !there:
			d.add(at, "is absent, want %s", show(want[name]))
		default:
			d.compare(at, want[name], value)
		}
	}
	if !d.exact {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		_, expected := want[name]
		_, encoded := want[name+"_base64"]
		if !expected && !encoded && !isEmpty(members[name]) && name != "specversion" {
			d.add(path+"."+name, "is not expected, got %s", show(members[name]))
		}
	}
}

// compareRaw takes an expected string as text and anything else as JSON.
func (d *diff) compareRaw(path string, want any, got raw) {
	if s, ok := want.(string); ok {
		if !d.matches(s, string(got)) {
			d.add(path, "want %q, got %q", s, got)
		}
		return
	}
	var tree any
	if err := json.Unmarshal(got, &tree); err != nil {
		d.add(path, "want JSON, got %q", got)
		return
	}
	d.compare(path, want, tree)
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case raw:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == "" || v == "0s" || v == "0001-01-01T00:00:00Z"
	}
	return value == nil || value == false || value == float64(0)
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
