package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The OpenAPI document is made of the table of routes and of the types that they
// take and answer, so that it cannot say anything else than the code does.
// schemas/openapi.json is a copy that a test keeps equal.

// object is a JSON object of the document.
type object = map[string]any

// openAPI returns the document (OpenAPI 3.1).
func openAPI() []byte {
	d := &documenter{schemas: object{}}
	problemSchema := d.schema(reflect.TypeFor[problem]())
	paths := object{}
	for _, r := range routes() {
		at, _ := paths[r.path].(object)
		if at == nil {
			at = object{}
			paths[r.path] = at
		}
		at[strings.ToLower(r.method)] = d.operation(&r, problemSchema)
	}
	document, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title":   "Tributary admin API",
			"version": "1",
			"description": "Applications, devices, users, credentials, connections and consumer groups of a Tributary gateway. Every operation " +
				"needs a token.",
		},
		"servers":    []any{object{"url": prefix}},
		"security":   []any{object{"token": []any{}}},
		"paths":      paths,
		"components": object{"schemas": d.schemas, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}}},
	}, "", "  ")
	if err != nil {
		return nil // it is made of nothing that JSON lacks
	}
	return append(document, '\n')
}

// documenter makes the document and gathers the schemas that it refers to.
type documenter struct{ schemas object }

var pathName = regexp.MustCompile(`\{(\w+)\}`)

func (d *documenter) operation(r *route, problemSchema any) object {
	var parameters []any
	parameter := func(in, name, about, kind string, required bool) {
		parameters = append(parameters, object{"in": in, "name": name, "description": about, "required": required,
			"schema": object{"type": kind}})
	}
	for _, m := range pathName.FindAllStringSubmatch(r.path, -1) {
		parameter("path", m[1], pathNames()[m[1]], "string", true)
	}
	for _, p := range r.query {
		parameter("query", p.name, p.about, p.kind, false)
	}
	if r.conditional {
		parameter("header", "If-Match", "do it only where the entry has this entity tag; *: where there is one", "string", false)
		if r.method == http.MethodPut {
			parameter("header", "If-None-Match", "*: do it only where there is no such entry", "string", false)
		}
	}
	failure := object{"application/problem+json": object{"schema": problemSchema}}
	responses := object{"default": object{"description": "It was not done; the body says why.", "content": failure}}
	success := object{"description": "It is done."}
	if r.answer != nil {
		success["content"] = object{"application/json": object{"schema": d.schema(reflect.TypeOf(r.answer))}}
	}
	responses[strconv.Itoa(r.status)] = success
	if r.created {
		responses["201"] = object{"description": "It was created.", "content": success["content"]}
	}
	scopes := map[scope]string{
		everything: "The token must be for all applications.", one: "The token must be for the application.",
		filtered: "A token for some applications sees those.",
	}
	op := object{
		"operationId": r.id, "summary": r.summary, "responses": responses,
		"description": fmt.Sprintf("Role: %s. %s", r.role, scopes[r.scope]),
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if r.body != nil {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": d.input(reflect.TypeOf(r.body))}}}
	}
	return op
}

// schema describes a Go type; named structs become schemas of their own.
func (d *documenter) schema(t reflect.Type) any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.String:
		s := object{"type": "string"}
		if values := enums()[t.Name()]; values != nil {
			s["enum"] = values
		}
		return s
	case t.Kind() != reflect.Struct:
		return object{"type": "integer"}
	}
	name := schemaName(t)
	if _, known := d.schemas[name]; !known {
		d.schemas[name] = nil // it is being made
		s := object{"type": "object", "additionalProperties": false}
		properties, required := object{}, []any{}
		d.fields(t, properties, &required)
		s["properties"], s["required"] = properties, required
		d.schemas[name] = s
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// input describes a type as the body of a request. Of an entry it is what may be
// set, all of it optional.
func (d *documenter) input(t reflect.Type) any {
	ref := d.schema(t)
	name := schemaName(t)
	whole, _ := d.schemas[name].(object)
	if strings.HasPrefix(name, "New") {
		return ref
	}
	settings := object{}
	for member, s := range whole["properties"].(object) {
		if o, ok := s.(object); ok && o["readOnly"] != true {
			settings[member] = s
		}
	}
	name += "Settings"
	d.schemas[name] = object{
		"type": "object", "properties": settings,
		"description": "What may be set; what is absent has its default. Members that the gateway sets are ignored, so that an entry can be " +
			"sent back as it was read.",
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// fields adds the members of a struct, also of those that it embeds.
func (d *documenter) fields(t reflect.Type, properties object, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if f.Anonymous && tag == "" {
			d.fields(f.Type, properties, required)
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "-" || name == "" {
			continue
		}
		s := d.schema(f.Type)
		about := describe(t.Name(), name)
		if o, ok := s.(object); ok && about != "" {
			if o["$ref"] == nil {
				o["description"] = about
			}
			if strings.HasPrefix(about, "Set by the gateway") {
				o["readOnly"] = true
			}
		}
		properties[name] = s
		if options == "" {
			*required = append(*required, name)
		}
	}
}

// schemaName is a type's name in the document: pages are called after what
// they hold.
func schemaName(t reflect.Type) string {
	if strings.HasPrefix(t.Name(), "page[") {
		return strings.TrimSuffix(t.Name()[strings.LastIndexByte(t.Name(), '.')+1:], "]") + "Page"
	}
	return strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
}
