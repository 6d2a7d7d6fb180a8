// Command tributary is the protocol gateway and the tools around it. The table of
// its commands is here, and each word that begins one has a file of its name: run.go,
// app.go with "app create" and the like. They share cli.go, which reads command lines,
// terminal.go, client.go, which asks the admin API, entries.go and setting.go, which
// manage what the registry holds, and vectors.go, which tests a plugin. Nobody can
// import the package; it alone imports server, and it alone ends the process.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// commands is the table of subcommands, in the order of the help.
func commands() []command {
	return slices.Concat(
		[]command{runCommand(), checkCommand(), tailCommand()},
		applications().commands(),
		devices().commands(),
		users().commands(),
		keyCommands(),
		tokenCommands(),
		connectionCommands(),
		groupCommands(),
		[]command{hashPasswordCommand()},
		pluginCommands(),
		[]command{benchCommand(), versionCommand()},
	)
}

func main() {
	// The first signal ends ctx and lets the command finish its work; the second
	// meets the default action and ends the process at once.
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup would have it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], &terminal{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Environ()}))
}
