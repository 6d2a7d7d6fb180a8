package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// What a reader has to keep in mind at once. Tests may have more.
const (
	mostLines         = 400 // of a file
	mostFunctionLines = 60
)

// tables are functions whose length is that of a list, or of one state machine.
var tables = map[string]bool{
	"admin/describe": true, // what the members of resources mean
	"admin/routes":   true, // the operations of the API
	"jsontext/check": true, // the grammar of JSON
}

// Files and functions of the product stay short. The suite of stores is a test, too.
func TestSizes(t *testing.T) {
	for _, top := range []string{".", "../plugins", "../sdk-plugin", "../examples"} {
		err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || d.Name() == "storetest"):
				return filepath.SkipDir
			case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && !strings.HasSuffix(name, ".pb.go"):
				checkSizes(t, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func checkSizes(t *testing.T, name string) {
	t.Helper()
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if n := files.File(f.Pos()).LineCount(); n > mostLines+1 {
		t.Errorf("%s has %d lines; %d are the most: give a part of it a file that is named after it", name, n, mostLines)
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || tables[f.Name.Name+"/"+fn.Name.Name] {
			continue
		}
		if n := files.Position(fn.End()).Line - files.Position(fn.Pos()).Line + 1; n > mostFunctionLines {
			t.Errorf("%s: %s has %d lines; %d are the most", files.Position(fn.Pos()), fn.Name.Name, n, mostFunctionLines)
		}
	}
}
