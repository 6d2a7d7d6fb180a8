package e2e

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaRoot = "https://tributary.io/schemas/"

// checkFleetsEvents holds what a consumer got against the published schemas: each
// event names its own, which takes it, and each schema is used.
func checkFleetsEvents(t *testing.T, w *witness) {
	t.Helper()
	files, err := filepath.Glob("../../schemas/io.tributary.fleets.*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	schemas, used := map[string]*jsonschema.Schema{}, map[string]int{}
	for _, file := range files {
		s, err := jsonschema.NewCompiler().Compile(file)
		if err != nil {
			t.Fatal(err)
		}
		schemas[schemaRoot+filepath.Base(file)] = s
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.log {
		s := schemas[e.DataSchema]
		if s == nil || e.DataSchema != schemaRoot+e.Type+".json" {
			t.Errorf("an event of type %s has the schema %q", e.Type, e.DataSchema)
			continue
		}
		used[e.DataSchema]++
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data))
		if err != nil {
			t.Errorf("%s: %v: %s", e.Type, err, e.Data)
			continue
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%v\n%s", err, e.Data)
		}
		for name := range v.(map[string]any) {
			if s.Properties[name] == nil {
				t.Errorf("the schema of %s does not know %s: %s", e.Type, name, e.Data)
			}
		}
	}
	for id := range schemas {
		if used[id] == 0 {
			t.Errorf("no event has the schema %s", strings.TrimPrefix(id, schemaRoot))
		}
	}
	t.Logf("%d events", len(w.log))
}
