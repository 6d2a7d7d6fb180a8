package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// validator checks answers against the document. It knows the part of JSON
// Schema that the document uses, and fails on any other.
type validator struct {
	t   *testing.T
	doc object
}

func newValidator(t *testing.T) *validator {
	v := &validator{t: t}
	if err := json.Unmarshal(openAPI(), &v.doc); err != nil {
		t.Fatal(err)
	}
	return v
}

func at(v any, keys ...string) any {
	for _, key := range keys {
		m, _ := v.(object)
		v = m[key]
	}
	return v
}

// answer returns what is wrong with an answer, "" for nothing.
func (v *validator) answer(method, path string, a *answer) string {
	op := v.operation(method, strings.TrimPrefix(path, prefix))
	if op == nil {
		return "" // no route: there is nothing to compare with
	}
	response := at(op, "responses", fmt.Sprint(a.status))
	if response == nil {
		if a.status < 400 {
			return "the status is not described"
		}
		response = at(op, "responses", "default")
	}
	content, _ := at(response, "content").(object)
	if content == nil {
		if a.body != "" {
			return "there should be no body"
		}
		return ""
	}
	schema := at(content, a.header.Get("Content-Type"), "schema")
	if schema == nil {
		return "the content type is " + a.header.Get("Content-Type")
	}
	var value any
	if err := json.Unmarshal([]byte(a.body), &value); err != nil {
		return err.Error()
	}
	return v.check(schema.(object), value, "$")
}

func (v *validator) operation(method, path string) any {
	paths := v.doc["paths"].(object)
	for pattern := range paths {
		want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
		fits := len(want) == len(have)
		for i := range want {
			fits = fits && (want[i] == have[i] || strings.HasPrefix(want[i], "{"))
		}
		if op := at(paths, pattern, strings.ToLower(method)); fits && op != nil {
			return op
		}
	}
	return nil
}

func (v *validator) check(s object, value any, where string) string {
	for keyword := range s {
		if !slices.Contains([]string{"$ref", "type", "format", "enum", "items", "properties", "required", "additionalProperties", "description",
			"readOnly"}, keyword) {
			v.t.Fatalf("the validator does not know %s", keyword)
		}
	}
	if ref, ok := s["$ref"].(string); ok {
		return v.check(at(v.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...).(object), value, where)
	}
	if values, ok := s["enum"].([]any); ok && !slices.Contains(values, value) {
		return fmt.Sprintf("%s is %v", where, value)
	}
	switch s["type"] {
	case "object":
		return v.object(s, value, where)
	case "array":
		list, ok := value.([]any)
		if !ok {
			return where + " is no array"
		}
		for i, item := range list {
			if problem := v.check(s["items"].(object), item, fmt.Sprintf("%s[%d]", where, i)); problem != "" {
				return problem
			}
		}
	case "string":
		text, ok := value.(string)
		if !ok {
			return where + " is no string"
		}
		if _, err := time.Parse(time.RFC3339, text); s["format"] == "date-time" && err != nil {
			return where + " is no time"
		}
	case "integer":
		if n, ok := value.(float64); !ok || n != float64(int64(n)) {
			return where + " is no integer"
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return where + " is no boolean"
		}
	default:
		return fmt.Sprintf("%s: type %v", where, s["type"])
	}
	return ""
}

func (v *validator) object(s object, value any, where string) string {
	m, ok := value.(object)
	if !ok {
		return where + " is no object"
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := m[name.(string)]; !ok {
			return fmt.Sprintf("%s lacks %s", where, name)
		}
	}
	properties := s["properties"].(object)
	for name, member := range m {
		p, ok := properties[name].(object)
		if !ok {
			return fmt.Sprintf("%s has %s, which is not described", where, name)
		}
		if problem := v.check(p, member, where+"."+name); problem != "" {
			return problem
		}
	}
	return ""
}
