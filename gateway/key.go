package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
)

// keyCommands manage the credentials of devices and users.
func keyCommands() []command {
	return []command{keyCreateCommand(), keyListCommand(), keyDeleteCommand(), keyRotateCommand()}
}

const holderArg = "<login>"

// holder is the path of the device or user that logs in by a name, or of what is
// below it.
func holder(login string, below ...string) string {
	if at := strings.LastIndexByte(login, '@'); at >= 0 {
		return apiPath(append([]string{"applications", login[at+1:], "devices", login[:at]}, below...)...)
	}
	return apiPath(append([]string{"users", login}, below...)...)
}

// newCredential are the options that describe a new credential.
type newCredential struct {
	kind, label, passwordFile, certificate string
	made                                   func() object
}

func (n *newCredential) declare(fs *flag.FlagSet) {
	fs.StringVar(&n.label, "label", "", "`text` that tells it from others")
	n.made = declare(fs, []setting{{"expires", "expires", momentAhead,
		"when it ends: a `time`, or a duration from now such as 90d (default: never)"}})
}

// body is the request for the credential.
func (n *newCredential) body(ctx context.Context, t *terminal) (object, error) {
	body := n.made()
	body["kind"] = n.kind
	if n.label != "" {
		body["label"] = n.label
	}
	if n.passwordFile != "" {
		password, err := passwordFrom(ctx, t, n.passwordFile, "Password: ")
		if err != nil {
			return nil, err
		}
		body["password"] = string(password)
	}
	if n.certificate != "" {
		pem, err := os.ReadFile(n.certificate)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
		body["kind"], body["certificate"] = "certificate", string(pem)
	}
	return body, nil
}

// give gives a holder a credential and prints it.
func (c *client) give(ctx context.Context, login string, body object) error {
	var made object
	if _, err := c.call(ctx, http.MethodPost, holder(login, "credentials"), body, &made); err != nil {
		return err
	}
	secret, shown := made["secret"].(string)
	if !shown || c.json {
		return c.done(made, "%s has the %s %s", printable(login), show(made["kind"]), show(made["id"]))
	}
	fmt.Fprintf(c.t.err, "%s has the %s %s. It is shown this once:\n", printable(login), show(made["kind"]), show(made["id"]))
	_, err := fmt.Fprintln(c.t.out, secret)
	return err
}

func keyCreateCommand() command {
	return apiCommand("key create", holderArg, "give a device or user a key, password or certificate", `
Gives the device or user that logs in by this name (<device>@<application>, or a
user's name) a credential: an API key, which the gateway makes and which takes the
place of a password; a password, made or from --password-file; a password for
SCRAM-SHA-256; or a TLS client certificate. Standard output is the secret alone.

Examples:
  tributary key create pump-1@plant
  tributary key create alice --label laptop --expires 90d
  tributary key create pump-1@plant --kind password --password-file password.txt
  tributary key create pump-1@plant --certificate pump-1.pem
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		var n newCredential
		n.declare(fs)
		fs.StringVar(&n.kind, "kind", "key", "`kind`: key, password or scram-sha-256")
		fs.StringVar(&n.passwordFile, "password-file", "", "`file` whose first line is the password; - is standard input\n(default: one is made)")
		fs.StringVar(&n.certificate, "certificate", "", "PEM `file` of a client certificate")
		return func(ctx context.Context, c *client, args []string) error {
			body, err := n.body(ctx, c.t)
			if err != nil {
				return err
			}
			return c.give(ctx, args[0], body)
		}
	})
}

// credentials are those of a holder.
func (c *client) credentials(ctx context.Context, login string) ([]object, error) {
	var entry struct{ Credentials []object }
	_, err := c.call(ctx, http.MethodGet, holder(login), nil, &entry)
	return append([]object{}, entry.Credentials...), err
}

func keyListCommand() command {
	return apiCommand("key list", holderArg, "list the credentials of a device or user", `
Lists the credentials of the device or user that logs in by this name, without
what is secret about them.

Examples:
  tributary key list pump-1@plant
`, func(*flag.FlagSet) func(context.Context, *client, []string) error {
		return func(ctx context.Context, c *client, args []string) error {
			list, err := c.credentials(ctx, args[0])
			if err != nil {
				return err
			}
			return c.list(list, member("ID", "id"), member("KIND", "kind"), member("LABEL", "label"), member("ENDS WITH", "lastFour"),
				member("SUBJECT", "subject"), member("CREATED", "created"), member("EXPIRES", "expires"))
		}
	})
}

func keyDeleteCommand() command {
	return apiCommand("key delete", holderArg+" <id>", "revoke a credential, and end the connections that it opened", `
Revokes a credential, once it is confirmed. Connections that it opened end.

Examples:
  tributary key delete pump-1@plant 8sPbGyT0aWmK
  tributary key delete pump-1@plant 8sPbGyT0aWmK --yes
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		var sure consent
		sure.declare(fs)
		return func(ctx context.Context, c *client, args []string) error {
			if err := c.confirmKey(ctx, &sure, args[0], args[1]); err != nil {
				return err
			}
			if _, err := c.call(ctx, http.MethodDelete, holder(args[0], "credentials", args[1]), nil, nil); err != nil {
				return err
			}
			return c.done(nil, "%s of %s is revoked", printable(args[1]), printable(args[0]))
		}
	})
}

// confirmKey asks before a credential is deleted.
func (c *client) confirmKey(ctx context.Context, sure *consent, login, id string) error {
	if sure.given {
		return nil
	}
	list, err := c.credentials(ctx, login)
	if err != nil {
		return err
	}
	for _, have := range list {
		if have["id"] == id {
			return sure.ask(ctx, c.t, strings.TrimSpace(fmt.Sprintf("the %s %s of %s %s", show(have["kind"]), printable(id), printable(login),
				show(have["label"])))+
				" and ends the connections that it opened")
		}
	}
	return noCredential(id)
}

func noCredential(id string) error {
	return &apiError{Status: http.StatusNotFound, Detail: "there is no credential " + printable(id)}
}

func keyRotateCommand() command {
	return apiCommand("key rotate", holderArg+" <id>", "give a holder a new key in place of one", `
Makes a new API key, prints it, and then revokes the old one: connections that the
old one opened end, so have the new one in place before, with "key create" and
"key delete", where that must not be.

Examples:
  tributary key rotate pump-1@plant 8sPbGyT0aWmK
`, func(fs *flag.FlagSet) func(context.Context, *client, []string) error {
		var n newCredential
		n.declare(fs)
		return func(ctx context.Context, c *client, args []string) error {
			list, err := c.credentials(ctx, args[0])
			if err != nil {
				return err
			}
			for _, old := range list {
				if old["id"] != args[1] {
					continue
				}
				if n.kind = show(old["kind"]); n.kind == "certificate" {
					return fmt.Errorf("%s is a certificate, which the gateway cannot make; use key create --certificate", printable(args[1]))
				}
				if n.label == "" {
					n.label = show(old["label"])
				}
				if n.kind == "scram-sha-256" { // there can be one only
					return fmt.Errorf("%s is the only credential for SCRAM; use key delete and key create", printable(args[1]))
				}
				body, err := n.body(ctx, c.t)
				if err != nil {
					return err
				}
				if err := c.give(ctx, args[0], body); err != nil {
					return err
				}
				_, err = c.call(ctx, http.MethodDelete, holder(args[0], "credentials", args[1]), nil, nil)
				return err
			}
			return noCredential(args[1])
		}
	})
}
