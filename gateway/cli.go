package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// command is one subcommand. setup declares its options and returns what runs
// it with the arguments that are left; ctx ends at the first signal.
type command struct {
	name    string // one word, or two
	args    string // its arguments, for the usage line
	summary string // one line, for the list of commands
	help    string // what it does, with examples
	setup   func(fs *flag.FlagSet) func(ctx context.Context, t *terminal, args []string) error
}

// usageError says that a command line is wrong; the exit status is 2.
type usageError string

func (e usageError) Error() string { return string(e) }

// The exit statuses.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitNotFound // the gateway has no such thing
)

// run runs a command line and returns the exit status.
func run(ctx context.Context, args []string, t *terminal) int {
	if len(args) == 0 { // whoever asks nothing does not know what to ask
		printCommands(t.err)
		return exitUsage
	}
	cmd, rest, err := choose(args)
	switch {
	case err == nil && cmd == nil:
		printCommands(t.out)
	case err == nil:
		err = cmd.run(ctx, t, rest)
	}
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		name := ""
		if cmd != nil {
			name = " " + cmd.name
		}
		fmt.Fprintf(t.err, "tributary%s: %v\nTry: tributary%s --help\n", name, err, name)
		return exitUsage
	}
	fmt.Fprintf(t.err, "tributary %s: %v\n", cmd.name, err)
	var answered *apiError
	if errors.As(err, &answered) && answered.Status == http.StatusNotFound {
		return exitNotFound
	}
	return exitFailed
}

// choose finds the command that args, of which there are some, begin with; none
// stands for the list of all commands.
func choose(args []string) (*command, []string, error) {
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:len(args):len(args)], "--help")
	}
	if asksHelp(args[0]) {
		return nil, nil, nil
	}
	var group []command
	for _, cmd := range commands() {
		words := strings.Fields(cmd.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == cmd.name {
			return &cmd, args[len(words):], nil
		}
		if words[0] == args[0] {
			group = append(group, cmd)
		}
	}
	if group != nil {
		return chooseInGroup(args, group)
	}
	var names []string
	for _, cmd := range commands() {
		if word := strings.Fields(cmd.name)[0]; !slices.Contains(names, word) {
			names = append(names, word)
		}
	}
	return nil, nil, usageError(fmt.Sprintf("there is no command %q; the commands are %s", args[0], strings.Join(names, ", ")))
}

func asksHelp(arg string) bool { return arg == "--help" || arg == "-help" || arg == "-h" }

// chooseInGroup has the first word of commands of two words explain itself; with
// anything else but one of these it is an error.
func chooseInGroup(args []string, group []command) (*command, []string, error) {
	help, second := &strings.Builder{}, make([]string, len(group))
	help.WriteString("Commands:\n")
	for i, cmd := range group {
		second[i] = strings.Fields(cmd.name)[1]
		cmd.printSummary(help)
	}
	fmt.Fprintf(help, "\nEach command explains itself: tributary %s <command> --help\n", args[0])
	whole := &command{name: args[0], args: "<command> [options]", help: help.String(),
		setup: func(*flag.FlagSet) func(context.Context, *terminal, []string) error { return nil }}
	if len(args) > 1 && asksHelp(args[1]) {
		return whole, args[1:2], nil
	}
	return whole, nil, usageError("it needs one of: " + strings.Join(second, ", "))
}

func printCommands(w io.Writer) {
	fmt.Fprint(w, "Tributary is a protocol gateway between devices and the applications that use their data.\n\nUsage: tributary <command> "+
		"[options]\n\nCommands:\n")
	for _, cmd := range commands() {
		cmd.printSummary(w)
	}
	fmt.Fprint(w, "\nEach command explains itself: tributary <command> --help\n")
}

func (c *command) printSummary(w io.Writer) { fmt.Fprintf(w, "  %-18s %s\n", c.name, c.summary) }

// run parses the options, which may stand anywhere among the arguments.
func (c *command) run(ctx context.Context, t *terminal, args []string) error {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	do := c.setup(fs)
	var left []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.printHelp(t.out, fs)
			return nil
		}
		if err != nil {
			return usageError(strings.Replace(err.Error(), "flag provided but not defined: -", "there is no option --", 1))
		}
		if fs.NArg() == 0 {
			return do(ctx, t, left)
		}
		if rest := fs.Args(); len(rest) < len(args) && args[len(args)-len(rest)-1] == "--" {
			return do(ctx, t, append(left, rest...))
		}
		left, args = append(left, fs.Arg(0)), fs.Args()[1:]
	}
}

func (c *command) printHelp(w io.Writer, fs *flag.FlagSet) {
	usage := strings.TrimSpace(c.name + " " + c.args)
	options := &strings.Builder{}
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if value != "" {
			value = " <" + value + ">"
		}
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		fmt.Fprintf(options, "  %-26s %s", dashes+f.Name+value, strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 29)))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			fmt.Fprintf(options, " (default %s)", f.DefValue)
		}
		options.WriteByte('\n')
	})
	if options.Len() > 0 {
		usage += " [options]"
	}
	fmt.Fprintf(w, "Usage: tributary %s\n\n%s", usage, strings.TrimPrefix(c.help, "\n"))
	if options.Len() > 0 {
		fmt.Fprintf(w, "\nOptions:\n%s", options)
	}
}

// noArgs refuses arguments.
func noArgs(args []string) error {
	if len(args) > 0 {
		return usageError(fmt.Sprintf("there is an argument too many: %q", args[0]))
	}
	return nil
}

// oneArg returns the only argument, which is called what.
func oneArg(args []string, what string) (string, error) {
	if len(args) == 0 {
		return "", usageError(what + " is missing")
	}
	return args[0], noArgs(args[1:])
}
