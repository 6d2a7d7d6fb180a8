package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"slices"
	"strings"
)

const pageStyle = `
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.5rem}
section{border-top:1px solid #ccc;padding:.8rem 0}
h3{font:600 1rem ui-monospace,monospace;margin:.2rem 0;overflow-wrap:anywhere}
.method{display:inline-block;min-width:4.5rem}
table{border-collapse:collapse;margin:.4rem 0}td,th{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0}
td:first-child{font-family:ui-monospace,monospace}
p{margin:.3rem 0}.quiet{color:#555}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}section{border-color:#444}.quiet{color:#999}a{color:#8bf}}
`

const pageTemplate = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}}</title><style>{{.Style}}</style></head><body>
<h1>{{.Title}}</h1>
<p>{{.About}} This page is made of <a href="v1/openapi.json">openapi.json</a>.</p>
<p>Give the token as <code>Authorization: Bearer &lt;token&gt;</code>. Errors are <code>application/problem+json</code>.</p>
<h2>Operations</h2>
{{range .Operations}}<section id="{{.ID}}"><h3><span class="method">{{.Method}}</span> {{.Path}}</h3>
<p>{{.Summary}}. <span class="quiet">{{.Description}}</span></p>
{{if .Parameters}}<table>{{range .Parameters}}<tr><td>{{.Name}}</td><td>{{.Type}}</td><td>{{.About}}</td></tr>{{end}}</table>{{end}}
<p>{{if .Body}}Body: <a href="#{{.Body}}">{{.Body}}</a>. {{end}}{{if .Answer}}Answer: <a href="#{{.Answer}}">{{.Answer}}</a>.{{end}}</p></section>
{{end}}<h2>Types</h2>
{{range .Types}}<section id="{{.Name}}"><h3>{{.Name}}</h3><table>{{range .Parameters}}<tr><td>{{.Name}}</td><td>{{.Type}}</td><td>{{.About}}</td></tr>{{end}}</table></section>
{{end}}</body></html>
`

type pageRow struct{ Name, Type, About string }

type pageSection struct {
	ID, Method, Path, Summary, Description, Body, Answer, Name string
	Parameters                                                 []pageRow
}

// schemaDoc is a schema of the document, as far as it uses JSON Schema.
type schemaDoc struct {
	Ref         string               `json:"$ref"`
	Type        string               `json:"type"`
	Format      string               `json:"format"`
	Description string               `json:"description"`
	Enum        []string             `json:"enum"`
	Items       *schemaDoc           `json:"items"`
	Properties  map[string]schemaDoc `json:"properties"`
}

type contentDoc map[string]struct{ Schema schemaDoc }

// render makes a page of the OpenAPI document, and the policy that allows a
// browser nothing but its style.
func render(document []byte) (page []byte, policy string, err error) {
	var doc struct {
		Info  struct{ Title, Description string }
		Paths map[string]map[string]struct {
			OperationID, Summary, Description string
			Parameters                        []struct {
				Name, Description string
				Schema            schemaDoc
			}
			RequestBody struct{ Content contentDoc }
			Responses   map[string]struct{ Content contentDoc }
		}
		Components struct{ Schemas map[string]schemaDoc }
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, "", err
	}
	data := struct {
		Title, About      string
		Style             template.CSS
		Operations, Types []pageSection
	}{Title: doc.Info.Title, About: doc.Info.Description, Style: pageStyle}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			op := doc.Paths[path][method]
			s := pageSection{ID: op.OperationID, Method: strings.ToUpper(method), Path: prefix + path, Summary: op.Summary,
				Description: op.Description}
			for _, p := range op.Parameters {
				s.Parameters = append(s.Parameters, pageRow{p.Name, p.Schema.Type, p.Description})
			}
			s.Body = op.RequestBody.Content["application/json"].Schema.name()
			for _, status := range []string{"200", "201"} {
				if name := op.Responses[status].Content["application/json"].Schema.name(); name != "" {
					s.Answer = name
				}
			}
			data.Operations = append(data.Operations, s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		s, properties := pageSection{Name: name}, doc.Components.Schemas[name].Properties
		for _, member := range slices.Sorted(maps.Keys(properties)) {
			p := properties[member]
			s.Parameters = append(s.Parameters, pageRow{member, p.name(), p.Description})
		}
		data.Types = append(data.Types, s)
	}
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(pageStyle))
	policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'"
	return b.Bytes(), policy, nil
}

// name says in a word what a schema is.
func (s schemaDoc) name() string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Items != nil:
		return "list of " + s.Items.name()
	case s.Enum != nil:
		return strings.Join(s.Enum, " | ")
	case s.Format != "":
		return s.Format
	}
	return s.Type
}
