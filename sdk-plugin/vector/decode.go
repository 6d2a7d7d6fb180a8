package vector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tributary.io/sdk-plugin/event"
)

// decode reads the cases of a file. Its errors name the place, and say what is wrong in the
// words of JSON, since authors of vectors need not know Go.
func decode(path string, text []byte) ([]file, error) {
	var cases []json.RawMessage
	err := json.Unmarshal(text, &cases)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("%s:%d: this is no JSON: %w", path, 1+bytes.Count(text[:syntax.Offset], []byte("\n")), err)
	case err != nil:
		return nil, fmt.Errorf("%s: a vector file is a JSON array of cases", path)
	case len(cases) == 0:
		return nil, fmt.Errorf("%s: there is no vector in it", path)
	}
	files := make([]file, len(cases))
	for i := range cases {
		d := json.NewDecoder(bytes.NewReader(cases[i]))
		d.DisallowUnknownFields()
		if err := d.Decode(&files[i]); err != nil {
			return nil, fmt.Errorf("%s: vector %d (%s): %w", path, i, files[i].Name, inWords(err))
		}
	}
	return files, nil
}

// inWords says what encoding/json means without naming types of Go.
func inWords(err error) error {
	var typed *json.UnmarshalTypeError
	if name, is := strings.CutPrefix(err.Error(), "json: unknown field "); is {
		return fmt.Errorf("the member %s is unknown; sdk-plugin/README.md has those that there are", name)
	}
	if !errors.As(err, &typed) {
		return err
	}
	what := map[reflect.Kind]string{
		reflect.String: "text", reflect.Bool: "true or false", reflect.Uint8: "a whole number from 0 to 255", reflect.Slice: "an array",
	}[typed.Type.Kind()]
	if what == "" {
		what = "an object"
	}
	if typed.Field == "" {
		return fmt.Errorf("%s stands where %s belongs", typed.Value, what)
	}
	return fmt.Errorf("%s: %s stands where %s belongs", typed.Field, typed.Value, what)
}

// checkExpected finds members that no effect or failure has. Without it an expectation of null
// for such a member would always hold.
func (f *file) checkExpected() error {
	if f.Failure != nil {
		members, ok := f.Failure.(map[string]any)
		if !ok {
			return errors.New("failure is no object")
		}
		return onlyKnown("failure", members, failureTree(&event.Failure{}))
	}
	kinds := map[string]any{}
	for _, e := range []event.Effect{
		&event.Emit{}, &event.Pass{}, &event.Publish{}, &event.Put{}, &event.Delete{}, &event.SetTimer{}, &event.CancelTimer{},
		&event.Reply{}, &event.Allow{}, &event.Deny{}, &event.Call{},
		&event.KeepFile{}, &event.DropFile{},
	} {
		maps.Copy(kinds, effectTree(e))
	}
	for i, effect := range f.Effects {
		at := fmt.Sprintf("effects[%d]", i)
		members, ok := effect.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", at)
		}
		if err := onlyKnown(at, members, kinds); err != nil {
			return err
		}
		for kind, of := range members {
			expected, _ := of.(map[string]any)
			if kind == "emit" || kind == "pass" { // extensions have any name
				continue
			}
			if err := onlyKnown(at+"."+kind, expected, kinds[kind].(map[string]any)); err != nil {
				return err
			}
		}
	}
	return nil
}

// onlyKnown finds a member that is not among those that there can be; bytes may
// also be expected in base64.
func onlyKnown(at string, members, there map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		plain, encoded := strings.CutSuffix(name, "_base64")
		_, bytes := there[plain].(raw)
		if _, ok := there[name]; !ok && !(encoded && bytes) {
			return fmt.Errorf("%s.%s is unknown; there are %s", at, name, strings.Join(slices.Sorted(maps.Keys(there)), ", "))
		}
	}
	return nil
}
