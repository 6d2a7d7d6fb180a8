package storetest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tributary.io/gateway/store"
)

// childDir is the environment variable that makes Test the child of the kill
// test; it holds the directory of the store.
const childDir = "TRIBUTARY_STORETEST_CHILD"

const killCommitters = 4

func killLog(committer int) store.Log { return store.Events(fmt.Sprint("w", committer)) }

// testKill kills a process that commits, at random moments, and checks what the
// store has: every acknowledged record, in order, without a gap, and a state
// that agrees with the log, since they were one commit.
func testKill(t *testing.T, open Open) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	for round := range rounds {
		acked := killOnce(t, dir, 1+rand.IntN(1500))
		f := &fixture{TB: t, Store: open(t, dir)}
		total := uint64(0)
		for c := range killCommitters {
			checkKilled(f, c, acked[c])
			total += acked[c]
		}
		if err := f.Store.Close(); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d records acknowledged in all, none lost", round, total)
	}
}

// killOnce runs the child until it acknowledged n commits, kills it, and
// returns how many records each committer's log must have.
func killOnce(t *testing.T, dir string, n int) (acked [killCommitters]uint64) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	root, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(os.Args[0], "-test.run=^"+regexp.QuoteMeta(root)+"$")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.ExtraFiles = []*os.File{w}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	in := bufio.NewReader(r)
	got := 0
	for ; ; got++ {
		var ack [9]byte
		if _, err := readFull(in, ack[:]); err != nil {
			break
		}
		acked[ack[0]] = binary.BigEndian.Uint64(ack[1:]) + 1
		if got == n {
			cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by itself after %d commits: %v\n%s", got, err, out.String())
	}
	return acked
}

func readFull(r *bufio.Reader, b []byte) (int, error) {
	for i := range b {
		c, err := r.ReadByte()
		if err != nil {
			return i, err
		}
		b[i] = c
	}
	return len(b), nil
}

func checkKilled(f *fixture, committer int, acked uint64) {
	f.Helper()
	got := f.records(killLog(committer), 0, 1<<30)
	if uint64(len(got)) < acked {
		f.Fatalf("committer %d: %d records of %d that were acknowledged", committer, len(got), acked)
	}
	for i, r := range got {
		if want := killRecord(committer, uint64(i)); r != want {
			f.Fatalf("committer %d: record %d is %.40q", committer, i, r)
		}
	}
	if len(got) > 0 {
		f.has(state(fmt.Sprint("w", committer)), fmt.Sprint(len(got)))
	}
}

func killRecord(committer int, n uint64) string {
	return fmt.Sprintf("%d/%d %s", committer, n, strings.Repeat("x", int(n*37%600)))
}

// runChild commits until it is killed and writes what is durable to file 3.
func runChild(t *testing.T, open Open, dir string) {
	acks := os.NewFile(3, "acks")
	s := open(t, dir)
	var wg sync.WaitGroup
	for c := range killCommitters {
		_, next, err := s.Bounds(killLog(c))
		if err != nil {
			t.Fatal(err)
		}
		window := make(chan struct{}, 32)
		wg.Go(func() {
			for n := next; ; n++ {
				window <- struct{}{}
				b := &store.Batch{
					Appends: []store.Append{{Log: killLog(c), Record: []byte(killRecord(c, n))}},
					Puts:    []store.Put{{Key: state(fmt.Sprint("w", c)), Value: fmt.Append(nil, n+1)}},
				}
				err := s.Commit(b, func(err error) {
					if err != nil {
						t.Errorf("done: %v", err)
						os.Exit(1)
					}
					acks.Write(binary.BigEndian.AppendUint64([]byte{byte(c)}, b.Appends[0].Offset))
					<-window
				})
				if err != nil {
					t.Errorf("commit: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
