package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/store"
)

// cabinet is a configuration with the plugin that keeps files for application demo.
func cabinet(t testing.TB) string {
	return `
[plugins.cabinet]
path = "` + wasm("cabinet") + `"
[plugins.cabinet.grant]
emit = ["test.cabinet"]
file_bytes = "8MiB"
uploads = ["/files/#"]
[[routes]]
application = "demo"
plugin = "cabinet"
[applications.demo]
anonymous = true
[users.ak_test]
password_hashes = ["` + hashed(t, "sk_test") + `"]
read = ["demo"]
write = ["demo"]
[listeners.http.rest]
address = "127.0.0.1:0"
application = "demo"
auth = ["password"]
[files]
max_upload_bytes = "6MiB"
`
}

// onDisk counts the files of plugins in the data directory, and their bytes.
func (g *gateway) onDisk() (n int, size int64) {
	g.t.Helper()
	paths, err := filepath.Glob(filepath.Join(g.dir, "files", "*", "*"))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			n, size = n+1, size+info.Size()
		}
	}
	return n, size
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// A body larger than any event goes to disk and comes back, whole and in ranges; over
// kill -9, too; and nothing is left on disk that nobody keeps.
func TestFiles(t *testing.T) {
	g := start(t, cabinet(t))
	const large = 5 << 20
	one, two := random(large), random(1000)
	if status, answer, err := g.rest("POST", "/files/a", one); status != 201 || err != nil {
		t.Fatal(status, string(answer), err)
	}
	g.kill()
	g.run()
	fetch := func(method, rang string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+g.out.address("http.rest")+"/files/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ak_test", "sk_test")
		if rang != "" {
			req.Header.Set("Range", rang)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	if resp, body := fetch("GET", ""); resp.StatusCode != 200 || !bytes.Equal(body, one) || resp.Header.Get("Content-Type") != "text/x-test" {
		t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
	}
	if resp, body := fetch("GET", "bytes=10-19"); resp.StatusCode != 206 || !bytes.Equal(body, one[10:20]) {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(body))
	}
	if status, answer, err := g.rest("PATCH", "/files/a", two); status != 201 || err != nil {
		t.Fatal(status, string(answer), err)
	}
	if resp, body := fetch("GET", fmt.Sprintf("bytes=%d-", large-5)); resp.StatusCode != 206 ||
		!bytes.Equal(body, append(one[large-5:len(one):len(one)], two...)) {
		t.Errorf("across the seam: %d, %d bytes", resp.StatusCode, len(body))
	}
	if n, size := g.onDisk(); n != 2 || size != large+1000 {
		t.Errorf("%d files with %d bytes", n, size)
	}
	for _, c := range []struct {
		method, path string
		size, status int
	}{
		{"POST", "/files/never", 1000, 201},    // not kept
		{"POST", "/files/b", 7 << 20, 413},     // too long for an upload
		{"POST", "/files/b", 4 << 20, 429},     // beyond the plugin's grant: 5 of 8 MiB are taken
		{"POST", "/files/b", 0, 411},           // nothing
		{"POST", "/elsewhere", 2 << 20, 413},   // no path of uploads
		{"GET", "/files/b", 0, 404},            // never was
		{"POST", "/files/a", 2 << 20, 201},     // in place of the old
		{"POST", "/files/b", 4 << 20, 201},     // now there is room
		{"DELETE", "/files/b", 0, 201},         //
		{"GET", "/files/b", 0, 404},            // gone
		{"POST", "/files/c?ttl=1s", 1000, 201}, // vanishes by itself
	} {
		if status, answer, err := g.rest(c.method, c.path, random(c.size)); status != c.status || err != nil {
			t.Errorf("%s %s of %d bytes: %d %s %v, want %d", c.method, c.path, c.size, status, answer, err, c.status)
		}
	}
	eventually(t, "the dropped files to go", func() bool { _, size := g.onDisk(); return size <= 2<<20+1000 })
	time.Sleep(1100 * time.Millisecond) // the record of c expires
	g.restart()
	if n, size := g.onDisk(); n != 1 || size != 2<<20 {
		t.Errorf("after the restart there are %d files with %d bytes", n, size)
	}
	if status, answer, err := g.rest("DELETE", "/files/a", nil); status != 201 || err != nil {
		t.Fatal(status, string(answer), err)
	}
	eventually(t, "the last file to go", func() bool { n, _ := g.onDisk(); return n == 0 })
}

// A multipart form's file is taken out of it; its fields are the event's data.
func TestFileForm(t *testing.T) {
	g := start(t, cabinet(t))
	content := random(3000)
	form := func(files int) (string, *bytes.Buffer) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		w.WriteField("kind", "crash")
		for range files {
			f, _ := w.CreateFormFile("file", "dump.bin")
			f.Write(content)
		}
		w.Close()
		return w.FormDataContentType(), &b
	}
	for files, want := range []int{400, 201, 400} {
		kind, body := form(files)
		req, err := http.NewRequest("POST", "http://"+g.out.address("http.rest")+"/files/form", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		req.SetBasicAuth("ak_test", "sk_test")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d files: %d %s, want %d", files, resp.StatusCode, answer, want)
		}
	}
	digest := sha256.Sum256(content)
	want := hex.EncodeToString(digest[:]) + " dump.bin application/octet-stream {\"kind\":\"crash\"}"
	var got []string
	g.stop()
	for _, e := range g.stored(store.Events("demo")) {
		got = append(got, string(e.Data))
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, "\n"), want)
	}
	if n, size := g.onDisk(); n != 1 || size != 3000 {
		t.Errorf("%d files with %d bytes", n, size)
	}
}
