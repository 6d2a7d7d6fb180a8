package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a terminal: what is typed into keyboard is read from screen.
func pty(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there is no terminal to be had: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skipf("there is no terminal to be had: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// What is typed as a password is not shown, and what follows is.
func TestPasswordIsNotShown(t *testing.T) {
	keyboard, screen := pty(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var errs bytes.Buffer
	type result struct {
		password []byte
		err      error
	}
	prompted, done := make(chan struct{}), make(chan result)
	ask := func() {
		password, err := readPassword(ctx, &terminal{in: screen, err: io.MultiWriter(&errs, told(prompted))}, "Password: ")
		done <- result{password, err}
	}
	echoes := func() bool {
		state, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return state.Lflag&unix.ECHO != 0
	}
	go ask()
	<-prompted
	for echoes() { // until it reads
		runtime.Gosched()
	}
	fmt.Fprintln(keyboard, "open sesame")
	if r := <-done; string(r.password) != "open sesame" || r.err != nil || errs.String() != "Password: \n" {
		t.Errorf("%q, %v after %q", r.password, r.err, &errs)
	}
	if !echoes() {
		t.Error("the terminal stays blind")
	}
	go ask()
	<-prompted
	for echoes() {
		runtime.Gosched()
	}
	interrupt()
	if r := <-done; r.err == nil || !echoes() {
		t.Errorf("after an interrupt: %v; what is typed is shown: %v", r.err, echoes())
	}
}

// told tells of each write that is no end of a line.
type told chan struct{}

func (s told) Write(p []byte) (int, error) {
	if string(p) != "\n" {
		s <- struct{}{}
	}
	return len(p), nil
}

func TestConfirm(t *testing.T) {
	for answer, yes := range map[string]bool{"y": true, "YES": true, "": false, "n": false, "no": false, "yes please": false} {
		keyboard, screen := pty(t)
		fmt.Fprintln(keyboard, answer)
		var errs bytes.Buffer
		err := (&consent{}).ask(t.Context(), &terminal{in: screen, err: &errs}, "the device d")
		if (err == nil) != yes || !strings.Contains(errs.String(), "This deletes the device d.\nGo on? [y/N] ") {
			t.Errorf("%q: %v, after %s", answer, err, &errs)
		}
	}
}
