package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// connectionCommands show and end connections.
func connectionCommands() []command {
	return []command{connectionListCommand(), connectionKickCommand()}
}

func connectionListCommand() command {
	return apiCommand("connection list", "", "list connections and kept sessions", `
Lists who is connected, and the sessions that are kept for clients that are away.

Examples:
  tributary connection list
  tributary connection list --application plant --online true
  tributary connection list --principal user:alice
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		filters := map[string]*string{
			"application": fs.String("application", "", "only of this `application`"),
			"device":      fs.String("device", "", "only of this `device`"),
			"clientId":    fs.String("client-id", "", "only with this client `id`"),
			"principal":   fs.String("principal", "", "only of this `principal`, as the list shows it"),
			"online":      fs.String("online", "", "`true`: connected ones; false: kept sessions without a connection"),
		}
		return func(ctx context.Context, c *client, _ []string) error {
			query := url.Values{"limit": {"1000"}}
			for name, value := range filters {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			all, err := c.all(ctx, apiPath("connections"), query)
			if err != nil {
				return err
			}
			return c.list(all, member("NAMESPACE", "namespace"), member("CLIENT ID", "clientId"), member("PRINCIPAL", "principal"),
				member("METHOD", "method"),
				member("PROTOCOL", "protocol"), member("ONLINE", "online"), member("PEER", "peer"), member("SINCE", "since"), member("QUEUED",
					"queuedMessages"))
		}
	})
}

func connectionKickCommand() command {
	return apiCommand("connection kick", "<namespace> <client-id>", "end a connection", `
Ends a connection, which "connection list" shows. Nothing keeps the client from
connecting again: see "device disable" and "key delete" for that. --forget is to
be confirmed.

Examples:
  tributary connection kick plant pump-1
  tributary connection kick user:alice laptop --forget --yes
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		var sure consent
		sure.declare(fs)
		forget := fs.Bool("forget", false, "end its session, too, with what waits in it")
		return func(ctx context.Context, c *client, args []string) error {
			if *forget {
				if err := sure.ask(ctx, c.t, fmt.Sprintf("the session of %s in %s with what waits in it", printable(args[1]),
					printable(args[0]))); err != nil {
					return err
				}
			}
			if _, err := c.call(ctx, http.MethodDelete, apiPath("connections", args[0], args[1])+"?forget="+strconv.FormatBool(*forget), nil,
				nil); err != nil {
				return err
			}
			return c.done(nil, "%s is disconnected", printable(args[1]))
		}
	})
}
