package mqtt

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// The memory of an idle connection with one subscription, of the server alone:
// the clients are in another process, which is this test binary again.
func TestIdleMemory(t *testing.T) {
	if addr := os.Getenv("TRIBUTARY_IDLE_SERVER"); addr != "" {
		idleClients(t, addr)
		return
	}
	if testing.Short() || raceEnabled {
		t.Skip("the race detector's memory is not the server's")
	}
	const n = 5000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < n+100 {
		t.Skipf("the limit of open files is %d; left out", files.Cur)
	}
	f := start(t, nil, nil)
	before := residentKB(t)
	cmd := exec.Command(os.Args[0], "-test.run", "TestIdleMemory", "-test.v")
	cmd.Env = append(os.Environ(), "TRIBUTARY_IDLE_SERVER="+f.addr)
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		return f.counted("subscriptions") == 5000
	})
	per := float64(residentKB(t)-before) / n
	hold.Close()
	cmd.Wait()
	t.Logf("%.1f KB per connection", per)
	if per > 12 {
		t.Errorf("an idle connection takes %.1f KB of resident memory, more than 12", per)
	}
}

func idleClients(t *testing.T, addr string) {
	for i := range 5000 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		wire := (&packet.Connect{Version: 5, CleanStart: true, ClientID: fmt.Sprint("idle", i)}).Append(nil, 5)
		wire = (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: fmt.Sprint("idle/", i), QoS: 1}}}).Append(wire, 5)
		defer nc.Close()
		nc.Write(wire)
		// One after the other: a server lets in only so many that wait for a CONNACK.
		if _, err := nc.Read(make([]byte, 64)); err != nil {
			t.Fatalf("connection %d: no CONNACK: %v", i, err)
		}
	}
	io.ReadAll(os.Stdin)
}

func residentKB(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kb
}
