package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// tmpfs mounts a small file system until the test ends.
func tmpfs(t *testing.T, size int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: only root can mount the small file system that is to be filled")
	}
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+strconv.Itoa(size), "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("LEFT OUT: no small file system can be mounted here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// The disk fills under load: what cannot be stored is not acknowledged, the
// process neither crashes nor spoils what it has, and goes on after a restart
// with space.
func TestDiskFull(t *testing.T) {
	dir := tmpfs(t, 48<<20)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startIn(t, dir, demo("", ""), "--set", "store.memtable_bytes=1MiB", "--set", "store.max_pending_bytes=256KiB",
		"--set", "listeners.mqtt.tcp.linger=100ms")
	f := newFleet(4, 16)
	for _, p := range f {
		p.extra = 8 << 10
	}
	for rounds, idle := 0, 0; idle < 3; rounds++ {
		before := f.acked()
		stop := make(chan struct{})
		timer := time.AfterFunc(patience, func() { close(stop) })
		f.publish(t, g.mqtt, stop)()
		if !timer.Stop() && f.acked() == before {
			t.Error("events are neither acknowledged nor is the connection closed")
		}
		if t.Failed() {
			t.Fatalf("%s", g.out.tail())
		}
		if f.acked() == before {
			idle++
		}
		if rounds > 1000 {
			t.Fatal("the disk does not fill")
		}
	}
	t.Logf("%d events were acknowledged before the disk was full", f.acked())
	if status, _ := g.get("/healthz"); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	if status, body := g.get("/readyz"); status != 503 || !strings.Contains(body, "no space left") {
		t.Errorf("a gateway that stores nothing is ready: %d %s", status, body)
	}
	c := g.v5("late")
	c.send(&packet.Publish{Topic: "late", QoS: 1, ID: 1, Payload: []byte("x")})
	if p, err := c.read(); err == nil {
		if ack, ok := p.(*packet.Ack); ok && ack.Code < 0x80 {
			t.Error("an event was acknowledged on a full disk")
		}
	}
	g.stop() // its status says what it wants: it could not close in order

	// A start without space may fail or not, but spoils nothing.
	if err := g.try(); err == nil {
		if p := (&numbered{device: "still-full", window: 1}); p.publish(g.mqtt, nil) != nil {
			t.Error("a strange answer on a full disk")
		}
	} else if said := g.out.tail(); !strings.Contains(said, "no space left") || strings.Contains(said, "backup") {
		t.Errorf("without space: %v; the log misleads:\n%s", err, said)
	}
	if g.cmd != nil {
		g.kill()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	g.run()
	f.verify(t, g.events())
	before := f.acked()
	stop := make(chan struct{})
	wait := f.publish(t, g.mqtt, stop)
	eventually(t, "it stores again", func() bool {
		n, _ := g.metric("tributary_router_emitted_total")
		return n > 100
	})
	close(stop)
	wait()
	if f.acked() == before {
		t.Error("nothing is acknowledged after the restart")
	}
	f.verify(t, g.events())
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
