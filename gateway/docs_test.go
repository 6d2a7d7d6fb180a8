package main

import (
	"bytes"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tributary.io/gateway/config"
)

// Every package says in its comment what its job is.
func TestPackageComments(t *testing.T) {
	comments, names := map[string]string{}, map[string]string{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		names[f.pkg] = f.Name.Name
		if f.Doc != nil {
			if comments[f.pkg] != "" {
				t.Errorf("%s: the package has a second comment here", f.name)
			}
			comments[f.pkg] = f.Doc.Text()
		}
	}
	for pkg, name := range names {
		begin := "Package " + name + " "
		if name == "main" {
			begin = "Command "
		}
		if c := comments[pkg]; !strings.HasPrefix(c, begin) || len(c) < 80 {
			t.Errorf("%s: the package comment must begin with %q and say what the package is for: %q", pkg, begin, c)
		}
	}
}

// Long files hide their structure; hidden control flow hides everything.
func TestHouseRules(t *testing.T) {
	for _, f := range goFiles(t) {
		content, err := os.ReadFile(filepath.Join("..", f.name))
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(content, []byte("\n")); lines > 800 {
			t.Errorf("%s has %d lines; 800 is the most", f.name, lines)
		}
		if f.test {
			continue
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init() runs behind the reader's back; call what it does", f.name)
			}
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch fn := call.Fun.(type) {
			case *ast.Ident:
				// A host function can only end a guest's call by a panic, which wazero recovers.
				if fn.Name == "panic" && f.pkg != "gateway/plugin" {
					t.Errorf("%s: panic; return an error", f.name)
				}
			case *ast.SelectorExpr:
				pkg, _ := fn.X.(*ast.Ident)
				if pkg == nil {
					return true
				}
				what := pkg.Name + "." + fn.Sel.Name
				// which tests
				exits := f.name == "gateway/main.go" || strings.HasPrefix(f.name, "examples/") && strings.HasSuffix(f.name, "/main.go") ||
					f.pkg == "gateway/store/storetest"
				if what == "os.Exit" && !exits || strings.HasPrefix(what, "log.Fatal") || strings.HasPrefix(what, "log.Panic") {
					t.Errorf("%s: %s; only main.go ends the process", f.name, what)
				}
			}
			return true
		})
	}
}

// Who looks for a command finds it in the file of its first word.
func TestEachCommandHasItsFile(t *testing.T) {
	for _, cmd := range commands() {
		word, _, _ := strings.Cut(cmd.name, " ")
		if file := strings.ReplaceAll(word, "-", "_") + ".go"; !exists(file) {
			t.Errorf("%s: there is no %s", cmd.name, file)
		}
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// gateway.toml shows every setting of the bundled plugin that it has, at its default or
// with the default beside it, as its manifest has it, and so does the plugin's README.
func TestSettingsOfTheReference(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	m, err := config.ParseManifest("plugin.toml", []byte(read("../plugins/drogue/plugin.toml")))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(read("../gateway.toml"), "[plugins.drogue.settings]\n")
	section, _, _ = strings.Cut(section, "\n\n")
	readme := read("../plugins/drogue/README.md")
	there := regexp.MustCompile(`(?m)((?:^# .*\n)*)^(#?)(\w+) = "(.*)"$`).FindAllStringSubmatch(section, -1)
	if len(there) != len(m.Settings) {
		t.Errorf("gateway.toml shows %d settings, the plugin has %d", len(there), len(m.Settings))
	}
	for _, line := range there {
		comment, example, name, value := line[1], line[2] != "", line[3], line[4]
		s, known := m.Settings[name]
		told := strings.Contains(comment, "Default: "+first(s.Default, "none")+".")
		if !known || (example || value != s.Default) && !told {
			t.Errorf("gateway.toml shows %s = %q; the plugin's default is %q", name, value, s.Default)
		}
		if !strings.Contains(readme, "| `"+name+"` |") {
			t.Errorf("the plugin's README does not name %s", name)
		}
	}
}
