package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"tributary.io/gateway/resource"
)

// decode reads the body into v; members that v does not have are an error.
func (c *call) decode(v any) error {
	if kind, _, err := mime.ParseMediaType(c.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return failed(http.StatusUnsupportedMediaType, "", "the body must be application/json")
	}
	body, err := io.ReadAll(c.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return failed(http.StatusRequestEntityTooLarge, "", "the body has more than %d bytes", large.Limit)
	}
	if err != nil {
		return failed(http.StatusBadRequest, "", "the body cannot be read: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err = d.Decode(v); err == nil {
		if _, err := d.Token(); err == io.EOF { // More would overlook a bracket
			return nil
		}
		err = errors.New("something follows the value")
	}
	field, message := "", strings.TrimPrefix(err.Error(), "json: ")
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) {
		field, message = typed.Field, unfit(typed)
	} else if name, ok := strings.CutPrefix(message, "unknown field "); ok {
		field, _ = strconv.Unquote(name)
		message = "there is no member " + field
	}
	return failed(http.StatusBadRequest, field, "%s", message)
}

// unfit says which kind of value stands where which belongs.
func unfit(err *json.UnmarshalTypeError) string {
	value, isNumber := strings.CutPrefix(err.Value, "number ") // with the number
	if vowel := value[0] == 'a' || value[0] == 'o'; vowel {
		value = "an " + value
	} else if !isNumber {
		value = "a " + value
	}
	takes := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Bool: "true or false", reflect.Slice: "an array", reflect.Struct: "an object",
		reflect.Map: "an object",
	}[err.Type.Kind()]
	if takes == "" {
		takes = "a whole number"
	}
	return value + " does not fit here; it takes " + takes
}

// precondition reads If-Match and If-None-Match (RFC 9110 section 13.1).
func (c *call) precondition() (pre resource.Precondition, err error) {
	match, none := c.Header.Get("If-Match"), c.Header.Get("If-None-Match")
	if none != "" && none != "*" {
		return pre, failed(http.StatusBadRequest, "If-None-Match", "only * is understood here")
	}
	pre.Absent, pre.Present = none == "*", match == "*"
	if match == "" || match == "*" {
		return pre, nil
	}
	rest, begins := strings.CutPrefix(match, `"`)
	revision, ends := strings.CutSuffix(rest, `"`)
	if !begins || !ends || revision == "" || strings.Contains(revision, `"`) {
		return pre, failed(http.StatusBadRequest, "If-Match", "give one entity tag, as ETag had it, or *")
	}
	pre.Revision = revision
	return pre, nil
}

// tag answers with the revision of an entry.
func (c *call) tag(e *resource.Entry) { c.header.Set("ETag", `"`+e.Revision+`"`) }

// named takes the name from the path; the body may repeat it.
func named(field, path string, body *string) error {
	if *body != "" && *body != path {
		return failed(http.StatusBadRequest, field, "the body says %q and the path %q", *body, path)
	}
	*body = path
	return nil
}

// The size of a page of a list.
const (
	defaultPage = 100
	mostPage    = 1000
)

// paging reads the parameters after and limit. A cursor is made by cursor.
func (c *call) paging() (after string, limit int, err error) {
	limit = defaultPage
	if text := c.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostPage {
			return "", 0, failed(http.StatusBadRequest, "limit", "use 1 to %d", mostPage)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(c.URL.Query().Get("after"))
	if err != nil {
		return "", 0, failed(http.StatusBadRequest, "after", "this is no cursor; take next of the page before")
	}
	return string(raw), limit, nil
}

func cursor(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

// flag reads a parameter that is true or false; set says whether it is there.
func (c *call) flag(name string) (value, set bool, err error) {
	switch text := c.URL.Query().Get(name); text {
	case "":
		return false, false, nil
	case "true", "false":
		return text == "true", true, nil
	}
	return false, false, failed(http.StatusBadRequest, name, "use true or false")
}
