package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func timeout() <-chan time.Time { return time.After(patience) }

// output compares what was printed with what the page shows. JSON that is no
// output must be JSON.
func (p *page) output(b *block, terminals []*terminal) {
	p.t.Helper()
	if len(terminals) == 0 {
		if b.language == "json" && !json.Valid([]byte(b.text)) {
			p.fail(b, "this is no JSON")
		}
		return
	}
	matches := matchText
	if b.language == "json" {
		matches = matchJSON
	}
	want, late := p.neutral(b.text), timeout()
	for {
		var got string
		for _, s := range terminals {
			ended := s.over()
			if got = p.neutral(s.String()); matches(want, got, ended) {
				return
			}
			script := s.cmd.Args[len(s.cmd.Args)-1]
			switch {
			case ended && strings.HasPrefix(script, "curl "): // a metric may come a moment later
				terminals = []*terminal{p.spawn(b, script)}
			case ended:
				p.fail(b, "it printed\n%s\nand the page shows\n%s", got, want)
			}
		}
		select {
		case <-late:
			p.fail(b, "it printed\n%s\nand the page shows\n%s", got, want)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// differing is what may differ between two runs.
var differing = []struct {
	pattern *regexp.Regexp
	neutral string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "<digest>"},
	{regexp.MustCompile(`auto-[0-9A-Fa-f-]+`), "<client>"},
	{regexp.MustCompile(`\$argon2id\$v=19\$m=19456,t=2,p=1\$\S+`), "<hash>"},
	{regexp.MustCompile(`\d+\.\d MiB`), "<size>"},
	{regexp.MustCompile(`\btr[ak]_[0-9A-Za-z]{32}\b`), "<secret>"},
}

// neutral replaces what may differ, and the addresses that this gateway has.
func (p *page) neutral(text string) string {
	if p.gateway != nil {
		text = strings.NewReplacer(p.gateway.address["admin"], "127.0.0.1:8080", p.gateway.address["mqtt.tcp"], "127.0.0.1:1883").Replace(text)
	}
	for _, d := range differing {
		text = d.pattern.ReplaceAllString(text, d.neutral)
	}
	return text
}

// matchText compares whole outputs, and looks for a part in one that goes on.
func matchText(want, got string, ended bool) bool {
	if got != "" && !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	expr := &strings.Builder{}
	for line := range strings.Lines(want) {
		if line == "…\n" {
			expr.WriteString(`(?:.*\n)*`)
			continue
		}
		expr.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	if ended {
		return regexp.MustCompile(`^` + expr.String() + `$`).MatchString(got)
	}
	return regexp.MustCompile(`(?m)^` + expr.String()).MatchString(got)
}

// matchJSON looks for a line, or a whole output, that is equal JSON.
func matchJSON(want, got string, _ bool) bool {
	var expected any
	if json.Unmarshal([]byte(want), &expected) != nil {
		return false
	}
	for _, text := range append(strings.Split(got, "\n"), got) {
		var v any
		if json.Unmarshal([]byte(text), &v) == nil && equalJSON(expected, v) {
			return true
		}
	}
	return false
}

func equalJSON(want, got any) bool {
	switch w := want.(type) {
	case string:
		g, ok := got.(string)
		return ok && (w == g || w == "…")
	case map[string]any:
		g, ok := got.(map[string]any)
		for name := range w {
			ok = ok && equalJSON(w[name], g[name])
		}
		return ok && len(w) == len(g)
	case []any:
		g, ok := got.([]any)
		ok = ok && len(w) == len(g)
		for i := range w {
			ok = ok && equalJSON(w[i], g[i])
		}
		return ok
	}
	return reflect.DeepEqual(want, got)
}

// source compares a whole program with the example that it is.
func (p *page) source(b *block) {
	if !strings.HasPrefix(b.text, "package main\n") {
		return
	}
	examples, err := filepath.Glob(filepath.Join(p.root, "examples/*/main.go"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range examples {
		if text, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(text), "\n"+b.text) {
			return
		}
	}
	p.fail(b, "this program is no example; it may have changed there")
}

// metrics compares the metrics that a page names with those that there are, and
// has the page for operators name all.
func (p *page) metrics() {
	res, err := http.Get("http://" + p.gateway.address["admin"] + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	there, stages := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (tributary_([a-z]+)_\w+)`).FindAllSubmatch(body, -1) {
		there[string(m[1])], stages[string(m[2])] = true, true
	}
	named := regexp.MustCompile(`\btributary_[a-z]+_\w+`).FindAllString(p.text, -1)
	for _, name := range named {
		if stage, _, _ := strings.Cut(strings.TrimPrefix(name, "tributary_"), "_"); stages[stage] && !there[name] {
			p.t.Errorf("there is no metric %s", name)
		}
	}
	for name := range there {
		if p.name == "docs/operations.md" && !slices.Contains(named, name) {
			p.t.Errorf("the page does not name the metric %s", name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// checkLinks finds links within the repository that lead nowhere.
func checkLinks(t *testing.T, page, text string) {
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		to, err := url.Parse(m[1])
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		if to.IsAbs() || to.Path == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), to.Path)); err != nil {
			t.Errorf("the link to %s leads nowhere", m[1])
		}
	}
}

// terminal is a running block with what it printed.
type terminal struct {
	cmd     *exec.Cmd
	ended   chan struct{} // closed at its end
	failed  bool          // then: its exit status is not 0
	address map[string]string

	mu  sync.Mutex
	out bytes.Buffer
}

func (s *terminal) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

// over says whether the block has ended; what it printed is then complete.
func (s *terminal) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *terminal) raw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.String()
}

// chatter is what mosquitto_sub prints because it was told to.
var chatter = regexp.MustCompile(`(?m)^(Client \S+ (sending|received) (CONNECT|CONNACK|SUB|PUB|PING).*|Subscribed \(mid.*)\n`)

// String is what the terminal shows.
func (s *terminal) String() string {
	out := s.raw()
	if strings.Contains(strings.Join(s.cmd.Args, " "), "mosquitto_sub -d ") {
		out = chatter.ReplaceAllString(out, "")
	}
	return out
}

// end ends everything that the block started, and waits for that.
func (s *terminal) end(signal syscall.Signal) {
	syscall.Kill(-s.cmd.Process.Pid, signal)
	select {
	case <-s.ended:
	case <-timeout():
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.ended
	}
}
