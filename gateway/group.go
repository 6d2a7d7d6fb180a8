package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// groupCommands show consumer groups and forget them.
func groupCommands() []command { return []command{groupListCommand(), groupDeleteCommand()} }

func groupListCommand() command {
	return apiCommand("group list", "<application>", "list consumer groups and how far behind they are", `
Lists the consumer groups of an application with their positions: s.<group> is a
shared one, c.<...> that of one client.

Examples:
  tributary group list plant
`, func(*flag.FlagSet) func(context.Context, *client, []string) error {
		return func(ctx context.Context, c *client, args []string) error {
			all, err := c.all(ctx, apiPath("applications", args[0], "groups"), url.Values{})
			if err != nil {
				return err
			}
			return c.list(all, member("GROUP", "name"), member("QUARANTINE", "quarantine"), member("POSITION", "position"), member("LAG", "lag"),
				member("MEMBERS", "members"), member("IN FLIGHT", "inFlight"))
		}
	})
}

func groupDeleteCommand() command {
	return apiCommand("group delete", "<application> <group>", "forget a consumer group and its position", `
Forgets a consumer group that nobody is connected to, when that is confirmed. When
it comes back it is a new one, and begins at the end of the log.

Examples:
  tributary group delete plant s.billing
  tributary group delete plant s.billing --yes
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		var sure consent
		sure.declare(fs)
		quarantine := fs.Bool("quarantine", false, "the group reads the quarantine")
		return func(ctx context.Context, c *client, args []string) error {
			if err := sure.ask(ctx, c.t, fmt.Sprintf("the group %s of application %s with its position", printable(args[1]),
				printable(args[0]))); err != nil {
				return err
			}
			target := apiPath("applications", args[0], "groups", args[1]) + "?quarantine=" + strconv.FormatBool(*quarantine)
			if _, err := c.call(ctx, http.MethodDelete, target, nil, nil); err != nil {
				return err
			}
			return c.done(nil, "group %s is forgotten", printable(args[1]))
		}
	})
}
