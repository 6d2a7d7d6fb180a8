package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	planned = regexp.MustCompile("`([A-Za-z]+)\\.([A-Za-z]+)`")
	goLink  = regexp.MustCompile(`\]\(\.\./(gateway/[^)#]+\.go)\)`)
)

// TestFloorPlan has docs/design.md name what there is: each method or field exists, and in a
// row of a table it stands in one of the files that the row links.
func TestFloorPlan(t *testing.T) {
	homes := map[string][]string{} // of each Type.member and package.Name: the files that declare it
	eachGoFile(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			for _, member := range members(f.Name.Name, d) {
				homes[member] = append(homes[member], filepath.Join("gateway", name))
			}
		}
	})
	for line := range strings.Lines(read(t, "../docs/design.md")) {
		var linked []string
		for _, m := range goLink.FindAllStringSubmatch(line, -1) {
			linked = append(linked, m[1])
		}
		for _, m := range planned.FindAllStringSubmatch(line, -1) {
			name := m[1] + "." + m[2]
			files := homes[name]
			switch {
			case m[2] == "go" || m[2] == "toml" || m[2] == "md": // a file
			case len(files) == 0:
				t.Errorf("docs/design.md names %s, which does not exist", name)
			case strings.HasPrefix(line, "|") && len(linked) > 0 && !common(files, linked):
				t.Errorf("docs/design.md has %s in %v; it is in %v", name, linked, files)
			}
		}
	}
}

func common(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// members returns the names of a declaration as the floor plan writes them: Type.method,
// Type.field, package.Name.
func members(pkg string, d ast.Decl) (names []string) {
	if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
		of := f.Recv.List[0].Type
		if p, ok := of.(*ast.StarExpr); ok {
			of = p.X
		}
		if id, ok := of.(*ast.Ident); ok {
			return []string{id.Name + "." + f.Name.Name}
		}
		return nil
	}
	for _, id := range declared(d) {
		names = append(names, pkg+"."+id.Name)
	}
	g, ok := d.(*ast.GenDecl)
	if !ok {
		return names
	}
	for _, s := range g.Specs {
		typ, ok := s.(*ast.TypeSpec)
		if !ok {
			continue
		}
		var fields *ast.FieldList
		switch x := typ.Type.(type) {
		case *ast.StructType:
			fields = x.Fields
		case *ast.InterfaceType:
			fields = x.Methods
		default:
			continue
		}
		for _, f := range fields.List {
			for _, id := range f.Names {
				names = append(names, typ.Name.Name+"."+id.Name)
			}
		}
	}
	return names
}
