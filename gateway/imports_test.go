package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tributary.io/"

// rule says what the Go files of a package that are not tests may import.
type rule struct {
	ours   string // packages of this module, without its name, separated by spaces
	theirs string // modules of others
}

// rules holds every package. A package that is not here fails the test: put it
// here after thinking about who may know whom (docs/design.md).
func rules() map[string]rule {
	return map[string]rule{
		"gateway": {theirs: "golang.org/x/term",
			ours: "gateway/bench gateway/config gateway/listener/mqtt/packet gateway/metric gateway/plugin gateway/registry gateway/server " +
				"sdk-plugin/event sdk-plugin/vector"},
		"gateway/server": {ours: words +
			" gateway/admin gateway/auth gateway/config gateway/consumer gateway/files gateway/listener/http gateway/listener/mqtt " +
			"gateway/listener/transport gateway/outbound gateway/plugin gateway/registry gateway/router gateway/session gateway/store " +
			"gateway/store/pebble gateway/timer"},
		"gateway/config": {theirs: "github.com/knadh/koanf",
			ours: "gateway/admin gateway/auth gateway/consumer gateway/files gateway/listener/http gateway/listener/mqtt " +
				"gateway/listener/transport " +
				"gateway/outbound gateway/plugin gateway/registry gateway/router gateway/store/pebble gateway/topic sdk-plugin/event"},

		// The vocabulary: values that pass between the stages.
		"gateway/access":         {ours: "sdk-plugin/event"},
		"gateway/metric":         {},
		"gateway/outbound/place": {},
		"gateway/resource":       {},
		"gateway/loglimit":       {},
		"gateway/stage":          {ours: "gateway/store sdk-plugin/event"},
		"gateway/topic":          {ours: "sdk-plugin/event"},

		// The stages know the vocabulary, and each other only in the direction of a message:
		// listener, router, session.
		"gateway/admin": {ours: words, theirs: "github.com/prometheus/client_golang"},
		"gateway/auth": {ours: words + " gateway/loglimit",
			theirs: "github.com/coreos/go-oidc github.com/go-jose/go-jose github.com/xdg-go/scram"},
		"gateway/bench":              {ours: "gateway/listener/mqtt/packet gateway/topic", theirs: "golang.org/x/sync"},
		"gateway/e2e":                {},
		"gateway/consumer":           {ours: words + " gateway/store"},
		"gateway/listener/admission": {ours: "gateway/access gateway/loglimit gateway/stage sdk-plugin/event"},
		"gateway/reader":             {ours: "gateway/stage"},
		"gateway/filter":             {ours: "sdk-plugin/codec sdk-plugin/event", theirs: "github.com/cloudevents/sdk-go"},
		"gateway/files":              {ours: words + " gateway/store"},
		"gateway/listener/http":      {ours: words + " sdk-plugin/codec gateway/files gateway/filter gateway/listener/admission gateway/reader"},
		"gateway/listener/mqtt": {ours: words +
			" sdk-plugin/codec gateway/filter gateway/listener/admission gateway/listener/mqtt/packet gateway/session"},
		"gateway/listener/mqtt/conformance": {},
		"gateway/listener/mqtt/packet":      {ours: "gateway/topic sdk-plugin/event"},
		"gateway/listener/transport":        {ours: words + " gateway/listener/admission", theirs: "github.com/pires/go-proxyproto"},
		"gateway/plugin": {ours: words + " sdk-plugin/codec gateway/plugin/meter sdk-plugin/jsontext",
			theirs: "github.com/tetratelabs/wazero"},
		"gateway/plugin/meter":    {},
		"gateway/registry":        {ours: words + " gateway/store", theirs: "golang.org/x/crypto"},
		"gateway/router":          {ours: words + " sdk-plugin/codec gateway/loglimit gateway/plugin gateway/store"},
		"gateway/session":         {ours: words + " sdk-plugin/codec gateway/listener/mqtt/packet gateway/store sdk-plugin/wire"},
		"gateway/outbound":        {ours: words + " sdk-plugin/codec gateway/store"},
		"gateway/timer":           {ours: words + " sdk-plugin/codec gateway/store"},
		"gateway/store":           {},
		"gateway/store/pebble":    {ours: words + " gateway/store", theirs: "github.com/cockroachdb/pebble"},
		"gateway/store/storetest": {ours: "gateway/store", theirs: "pgregory.net/rapid"},

		// What plugin authors get needs the standard library only.
		"sdk-plugin":          {ours: "sdk-plugin/codec sdk-plugin/event sdk-plugin/wire sdk-plugin/jsontext"},
		"sdk-plugin/codec":    {ours: "sdk-plugin/event sdk-plugin/wire sdk-plugin/jsontext"},
		"sdk-plugin/jsontext": {ours: "sdk-plugin/wire"},
		"sdk-plugin/event":    {},
		"sdk-plugin/wire":     {},
		"sdk-plugin/vector":   {ours: "sdk-plugin/codec sdk-plugin/event"},

		// Each folder of these is a package of the same kind.
		"plugins/*":  {ours: "sdk-plugin sdk-plugin/event", theirs: "golang.org/x/crypto/bcrypt"},
		"examples/*": {ours: "sdk-plugin sdk-plugin/event", theirs: "github.com/eclipse/paho.golang"},
	}
}

// words are the packages of the vocabulary, which every stage may import.
const words = "gateway/access gateway/metric gateway/outbound/place gateway/resource gateway/stage gateway/topic sdk-plugin/event"

// testModules may be imported by any test, beside what its package may import.
const testModules = "github.com/google/go-cmp pgregory.net/rapid github.com/eclipse/paho.golang github.com/eclipse/paho.mqtt.golang " +
	"github.com/cloudevents/sdk-go " +
	"github.com/coder/websocket google.golang.org/protobuf github.com/tetratelabs/wazero golang.org/x/sync " +
	"github.com/santhosh-tekuri/jsonschema github.com/go-jose/go-jose github.com/xdg-go/scram golang.org/x/sys"

// goFile is one parsed file of the module.
type goFile struct {
	*ast.File
	name string // from the root of the module
	pkg  string // the folder that it is in
	test bool
}

// goFiles parses the module's Go files. They are read in this process, and not
// by a child: else the test cache could not see that they changed.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() {
			if name != ".." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || base == "build" || base == "data" ||
				base == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator)))
		files = append(files, goFile{f, name, path.Dir(name), strings.HasSuffix(name, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d Go files found: is this the module?", len(files))
	}
	return files
}

// ruleOf returns the rule for a package.
func ruleOf(pkg string) (rule, bool) {
	r, ok := rules()[pkg]
	if !ok {
		r, ok = rules()[path.Dir(pkg)+"/*"]
	}
	return r, ok
}

func TestImports(t *testing.T) {
	unknown := map[string]bool{}
	for _, f := range goFiles(t) {
		r, ok := ruleOf(f.pkg)
		if !ok {
			unknown[f.pkg] = true
			continue
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, ok := strings.CutPrefix(imported, module); ok {
				if !f.test && !slices.Contains(strings.Fields(r.ours), ours) {
					t.Errorf("%s imports %s, which package %s may not know", f.name, ours, f.pkg)
				}
				continue
			}
			allowed := r.theirs
			if f.test {
				allowed += " " + testModules
			}
			if thirdParty(imported) && !slices.ContainsFunc(strings.Fields(allowed), func(m string) bool { return within(imported, m) }) {
				t.Errorf("%s imports %s, which package %s may not know", f.name, imported, f.pkg)
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(unknown)) {
		t.Errorf("package %s is not in the table of imports_test.go", pkg)
	}
}

// A library that one package hides can be replaced there.
func TestEachLibraryHasOnePackage(t *testing.T) {
	at := map[string]string{}
	for _, pkg := range slices.Sorted(maps.Keys(rules())) {
		for _, m := range strings.Fields(rules()[pkg].theirs) {
			if first := at[m]; first != "" {
				t.Errorf("both %s and %s may import %s", first, pkg, m)
			}
			at[m] = pkg
		}
	}
}

// What others import must not change when a library does.
func TestNoForeignTypesInExportedSignatures(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.Name.Name == "main" {
			continue
		}
		foreign := map[string]string{} // by the name that the file uses
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if !thirdParty(imported) || strings.HasPrefix(imported, module) || strings.HasPrefix(imported, "pgregory.net/rapid") {
				continue
			}
			if spec.Name != nil {
				foreign[spec.Name.Name] = imported
			}
			for p := imported; p != "."; p = path.Dir(p) { // the name may be any element, as before /v2
				foreign[path.Base(p)] = imported
			}
		}
		for _, decl := range f.Decls {
			for name, typ := range exported(decl) {
				ast.Inspect(typ, func(n ast.Node) bool {
					if sel, ok := n.(*ast.SelectorExpr); ok {
						if id, ok := sel.X.(*ast.Ident); ok && foreign[id.Name] != "" {
							t.Errorf("%s: %s shows a type of %s", f.name, name, foreign[id.Name])
						}
					}
					return true
				})
			}
		}
	}
}

// The disk in memory is for tests: a gateway that stored on it would lose everything.
func TestTheSimulatedDiskIsForTests(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.name == "gateway/store/pebble/disk.go" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && (id.Name == "NewDisk" || id.Name == "Disk" && f.imports(module+"gateway/store/pebble")) {
				t.Errorf("%s uses %s of the store, which is for tests only", f.name, id.Name)
			}
			return true
		})
	}
}

func (f goFile) imports(pkg string) bool {
	return slices.ContainsFunc(f.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == strconv.Quote(pkg) })
}

// exported yields the names that a declaration exports, with what of their
// types others see.
func exported(decl ast.Decl) map[string]ast.Node {
	seen := map[string]ast.Node{}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv.List[0].Type)) {
			seen[d.Name.Name] = d.Type
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			s, ok := spec.(*ast.TypeSpec)
			if !ok || !s.Name.IsExported() {
				continue
			}
			structure, ok := s.Type.(*ast.StructType)
			if !ok {
				seen[s.Name.Name] = s.Type
				continue
			}
			for _, field := range structure.Fields.List {
				if len(field.Names) == 0 {
					seen[s.Name.Name] = field.Type
				}
				for _, name := range field.Names {
					if name.IsExported() {
						seen[s.Name.Name+"."+name.Name] = field.Type
					}
				}
			}
		}
	}
	return seen
}

func exportedReceiver(typ ast.Expr) bool {
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// thirdParty says whether an import path is outside the standard library.
func thirdParty(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".")
}

func within(imported, m string) bool { return imported == m || strings.HasPrefix(imported, m+"/") }
