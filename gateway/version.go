package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

func versionCommand() command {
	return command{
		name:    "version",
		summary: "print which gateway this is",
		help: `
Prints the version, the commit that it was built from, and the Go version.

Examples:
  tributary version
`,
		setup: func(*flag.FlagSet) func(context.Context, *terminal, []string) error {
			return func(_ context.Context, t *terminal, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				version, commit := "unknown", ""
				if info, ok := debug.ReadBuildInfo(); ok {
					version = info.Main.Version
					values := map[string]string{}
					for _, s := range info.Settings {
						values[s.Key] = s.Value
					}
					if commit = values["vcs.revision"]; commit != "" {
						commit = " commit " + commit + " of " + values["vcs.time"]
					}
					if values["vcs.modified"] == "true" {
						commit += " with changes"
					}
				}
				fmt.Fprintf(t.out, "tributary %s%s, %s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return nil
			}
		},
	}
}
