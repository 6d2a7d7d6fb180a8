// Command tributary is the protocol gateway and the tools around it: one file
// per subcommand, the table of them here, what they share in cli.go. Nobody can
// import it; it alone imports server, and it alone ends the process.
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
		liveCommands(),
		[]command{hashPasswordCommand(), pluginBuildCommand(), pluginTestCommand(), benchCommand(), versionCommand()},
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
