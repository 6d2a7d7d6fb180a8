package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// liveCommands show and change what runs: connections and consumer groups.
func liveCommands() []command {
	return []command{connectionListCommand(), connectionKickCommand(), groupListCommand(), groupDeleteCommand()}
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
			return c.list(all, member("NAMESPACE", "namespace"), member("CLIENT ID", "clientId"), member("PRINCIPAL", "principal"), member("METHOD", "method"),
				member("PROTOCOL", "protocol"), member("ONLINE", "online"), member("PEER", "peer"), member("SINCE", "since"), member("QUEUED", "queuedMessages"))
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
				if err := sure.ask(ctx, c.t, fmt.Sprintf("the session of %s in %s with what waits in it", printable(args[1]), printable(args[0]))); err != nil {
					return err
				}
			}
			if _, err := c.call(ctx, http.MethodDelete, apiPath("connections", args[0], args[1])+"?forget="+strconv.FormatBool(*forget), nil, nil); err != nil {
				return err
			}
			return c.done(nil, "%s is disconnected", printable(args[1]))
		}
	})
}

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
			if err := sure.ask(ctx, c.t, fmt.Sprintf("the group %s of application %s with its position", printable(args[1]), printable(args[0]))); err != nil {
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
