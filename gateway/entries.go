package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// entries is a kind of entries of the registry: all of them are managed alike.
type entries struct {
	command, noun string
	article       string
	args          string // the names of an entry on a command line
	example       string // an entry's names
	inArgs        string // the names of what the entries are in; empty: nothing
	inExample     string
	path          func(args []string) string // of an entry, or of all with inArgs
	settings      []setting
	options       string // an example of options
	columns       []column
}

func fromColumn() column {
	return column{"FROM", func(e object) string {
		if e["fromFile"] == true {
			return "gateway.toml"
		}
		return ""
	}}
}

// days writes seconds as days where that is whole.
func days(v any) string {
	seconds, _ := v.(float64)
	switch d := time.Duration(seconds) * time.Second; {
	case d == 0:
		return "ever"
	case d%(24*time.Hour) == 0:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	default:
		return d.String()
	}
}

// size writes bytes with a unit where that is whole.
func size(v any) string {
	n, _ := v.(float64)
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && float64(int64(n/1024))*1024 == n && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	if n == 0 {
		return "any"
	}
	return fmt.Sprintf("%.0f%s", n, units[i])
}

// commands returns the commands that manage these entries.
func (e *entries) commands() []command {
	list := []command{e.create(), e.list(), e.show(), e.set()}
	if e.command != "app" {
		list = append(list, e.able("disable", "refuse its connections, and end those that are open", true),
			e.able("enable", "let it connect again", false))
	}
	return append(list, e.delete())
}

func (e *entries) one() string { return e.article + " " + e.noun }

func (e *entries) name(args []string) string { return printable(args[len(args)-1]) }

func (e *entries) create() command {
	help := fmt.Sprintf("\nMakes %s in the registry of a running gateway, and fails where there is one of\nthat name.\n\nExamples:\n  "+
		"tributary %s create %s\n  tributary %s create %s %s\n",
		e.one(), e.command, e.example, e.command, e.example, e.options)
	return apiCommand(e.command+" create", e.args, "make "+e.one(), help,
		func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
			given := declare(fs, e.settings)
			return func(ctx context.Context, c *client, args []string) error {
				var now object
				if _, err := c.call(ctx, http.MethodPut, e.path(args), given(), &now, "If-None-Match", "*"); err != nil {
					return err
				}
				c.warnUnheard(now)
				return c.done(now, "%s %s is there", e.noun, e.name(args))
			}
		})
}

// warnUnheard says so where nothing can come of what an application's devices publish.
func (c *client) warnUnheard(entry object) {
	if entry["routed"] == false && entry["messaging"] == false {
		fmt.Fprintf(c.t.err, "warning: no route in gateway.toml is for %s and messaging is off, so what its devices publish goes into its "+
			"quarantine\n", show(entry["name"]))
	}
}

func (e *entries) list() command {
	help := fmt.Sprintf("\nLists the %ss of a running gateway.\n\nExamples:\n  tributary %s list %s\n  tributary %s list %s --output json\n",
		e.noun, e.command, e.inExample, e.command, e.inExample)
	return apiCommand(e.command+" list", e.inArgs, "list "+e.noun+"s", help,
		func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
			head := ""
			if e.command != "app" {
				fs.StringVar(&head, "prefix", "", "only names that begin with this `text`")
			}
			return func(ctx context.Context, c *client, args []string) error {
				query := url.Values{"limit": {"1000"}}
				if head != "" {
					query.Set("prefix", head)
				}
				all, err := c.all(ctx, e.path(args), query)
				if err != nil {
					return err
				}
				return c.list(all, e.columns...)
			}
		})
}

func (e *entries) show() command {
	help := fmt.Sprintf("\nShows %s with all its settings.\n\nExamples:\n  tributary %s show %s\n", e.one(), e.command, e.example)
	return apiCommand(e.command+" show", e.args, "show "+e.one(), help, func(*flag.FlagSet) func(context.Context, *client, []string) error {
		return func(ctx context.Context, c *client, args []string) error {
			var now object
			if _, err := c.call(ctx, http.MethodGet, e.path(args), nil, &now); err != nil {
				return err
			}
			return c.show(now)
		}
	})
}

func (e *entries) set() command {
	help := fmt.Sprintf("\nChanges what the options name and leaves the rest. A list is replaced by what is\ngiven; --option= makes it "+
		"empty.\n\nExamples:\n  tributary %s set %s %s\n", e.command, e.example, e.options)
	return apiCommand(e.command+" set", e.args, "change "+e.one(), help, func(fs *flag.FlagSet) func(context.Context, *client,
		[]string) error {
		given := declare(fs, e.settings)
		return func(ctx context.Context, c *client, args []string) error {
			if err := needSettings(given(), e.settings); err != nil {
				return err
			}
			now, err := c.edit(ctx, e.path(args), given())
			if err != nil {
				return err
			}
			c.warnUnheard(now)
			return c.done(now, "%s %s is changed", e.noun, e.name(args))
		}
	})
}

func (e *entries) able(verb, what string, disabled bool) command {
	help := fmt.Sprintf("\nFrom now on: %s.\n\nExamples:\n  tributary %s %s %s\n", what, e.command, verb, e.example)
	return apiCommand(e.command+" "+verb, e.args, what, help, func(*flag.FlagSet) func(context.Context, *client, []string) error {
		return func(ctx context.Context, c *client, args []string) error {
			now, err := c.edit(ctx, e.path(args), object{"disabled": disabled})
			if err != nil {
				return err
			}
			return c.done(now, "%s %s is %sd", e.noun, e.name(args), verb)
		}
	})
}

func (e *entries) delete() command {
	help := fmt.Sprintf("\nDeletes %s with all that belongs to it, when that is confirmed.\n", e.one())
	if e.command == "app" {
		help += "Its devices go with it. Its log and quarantine stay as long as their retention\nsays, unless --purge is given.\n"
	}
	help += fmt.Sprintf("\nExamples:\n  tributary %s delete %s\n  tributary %s delete %s --yes\n", e.command, e.example, e.command, e.example)
	return apiCommand(e.command+" delete", e.args, "delete "+e.one(), help,
		func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
			var sure consent
			sure.declare(fs)
			purge := false
			if e.command == "app" {
				fs.BoolVar(&purge, "purge", false, "also delete its log, quarantine, state and groups")
			}
			return func(ctx context.Context, c *client, args []string) error {
				if err := e.confirm(ctx, c, &sure, args, purge); err != nil {
					return err
				}
				query := ""
				if purge {
					query = "?purge=true"
				}
				if _, err := c.call(ctx, http.MethodDelete, e.path(args)+query, nil, nil); err != nil {
					return err
				}
				return c.done(nil, "%s %s is deleted", e.noun, e.name(args))
			}
		})
}

// confirm asks before an entry is deleted, and says what goes with it.
func (e *entries) confirm(ctx context.Context, c *client, sure *consent, args []string, purge bool) error {
	if sure.given {
		return nil
	}
	var now object
	if _, err := c.call(ctx, http.MethodGet, e.path(args), nil, &now); err != nil {
		return err
	}
	what := e.noun + " " + e.name(args)
	switch credentials, _ := now["credentials"].([]any); {
	case now["name"] != args[len(args)-1]: // it was found by an alias
		return &apiError{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no %s; it is another name of %s", what, show(now["name"]))}
	case e.command == "app" && purge:
		what += fmt.Sprintf(" with its %s, its log, its quarantine, its state and its groups", count(whole(now["devices"]), "device"))
	case e.command == "app":
		what += fmt.Sprintf(" with its %s; its log and quarantine stay as long as their retention says", count(whole(now["devices"]), "device"))
	case e.command == "device":
		what += fmt.Sprintf(" of application %s with its %s", printable(args[0]), count(len(credentials), "credential"))
	default:
		what += " with its " + count(len(credentials), "credential")
	}
	return sure.ask(ctx, c.t, what)
}

// whole is a number of JSON, 0 where there is none.
func whole(v any) int {
	n, _ := v.(float64)
	return int(n)
}
