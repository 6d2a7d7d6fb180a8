package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/vector"
)

const schemaRoot = "https://tributary.io/schemas/"

// schemas compiles the JSON Schemas of the events that the plugin emits.
func schemas(t testing.TB) map[string]*jsonschema.Schema {
	t.Helper()
	files, err := filepath.Glob("../../schemas/io.tributary.fleets.*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	compiled := map[string]*jsonschema.Schema{}
	for _, file := range files {
		s, err := jsonschema.NewCompiler().Compile(file)
		if err != nil {
			t.Fatal(err)
		}
		compiled[schemaRoot+filepath.Base(file)] = s
	}
	return compiled
}

// checkEmitted checks an event that the plugin emits against its schema, which
// must know all of it.
func checkEmitted(t testing.TB, schemas map[string]*jsonschema.Schema, e *event.Event) {
	t.Helper()
	s := schemas[e.DataSchema]
	if s == nil || e.DataSchema != schemaRoot+e.Type+".json" {
		t.Fatalf("an event of type %s has the schema %q", e.Type, e.DataSchema)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data))
	if err != nil {
		t.Fatalf("%s: %v: %s", e.Type, err, e.Data)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, e.Data)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Data, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		if s.Properties[name] == nil {
			t.Errorf("the schema of %s does not know %s: %s", e.Type, name, e.Data)
		}
	}
}

// Every event that any vector makes the plugin emit is what its schema says, and
// every schema is used.
func TestSchemas(t *testing.T) {
	compiled := schemas(t)
	used := map[string]bool{}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		cases, err := vector.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			for _, effect := range sdk.Run(handle, c.Inbound, c.Config, c.State).Effects {
				if emitted, ok := effect.(*event.Emit); ok {
					checkEmitted(t, compiled, &emitted.Event)
					used[emitted.Event.DataSchema] = true
				}
			}
		}
	}
	for id := range compiled {
		if !used[id] {
			t.Errorf("no vector emits what %s describes", strings.TrimPrefix(id, schemaRoot))
		}
	}
}
