package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// client talks to the admin API of a running gateway. It knows the API by its
// JSON alone, as other programs do.
type client struct {
	t    *terminal
	base string
	http *http.Client

	token     string
	tokenFrom string // where the token came from, for errors
	json      bool   // print JSON
}

// apiCommand is a command that uses the admin API.
func apiCommand(name, args, summary, help string, setup func(fs *flag.FlagSet) func(ctx context.Context, c *client,
	args []string) error) command {
	return command{name: name, args: args, summary: summary, help: help, setup: func(fs *flag.FlagSet) func(context.Context, *terminal,
		[]string) error {
		var o clientOptions
		o.declare(fs)
		do := setup(fs)
		return func(ctx context.Context, t *terminal, left []string) error {
			if want := len(strings.Fields(args)); len(left) != want {
				return usageError(fmt.Sprintf("%d arguments are given; it takes: %s", len(left), strings.TrimSpace(name+" "+args)))
			}
			if slices.Contains(left, "") {
				return usageError("an argument is empty; it takes: " + strings.TrimSpace(name+" "+args))
			}
			c, err := o.client(t)
			if err != nil {
				return err
			}
			return do(ctx, c, left)
		}
	}}
}

// clientOptions are the options of every command that uses the admin API.
type clientOptions struct{ url, tokenFile, ca, output string }

const (
	defaultURL       = "http://127.0.0.1:8080"
	defaultTokenFile = "data/admin.token"
)

func (o *clientOptions) declare(fs *flag.FlagSet) {
	fs.StringVar(&o.url, "url", "", "`address` of the gateway's admin endpoint\n(default $TRIBUTARY_URL, else "+defaultURL+")")
	fs.StringVar(&o.tokenFile, "token-file", "",
		"`file` with the token, where $TRIBUTARY_TOKEN is not set\n(default $TRIBUTARY_TOKEN_FILE, else "+defaultTokenFile+")")
	fs.StringVar(&o.ca, "ca", "", "`file` with the PEM certificates that the gateway's is checked with\n(default: those of this machine)")
	fs.StringVar(&o.output, "output", "table", "`form` of the output: table or json")
}

func (o *clientOptions) client(t *terminal) (*client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment} // one time limit is enough, and tells what is slow
	c := &client{t: t, json: o.output == "json", http: &http.Client{Timeout: 30 * time.Second, Transport: transport, CheckRedirect: stay}}
	if o.output != "json" && o.output != "table" {
		return nil, usageError(fmt.Sprintf("--output is %q; it must be table or json", o.output))
	}
	c.base = strings.TrimSuffix(first(o.url, t.variable("TRIBUTARY_URL"), defaultURL), "/")
	if u, err := url.Parse(c.base); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usageError(fmt.Sprintf("--url is %q; it must be such as %s", c.base, defaultURL))
	}
	if c.token, c.tokenFrom = t.variable("TRIBUTARY_TOKEN"), "$TRIBUTARY_TOKEN"; c.token == "" || o.tokenFile != "" {
		c.tokenFrom = first(o.tokenFile, t.variable("TRIBUTARY_TOKEN_FILE"), defaultTokenFile)
		content, err := os.ReadFile(c.tokenFrom)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w; the gateway leaves one in its admin.token_file (below --data-dir where that is "+
				"given), which only its owner can read: name that file with --token-file, or set TRIBUTARY_TOKEN", err)
		}
		c.token = strings.TrimSpace(string(content))
	}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, fmt.Errorf("reading --ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", o.ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return c, nil
}

// stay follows no redirect: the gateway sends none, so it would lead to something
// else than what was asked about, which must not be changed, nor see the token.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

// variable returns an environment variable.
func (t *terminal) variable(name string) (value string) {
	for _, v := range t.env {
		if after, ok := strings.CutPrefix(v, name+"="); ok {
			value = after
		}
	}
	return value
}

// object is a JSON object.
type object = map[string]any

// apiError is an answer of the API that says what is wrong.
type apiError struct {
	Status int
	Detail string
	Field  string
}

func (e *apiError) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Detail
	}
	return e.Detail
}

// apiPath makes a path of the API. Each part is one part of the path whatever it
// holds, also where it is a dot or two, which escaping leaves as they are and which
// would lead to another path.
func apiPath(parts ...string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		if escaped[i] = url.PathEscape(p); p == "." || p == ".." {
			escaped[i] = strings.ReplaceAll(p, ".", "%2E")
		}
	}
	return "/api/v1/" + strings.Join(escaped, "/")
}

// call makes one request. answer may be nil. It returns the entity tag.
func (c *client) call(ctx context.Context, method, path string, body, answer any, headers ...string) (tag string, err error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return "", fmt.Errorf("writing the request: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return "", fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking the gateway: %w; is it running, and is --url (or $TRIBUTARY_URL) its admin.address?", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return "", fmt.Errorf("reading the gateway's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return "", c.refusal(resp, text)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			return "", fmt.Errorf("reading the gateway's answer: %w; is --url its admin.address?", err)
		}
	}
	return resp.Header.Get("ETag"), nil
}

func (c *client) refusal(resp *http.Response, text []byte) error {
	problem := &apiError{Status: resp.StatusCode}
	if json.Unmarshal(text, problem) != nil || problem.Detail == "" {
		problem.Detail = fmt.Sprintf("%s answers %s; is --url the gateway's admin.address?", c.base, resp.Status)
		if elsewhere := resp.Header.Get("Location"); elsewhere != "" {
			problem.Detail = fmt.Sprintf("%s answers %s and sends to %s, which is not followed; name the gateway itself with --url", c.base,
				resp.Status, elsewhere)
		}
	}
	problem.Status, problem.Detail = resp.StatusCode, printable(problem.Detail)
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		problem.Detail += "; the token came from " + c.tokenFrom +
			". One from admin.token_file ends with its gateway: name the file of the gateway that runs with --token-file"
	case http.StatusForbidden:
		problem.Detail += "; the token came from " + c.tokenFrom
	}
	return problem
}

// all fetches every page of a list.
func (c *client) all(ctx context.Context, path string, query url.Values) ([]object, error) {
	items := []object{}
	for {
		var page struct {
			Items []object
			Next  string
		}
		if _, err := c.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		query.Set("after", page.Next)
	}
}

// edit changes members of an entry, and again where somebody else changed it in
// between.
func (c *client) edit(ctx context.Context, path string, changes object) (object, error) {
	for tries := 0; ; tries++ {
		var entry, now object
		tag, err := c.call(ctx, http.MethodGet, path, nil, &entry)
		if err != nil {
			return nil, err
		}
		for name, value := range changes {
			entry[name] = value
		}
		_, err = c.call(ctx, http.MethodPut, path, entry, &now, "If-Match", tag)
		var problem *apiError
		if errors.As(err, &problem) && problem.Status == http.StatusPreconditionFailed && tries < 5 {
			continue
		}
		return now, err
	}
}

// column is a column of a table: its head, and what stands in it.
type column struct {
	head string
	cell func(entry object) string
}

// member is a column that shows a member as it is.
func member(head, name string) column {
	return column{head, func(entry object) string { return show(entry[name]) }}
}

// list prints entries.
func (c *client) list(entries []object, columns ...column) error {
	if c.json {
		return c.printJSON(entries)
	}
	w := tabwriter.NewWriter(c.t.out, 0, 8, 2, ' ', 0)
	for i, col := range columns {
		end := "\t"
		if i == len(columns)-1 {
			end = "\n"
		}
		fmt.Fprint(w, col.head, end)
	}
	for _, entry := range entries {
		for i, col := range columns {
			end := "\t"
			if i == len(columns)-1 {
				end = "\n"
			}
			fmt.Fprint(w, first(col.cell(entry), "-"), end)
		}
	}
	return w.Flush()
}

// show prints an entry, a member a line.
func (c *client) show(entry object) error {
	if c.json {
		return c.printJSON(entry)
	}
	w := tabwriter.NewWriter(c.t.out, 0, 8, 2, ' ', 0)
	for _, name := range sortedKeys(entry) {
		fmt.Fprintf(w, "%s\t%s\n", name, first(show(entry[name]), "-"))
	}
	return w.Flush()
}

// done prints what a command did, or what it was answered as JSON.
func (c *client) done(answer any, format string, args ...any) error {
	if c.json && answer != nil {
		return c.printJSON(answer)
	}
	if c.json {
		return nil
	}
	_, err := fmt.Fprintf(c.t.out, format+"\n", args...)
	return err
}

func (c *client) printJSON(v any) error {
	e := json.NewEncoder(c.t.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// show writes a JSON value for people.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case bool:
		if v {
			return "yes"
		}
		return ""
	case float64:
		return fmt.Sprintf("%.0f", v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			if o, ok := item.(object); ok {
				parts[i] = printable(strings.TrimSpace(fmt.Sprint(o["kind"], " ", first(show(o["label"]), show(o["id"])))))
				continue
			}
			parts[i] = show(item)
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(v)
}
