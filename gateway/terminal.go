package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminal is what a command talks to.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	env      []string // "NAME=value"
}

// keyboard is standard input where somebody types it, else nil.
func (t *terminal) keyboard() *os.File {
	if f, ok := t.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// passwordFrom reads a password from the first line of a file; "" and "-" stand
// for standard input.
func passwordFrom(ctx context.Context, t *terminal, file, prompt string) ([]byte, error) {
	from := *t
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		defer f.Close()
		from.in = f
	}
	return readPassword(ctx, &from, prompt)
}

// readPassword reads a line: from a terminal after the prompt and without
// showing it, else from whatever standard input is.
func readPassword(ctx context.Context, t *terminal, prompt string) ([]byte, error) {
	read := t.readLine
	if keyboard := t.keyboard(); keyboard != nil {
		fmt.Fprint(t.err, prompt)
		fd := int(keyboard.Fd())
		shown, err := term.GetState(fd)
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		defer func() {
			term.Restore(fd, shown) // also where reading it was broken off
			fmt.Fprintln(t.err)
		}()
		read = func() (string, error) {
			line, err := term.ReadPassword(fd)
			return string(line), err
		}
	}
	line, err := interruptible(ctx, "the password", read)
	if err != nil {
		return nil, err
	}
	return []byte(line), nil
}

// readLine reads a line without its end, and nothing behind it. The last one need
// not have an end.
func (t *terminal) readLine() (string, error) {
	line, err := bufio.NewReader(oneByte{t.in}).ReadString('\n')
	if err == io.EOF {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// interruptible ends with ctx, too, which a read from a terminal does not; what it
// reads is for errors.
func interruptible(ctx context.Context, what string, read func() (string, error)) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.New("interrupted")
	case r := <-done:
		if r.err != nil {
			return "", fmt.Errorf("reading %s: %w", what, r.err)
		}
		return r.line, nil
	}
}

// oneByte keeps a reader from reading beyond the line that is wanted.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

// consent is what a command needs before it destroys something: a yes on the
// terminal, or the option --yes.
type consent struct{ given bool }

func (g *consent) declare(fs *flag.FlagSet) {
	fs.BoolVar(&g.given, "yes", false, "do not ask; needed where nobody can be asked, as in a script")
}

// ask says what will be gone and returns nil after a yes. Where standard input is no
// terminal, only --yes is one.
func (g *consent) ask(ctx context.Context, t *terminal, what string) error {
	if g.given {
		return nil
	}
	if t.keyboard() == nil {
		return usageError("this deletes " + what + "; standard input is no terminal to confirm it on, so say --yes")
	}
	fmt.Fprintf(t.err, "This deletes %s.\nGo on? [y/N] ", what)
	answer, err := interruptible(ctx, "the answer", t.readLine)
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was deleted")
}
