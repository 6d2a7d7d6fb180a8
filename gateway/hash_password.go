package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"

	"tributary.io/gateway/registry"
)

func hashPasswordCommand() command {
	return command{
		name:    "hash-password",
		summary: "hash a password for gateway.toml",
		help: `
Reads a password, from the terminal without showing it or else the first line of
standard input, and prints the hash that password_hashes in gateway.toml takes. It
takes no password as an argument, since others on the machine can see those.

Examples:
  tributary hash-password
  openssl rand -base64 24 | tee api-key.txt | tributary hash-password
`,
		setup: func(*flag.FlagSet) func(context.Context, *terminal, []string) error {
			return func(ctx context.Context, t *terminal, args []string) error {
				if len(args) > 0 {
					return usageError("a password is read from standard input, never from the command line")
				}
				password, err := readPassword(ctx, t, "Password: ")
				if err != nil {
					return err
				}
				if t.keyboard() != nil {
					again, err := readPassword(ctx, t, "Again: ")
					if err != nil {
						return err
					}
					if !bytes.Equal(password, again) {
						return errors.New("the two differ; try again")
					}
				}
				hash, err := registry.Hash(password)
				if err != nil {
					return err
				}
				fmt.Fprintln(t.out, hash)
				return nil
			}
		},
	}
}
