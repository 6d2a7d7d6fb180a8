package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"tributary.io/gateway/bench"
	"tributary.io/gateway/listener/mqtt/packet"
)

func benchCommand() command {
	return command{
		name:    "bench",
		summary: "put load on an MQTT server and measure it",
		help: `
Connects devices that publish, consumers that read, or connections that idle, and
reports rates and latencies. It speaks plain MQTT, so any broker can be measured with
the same load. The server must be on this machine unless --allow-remote is given: a
load generator can take a service down.

--topic, --consume, --payload and --username are templates: {n} is the number of the
client, {client} its client id; in the payload also {seq}, {unix}, {unixms}, and
{stamp}, by which this run's consumers recognise its messages and measure their time.

Examples:
  tributary bench
  tributary bench --publishers 100 --duration 30s --payload '{"celsius":21.5,"id":"{stamp}"}'
  tributary bench --rate 1000 --subscribers 2 --consume '$share/bench/app/demo'
  tributary bench --publishers 0 --idle 5000 --duration 1m
`,
		setup: func(flags *flag.FlagSet) func(context.Context, *terminal, []string) error {
			o := benchOptions{cfg: bench.Default()}
			o.declare(flags)
			return func(ctx context.Context, t *terminal, args []string) error {
				if err := noArgs(args); err != nil {
					return err
				}
				return o.bench(ctx, t)
			}
		},
	}
}

type benchOptions struct {
	cfg                   bench.Config
	version, passwordFile string
	qos                   uint
	json                  bool
}

func (o *benchOptions) declare(flags *flag.FlagSet) {
	c := &o.cfg
	flags.StringVar(&c.Address, "address", c.Address, "`address` of the server's MQTT listener")
	flags.StringVar(&o.version, "version", "5", "MQTT `version`: 3.1.1 or 5")
	flags.IntVar(&c.Publishers, "publishers", c.Publishers, "`number` of devices that publish")
	flags.IntVar(&c.Window, "window", c.Window, "`number` of messages that each has in flight")
	flags.UintVar(&o.qos, "qos", uint(c.QoS), "quality of service `level`: 0, 1 or 2")
	flags.StringVar(&c.Topic, "topic", "bench", "`topic` that devices publish to")
	flags.StringVar(&c.Payload, "payload", "", "`text` that they send; @<file> reads a file (default: --payload-bytes of text)")
	flags.IntVar(&c.PayloadLen, "payload-bytes", c.PayloadLen, "`size` of the payload when --payload is not given")
	flags.IntVar(&c.Rate, "rate", 0, "`messages` per second of all together (default: as fast as acknowledgements allow)")
	flags.IntVar(&c.Messages, "messages", 0, "`number` of messages of all together (default: until --duration is over)")
	flags.DurationVar(&c.Duration, "duration", c.Duration, "`time` after which the load ends at the latest")
	flags.IntVar(&c.Subscribers, "subscribers", 0, "`number` of consumers")
	flags.StringVar(&c.ConsumeFilter, "consume", "",
		"topic `filter` that they subscribe to (default: the topic of the device with their number)")
	flags.IntVar(&c.Idle, "idle", 0, "`number` of connections that do nothing")
	flags.StringVar(&c.Username, "username", "", "user `name`, such as device-{n}@plant")
	flags.StringVar(&o.passwordFile, "password-file", "", "`file` whose first line is the password; - is standard input")
	flags.StringVar(&c.ClientIDPrefix, "client-id", c.ClientIDPrefix, "`prefix` of the client ids; -<number> follows")
	flags.DurationVar(&c.ConnectTimeout, "connect-timeout", c.ConnectTimeout, "`time` that a connection may take")
	flags.DurationVar(&c.Drain, "drain", c.Drain, "`time` to wait at the end for what is under way")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON, and no progress")
	flags.BoolVar(&c.AllowRemote, "allow-remote", false, "allow a server on another machine; it must be yours")
}

func (o *benchOptions) bench(ctx context.Context, t *terminal) error {
	versions := map[string]byte{"3.1.1": packet.V311, "4": packet.V311, "5": packet.V5, "5.0": packet.V5}
	o.cfg.Version = versions[o.version]
	if o.cfg.Version == 0 {
		return usageError(fmt.Sprintf("--version is %q; it must be 3.1.1 or 5", o.version))
	}
	if o.qos > 2 {
		return usageError(fmt.Sprintf("--qos is %d; it must be 0, 1 or 2", o.qos))
	}
	o.cfg.QoS = byte(o.qos)
	if name, ok := strings.CutPrefix(o.cfg.Payload, "@"); ok {
		content, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("reading the payload: %w", err)
		}
		o.cfg.Payload = string(content)
	}
	if o.passwordFile != "" {
		password, err := passwordFrom(ctx, t, o.passwordFile, "Password: ")
		if err != nil {
			return err
		}
		o.cfg.Password = string(password)
	}
	if err := o.cfg.Validate(); err != nil {
		return usageError(err.Error())
	}
	progress := t.err
	if o.json {
		progress = io.Discard
	}
	report, err := bench.Run(ctx, o.cfg, progress)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if o.json {
		out := json.NewEncoder(t.out)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = report.WriteText(t.out)
	}
	if err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	if report.Errors > 0 {
		return fmt.Errorf("%s ended early; see the report", count(report.Errors, "client"))
	}
	return nil
}
