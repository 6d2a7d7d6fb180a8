package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tributary.io/gateway/registry"
)

// tokenCommands manage admin tokens.
func tokenCommands() []command {
	return []command{tokenCreateCommand(), tokenListCommand(), tokenDeleteCommand()}
}

func tokenCreateCommand() command {
	cmd := apiCommand("token create", "<name>", "make a token for the admin API", `
Makes a token for the admin API. The roles are reader (see everything but
payloads), operator (also devices and their credentials, connections, groups) and
admin (everything). A token for some applications sees only those. Standard output
is the token alone.

With --print-config nothing is asked of a gateway: a token is made here, and with
it the lines for gateway.toml, which hold its hash.

Examples:
  tributary token create ci --role operator --application plant --expires 90d
  tributary token create ops --role admin --print-config
`, nil)
	cmd.setup = func(fs *flag.FlagSet) func(context.Context, *terminal, []string) error {
		var o clientOptions
		o.declare(fs)
		role := fs.String("role", "reader", "`role`: reader, operator or admin")
		printConfig := fs.Bool("print-config", false, "print lines for gateway.toml; no gateway is needed")
		given := declare(fs, []setting{
			{"application", "applications", many, "`application` that it is for; may be repeated (default: all)"},
			{"expires", "expires", momentAhead, "when it ends: a `time`, or a duration from now such as 90d (default: never)"},
		})
		return func(ctx context.Context, t *terminal, args []string) error {
			name, err := oneArg(args, "the token's name")
			if err != nil {
				return err
			}
			body := given()
			if *printConfig {
				return printToken(t, name, *role, body)
			}
			c, err := o.client(t)
			if err != nil {
				return err
			}
			body["name"], body["role"] = name, *role
			var made object
			if _, err := c.call(ctx, http.MethodPost, apiPath("tokens"), body, &made); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(made)
			}
			fmt.Fprintf(t.err, "token %s is there. It is shown this once:\n", printable(name))
			_, err = fmt.Fprintln(t.out, made["secret"])
			return err
		}
	}
	return cmd
}

// printToken makes a token for gateway.toml.
func printToken(t *terminal, name, role string, body object) error {
	if body["expires"] != nil {
		return usageError("a token of gateway.toml does not expire; leave out --expires")
	}
	secret, hash, _ := registry.NewToken()
	applications, _ := body["applications"].([]string)
	declared := registry.Token{Hash: hash, Role: role, Applications: applications}
	if err := (registry.Config{Tokens: map[string]registry.Token{name: declared}}).Validate(); err != nil {
		return usageError(err.Error())
	}
	fmt.Fprintln(t.err, "Keep the first line, and put the others into gateway.toml:")
	fmt.Fprintf(t.out, "%s\n\n[tokens.%s]\nhash = %q\nrole = %q\n", secret, name, hash, role)
	if len(applications) > 0 {
		fmt.Fprintf(t.out, "applications = [\"%s\"]\n", strings.Join(applications, `", "`))
	}
	return nil
}

func tokenListCommand() command {
	return apiCommand("token list", "", "list the tokens of the admin API", `
Lists the tokens of the admin API, without what is secret about them.

Examples:
  tributary token list
`, func(*flag.FlagSet) func(context.Context, *client, []string) error {
		return func(ctx context.Context, c *client, _ []string) error {
			all, err := c.all(ctx, apiPath("tokens"), url.Values{"limit": {"1000"}})
			if err != nil {
				return err
			}
			return c.list(all, member("TOKEN", "name"), member("ROLE", "role"), member("APPLICATIONS", "applications"),
				member("ENDS WITH", "lastFour"), member("EXPIRES", "expires"), member("LAST USED", "lastUsed"), fromColumn())
		}
	})
}

func tokenDeleteCommand() command {
	return apiCommand("token delete", "<name>", "revoke a token of the admin API", `
Revokes a token of the admin API at once, when that is confirmed.

Examples:
  tributary token delete ci
  tributary token delete ci --yes
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		var sure consent
		sure.declare(fs)
		return func(ctx context.Context, c *client, args []string) error {
			var now object
			if !sure.given {
				if _, err := c.call(ctx, http.MethodGet, apiPath("tokens", args[0]), nil, &now); err != nil {
					return err
				}
			}
			if err := sure.ask(ctx, c.t, fmt.Sprintf("the token %s with the role %s", printable(args[0]), show(now["role"]))); err != nil {
				return err
			}
			if _, err := c.call(ctx, http.MethodDelete, apiPath("tokens", args[0]), nil, nil); err != nil {
				return err
			}
			return c.done(nil, "token %s is revoked", printable(args[0]))
		}
	})
}
