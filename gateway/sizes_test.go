package main

import (
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a reader has to keep in mind at once. Tests may have more.
const (
	mostLines         = 400 // of a file
	mostFunctionLines = 60
	mostLineBytes     = 140
	mostBesideText    = 80 // of a longer line, what does not belong to a text
	mostExported      = 60 // names of a package, without methods and fields
)

// tables are functions whose length is that of a list, or of one state machine.
var tables = map[string]bool{
	"admin/describe": true, // what the members of resources mean
	"admin/routes":   true, // the operations of the API
	"jsontext/check": true, // the grammar of JSON
}

// eachGoFile calls fn for the Go files of the repository, but for those of test data.
func eachGoFile(t *testing.T, fn func(name string)) {
	t.Helper()
	for _, top := range []string{".", "../plugins", "../sdk-plugin", "../examples"} {
		if err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return filepath.SkipDir
			case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".pb.go"):
				fn(name)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// Lines stay within what a reader sees at once. A text may be longer, if little stands
// beside it.
func TestLineLengths(t *testing.T) {
	eachGoFile(t, func(name string) {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(source), "\n")
		beside := make([]int, len(lines)) // bytes of each line that belong to no text
		for i, line := range lines {
			beside[i] = len(line)
		}
		files := token.NewFileSet()
		file := files.AddFile(name, -1, len(source))
		var s scanner.Scanner
		s.Init(file, source, nil, 0)
		for {
			pos, tok, text := s.Scan()
			if tok == token.EOF {
				break
			}
			if tok == token.STRING {
				for i, part := range strings.Split(text, "\n") {
					beside[file.Line(pos)-1+i] -= len(part)
				}
			}
		}
		for i, line := range lines {
			if n := len([]rune(line)); n > mostLineBytes && beside[i] > mostBesideText {
				t.Errorf("%s:%d has %d characters; %d are the most", name, i+1, n, mostLineBytes)
			}
		}
	})
}

// A package that exports few names can be read by its documentation. The packets of MQTT
// are as many as they are, and sdk-plugin is what authors look things up in.
func TestExportedNames(t *testing.T) {
	names := map[string]map[string]bool{}
	eachGoFile(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(name)
		if names[dir] == nil {
			names[dir] = map[string]bool{}
		}
		for _, d := range f.Decls {
			for _, id := range declared(d) {
				if id.IsExported() {
					names[dir][id.Name] = true
				}
			}
		}
	})
	for dir, list := range names {
		if len(list) > mostExported && dir != "listener/mqtt/packet" && !strings.HasPrefix(dir, "../sdk-plugin") {
			t.Errorf("%s exports %d names; %d are the most: move a subject to a package of its own", dir, len(list), mostExported)
		}
	}
}

// declared returns the names that a declaration gives the package.
func declared(decl ast.Decl) (names []*ast.Ident) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name)
			case *ast.ValueSpec:
				names = append(names, s.Names...)
			}
		}
	}
	return names
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
