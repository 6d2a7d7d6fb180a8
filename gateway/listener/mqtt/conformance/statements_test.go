package conformance

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the names of the checks into testdata/statements-*.tsv")

// check looks at statements, by number and version.
type check struct {
	name string
	v3   string // numbers of MQTT 3.1.1, separated by spaces; none: the check is not for it
	v5   string // the same of MQTT 5.0
	run  func(*run)
}

func (c *check) numbers(version byte) []string {
	if version == 5 {
		return strings.Fields(c.v5)
	}
	return strings.Fields(c.v3)
}

// checks is all of them.
func checks() []check {
	return slices.Concat(formatChecks(), connectChecks(), sessionChecks(), publishChecks(), retainChecks(), qosChecks(), subscribeChecks(),
		propertyChecks(), authChecks(), webSocketChecks())
}

func TestStatements(t *testing.T) {
	s := serve(t)
	t.Run("", func(t *testing.T) { // ends when its parallel tests have
		for _, c := range checks() {
			for _, v := range []byte{4, 5} {
				if len(c.numbers(v)) == 0 {
					continue
				}
				name := map[byte]string{4: "3.1.1/", 5: "5.0/"}[v] + strings.ReplaceAll(c.name, " ", "-")
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					c.run(newRun(t, s, v))
				})
			}
		}
	})
}

// A statement that a server can violate has a check, and a check names statements
// that exist.
func TestEveryStatementIsCovered(t *testing.T) {
	for version, file := range map[byte]string{4: "statements-3.1.1.tsv", 5: "statements-5.0.tsv"} {
		file = filepath.Join("testdata", file)
		by := map[string][]string{}
		for _, c := range checks() {
			for _, n := range c.numbers(version) {
				by[n] = append(by[n], c.name)
			}
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
		seen := map[string]bool{}
		for i, line := range lines[1:] {
			cells := strings.Split(line, "\t")
			if len(cells) != 4 {
				t.Fatalf("%s:%d: %d columns", file, i+2, len(cells))
			}
			number, who, names := cells[0], cells[1], by[cells[0]]
			if seen[number] {
				t.Errorf("%s:%d: %s again", file, i+2, number)
			}
			seen[number] = true
			reason := strings.HasPrefix(cells[3], "unseen: ")
			switch {
			case !slices.Contains([]string{"server", "client", "both", "neither"}, who):
				t.Errorf("%s:%d: nobody is called %q", file, i+2, who)
			case len(names) == 0 && (who == "server" || who == "both") && !reason:
				t.Errorf("%s:%d: [MQTT-%s] has no check", file, i+2, number)
			case len(names) > 0:
				want := strings.Join(names, "; ")
				if *update {
					lines[i+1] = strings.Join([]string{number, who, cells[2], want}, "\t")
				} else if cells[3] != want {
					t.Errorf("%s:%d: the checks are %q, not %q; go test -update writes them", file, i+2, want, cells[3])
				}
			}
		}
		for n, names := range by {
			if !seen[n] {
				t.Errorf("%s: there is no [MQTT-%s], which %q names", file, n, names)
			}
		}
		if *update {
			if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
