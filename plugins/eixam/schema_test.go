package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	sdk "tributary.io/sdk-plugin"
	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/vector"
)

const schemaRoot = "https://tributary.io/schemas/"

// Every event that any vector makes the plugin emit, and every message to a client, is
// what its schema says, and knows no more than it; every schema is used.
func TestSchemas(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]*jsonschema.Schema{}
	check := func(id string, data []byte) {
		s := used[id]
		if s == nil {
			if s, err = jsonschema.NewCompiler().Compile("../../schemas/" + filepath.Base(id)); err != nil {
				t.Fatal(err)
			}
			used[id] = s
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("%v\n%s", err, data)
		}
		for name := range v.(map[string]any) {
			if s.Properties[name] == nil {
				t.Errorf("%s does not know %s: %s", id, name, data)
			}
		}
	}
	for _, file := range files {
		cases, err := vector.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			for _, effect := range sdk.Run(handle, c.Inbound, c.Config, c.State).Effects {
				switch e := effect.(type) {
				case *event.Emit:
					if e.Event.DataSchema != schemaRoot+e.Event.Type+".json" {
						t.Fatalf("an event of type %s has the schema %q", e.Event.Type, e.Event.DataSchema)
					}
					check(e.Event.DataSchema, e.Event.Data)
				case *event.Publish:
					check(schemaRoot+"io.tributary.eixam.incident.v1.json", e.Payload)
				}
			}
		}
	}
	if all, _ := filepath.Glob("../../schemas/io.tributary.eixam.*.json"); len(all) != len(used) || len(all) == 0 {
		t.Errorf("%d of the %d schemas are used", len(used), len(all))
	}
}
