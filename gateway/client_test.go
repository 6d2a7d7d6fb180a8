package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The command line against an API that plays its part: two pages, an entry that
// somebody else changes in between, and a certificate of its own.
func TestAdminClient(t *testing.T) {
	puts := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/applications", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") == "" {
			io.WriteString(w, `{"items":[{"name":"a","devices":12345678,"retentionSeconds":604800,"retentionBytes":1073741824}],"next":"x"}`)
			return
		}
		io.WriteString(w, `{"items":[{"name":"b\u001b[2J","anonymous":true,"retentionSeconds":90,"fromFile":true}]}`)
	})
	mux.HandleFunc("GET /api/v1/applications/plant/devices/d", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"r`+string(rune('0'+puts))+`"`)
		io.WriteString(w, `{"name":"d","publish":["#"],"aliases":["old"],"messageRate":1}`)
	})
	mux.HandleFunc("PUT /api/v1/applications/plant/devices/d", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if puts++; puts == 1 {
			w.WriteHeader(http.StatusPreconditionFailed)
			io.WriteString(w, `{"detail":"changed meanwhile"}`)
			return
		}
		if r.Header.Get("If-Match") != `"r1"` {
			t.Errorf("If-Match %s", r.Header.Get("If-Match"))
		}
		w.Write(body)
	})
	mux.HandleFunc("GET /api/v1/users/alice", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer tra_x" {
			t.Errorf("Authorization %q", r.Header.Get("Authorization"))
		}
		io.WriteString(w, `{"credentials":[{"id":"c1","kind":"key","label":"laptop"}]}`)
	})
	mux.HandleFunc("PUT /api/v1/applications/{name}", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(object{"name": r.PathValue("name"), "routed": r.PathValue("name") == "routed",
			"messaging": r.PathValue("name") == "social"})
	})
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(token, []byte("tra_x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"TRIBUTARY_URL=" + server.URL, "TRIBUTARY_TOKEN_FILE=" + token}
	for _, tt := range []struct {
		line     string
		status   int
		out, err string // regular expressions
	}{
		{"app list --ca " + ca, 0, `(?s)^APPLICATION +DEVICES.*\na +12345678 +- +- +7d +1GiB +-\nb\\u001b\[2J +- +yes +- +1m30s +any +gateway.toml\n$`, ""},
		{"app list --output json --ca " + ca, 0, `(?s)^\[\n  \{.*"name": "a".*"name": "b`, ""},
		{"device set plant d --message-rate 5 --alias new --alias two --publish= --ca " + ca, 0, `^device d is changed\n$`, ""},
		{"key list alice --ca " + ca, 0, `ID +KIND +LABEL.*\nc1 +key +laptop`, ""},
		{"key rotate alice nope --ca " + ca, 3, "", "no credential nope"},
		{"user show bob --ca " + ca, 3, "", "404"},
		{"app create routed --ca " + ca, 0, `^application routed is there\n$`, "^$"},
		{"app create social --ca " + ca, 0, `^application social is there\n$`, "^$"},
		{"app create plant --ca " + ca, 0, `^application plant is there\n$`,
			"^warning: no route in gateway.toml is for plant and messaging is off, so what its devices publish goes into its quarantine\n$"},
		{"app list", 1, "", "certificate"},
		{"app list --ca " + token, 1, "", "no certificate in PEM"},
		{"app list --ca nope", 1, "", "open nope"},
		{"app list --url ftp://x", 2, "", "it must be such as"},
		{"app create a --retention-age soon", 2, "", "it must be a duration"},
		{"app create a --byte-rate many", 2, "", "it must be a number of bytes"},
		{"token create x --role root --print-config", 2, "", "use reader, operator or admin"},
		{"token create x --expires 1d --print-config", 2, "", "does not expire"},
		{"token create", 2, "", "the token's name is missing"},
	} {
		status, out, errs := tributary(t, t.Context(), "", env, strings.Fields(tt.line)...)
		if status != tt.status || !regexp.MustCompile(tt.out).MatchString(out) || !regexp.MustCompile(tt.err).MatchString(errs) {
			t.Errorf("%s: %d\n%s%s\nwant %d %s %s", tt.line, status, out, errs, tt.status, tt.out, tt.err)
		}
	}
	if puts != 2 {
		t.Errorf("%d writes, want one again after the conflict", puts)
	}
}

// What is destroyed is what was named: no part of a path leads to another one, no
// redirect is followed, and nothing happens without a yes.
func TestDestructiveCommands(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI)
		switch {
		case strings.HasPrefix(r.URL.Path, "/moved/"):
			w.Header().Set("Location", "/api/v1/applications/plant")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
			json.NewEncoder(w).Encode(object{"name": strings.Replace(name, "alias", "pump", 1), "devices": 3, "role": "reader",
				"credentials": []object{{"id": "..", "kind": "key", "label": "bench"}}})
		}
	}))
	defer server.Close()
	const nobody = "standard input is no terminal to confirm it on, so say --yes"
	for _, tt := range []struct {
		line, asked string
		status      int
		err         string
	}{
		{"device delete plant ..", "GET /api/v1/applications/plant/devices/%2E%2E", 2,
			"this deletes device .. of application plant with its 1 credential; " + nobody},
		{"device delete plant alias", "GET /api/v1/applications/plant/devices/alias", 3, "there is no device alias; it is another name of pump"},
		{"device delete plant .. --yes", "DELETE /api/v1/applications/plant/devices/%2E%2E", 0, ""},
		{"device delete plant . --yes", "DELETE /api/v1/applications/plant/devices/%2E", 0, ""},
		{"device delete .. x/../y --yes", "DELETE /api/v1/applications/%2E%2E/devices/x%2F..%2Fy", 0, ""},
		{"app delete plant", "GET /api/v1/applications/plant", 2,
			"this deletes application plant with its 3 devices; its log and quarantine stay as long as their retention says; " + nobody},
		{"app delete plant --purge", "GET /api/v1/applications/plant", 2,
			"with its 3 devices, its log, its quarantine, its state and its groups; " + nobody},
		{"app delete plant --purge --yes", "DELETE /api/v1/applications/plant?purge=true", 0, ""},
		{"user delete ..", "GET /api/v1/users/%2E%2E", 2, "this deletes user .. with its 1 credential; " + nobody},
		{"token delete ..", "GET /api/v1/tokens/%2E%2E", 2, "this deletes the token .. with the role reader; " + nobody},
		{"token delete .. --yes", "DELETE /api/v1/tokens/%2E%2E", 0, ""},
		{"key delete pump@plant ..", "GET /api/v1/applications/plant/devices/pump", 2,
			"this deletes the key .. of pump@plant bench and ends the connections that it opened; " + nobody},
		{"key delete pump@plant .. --yes", "DELETE /api/v1/applications/plant/devices/pump/credentials/%2E%2E", 0, ""},
		{"key delete ..@.. .. --yes", "DELETE /api/v1/applications/%2E%2E/devices/%2E%2E/credentials/%2E%2E", 0, ""},
		{"key delete .. .. --yes", "DELETE /api/v1/users/%2E%2E/credentials/%2E%2E", 0, ""},
		{"key delete pump@plant other", "GET /api/v1/applications/plant/devices/pump", 3, "there is no credential other"},
		{"group delete plant ..", "", 2, "this deletes the group .. of application plant with its position; " + nobody},
		{"group delete plant .. --yes", "DELETE /api/v1/applications/plant/groups/%2E%2E?quarantine=false", 0, ""},
		{"connection kick plant ..", "DELETE /api/v1/connections/plant/%2E%2E?forget=false", 0, ""},
		{"connection kick plant .. --forget", "", 2, "this deletes the session of .. in plant with what waits in it; " + nobody},
		{"connection kick plant .. --forget --yes", "DELETE /api/v1/connections/plant/%2E%2E?forget=true", 0, ""},
		{"device delete plant pump --yes --url " + server.URL + "/moved", "DELETE /moved/api/v1/applications/plant/devices/pump", 1,
			"answers 307 Temporary Redirect and sends to /api/v1/applications/plant, which is not followed; name the gateway itself with --url"},
		{"device show plant pump --url " + server.URL + "/moved", "GET /moved/api/v1/applications/plant/devices/pump", 1,
			"which is not followed"},
		{"device delete plant ^ --yes", "", 2, "an argument is empty; it takes: device delete <application> <device>"},
	} {
		asked = nil
		args := strings.Fields(tt.line)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "^", "")
		}
		status, _, errs := tributary(t, t.Context(), "y\n", []string{"TRIBUTARY_URL=" + server.URL, "TRIBUTARY_TOKEN=tra_x"}, args...)
		if got := strings.Join(asked, ", "); status != tt.status || got != tt.asked || !strings.Contains(errs, tt.err) {
			t.Errorf("%s: %d, asked %q\n%s\nwant %d, %q\n%s", tt.line, status, got, errs, tt.status, tt.asked, tt.err)
		}
	}
}

func TestPrintedTokenIsAccepted(t *testing.T) {
	_, out, _ := tributary(t, t.Context(), "", nil, "token", "create", "ops", "--role", "admin", "--application", "plant", "--print-config")
	_, lines, _ := strings.Cut(out, "\n")
	status, _, errs := tributary(t, t.Context(), "", nil, "check", "--config", write(t, "tokens.toml", lines))
	if status != 0 {
		t.Errorf("%s\n%s", out, errs)
	}
}

func TestSettingValues(t *testing.T) {
	into := object{}
	set := func(member string, kind settingKind, text string) error {
		return (&settingValue{setting{"o", member, kind, ""}, into}).Set(text)
	}
	for _, tt := range []struct {
		member string
		kind   settingKind
		text   string
		want   string // in JSON; empty: an error
	}{
		{"a", yesNo, "true", "true"}, {"b", yesNo, "maybe", ""},
		{"c", number, "12", "12"}, {"d", number, "1.5", ""},
		{"e", bytesize, "64KiB", "65536"}, {"f", bytesize, "7", "7"}, {"g", bytesize, "x", ""},
		{"h", duration, "7d", "604800"}, {"i", duration, "7", ""},
		{"j", many, "", "[]"}, {"j", many, "x", `["x"]`}, {"j", many, "y", `["x","y"]`},
		{"k", momentAhead, "2027-01-01T00:00:00Z", `"2027-01-01T00:00:00Z"`}, {"l", momentAhead, "tomorrow", ""},
	} {
		err := set(tt.member, tt.kind, tt.text)
		got, _ := json.Marshal(into[tt.member])
		if (err == nil) != (tt.want != "") || err == nil && string(got) != tt.want {
			t.Errorf("%q: %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
	if err := set("m", momentAhead, "90d"); err != nil || time.Until(into["m"].(time.Time)) < 89*24*time.Hour {
		t.Errorf("90d is %v, %v", into["m"], err)
	}
}
