package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	inGoComment  = regexp.MustCompile(`\b((?:docs|examples|sdk-plugin|plugins|schemas)/[\w./-]+\.(?:md|toml|proto|json))\b`)
	ofNoDocument = regexp.MustCompile(`\bdesign (?:§|section)|\(design,`)
	notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchor is how a heading is linked to.
func anchor(heading string) string {
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-")
}

// Every link of a document leads to a file that is there, and to a heading that it has; and
// what comments call a document is one.
func TestReferences(t *testing.T) {
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
		switch filepath.Ext(name) {
		case ".md":
			checkLinks(t, name)
		case ".go":
			checkComments(t, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkLinks(t *testing.T, name string) {
	t.Helper()
	for _, link := range markdownLink.FindAllStringSubmatch(read(t, name), -1) {
		target, section, _ := strings.Cut(link[1], "#")
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		file := name
		if target != "" {
			file = filepath.Join(filepath.Dir(name), target)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s links to %s, which is not there", name, link[1])
			continue
		}
		if section != "" && !hasHeading(read(t, file), section) {
			t.Errorf("%s links to %s, which has no such heading", name, link[1])
		}
	}
}

func hasHeading(text, section string) bool {
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		if anchor(h[1]) == section {
			return true
		}
	}
	return false
}

func checkComments(t *testing.T, name string) {
	t.Helper()
	text := read(t, name)
	if m := ofNoDocument.FindString(text); m != "" && !strings.HasSuffix(name, "references_test.go") {
		t.Errorf("%s cites %q, which no document of this repository has", name, m)
	}
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "//") {
			continue
		}
		for _, m := range inGoComment.FindAllStringSubmatch(line, -1) {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("%s cites %s, which is not there", name, m[1])
			}
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
