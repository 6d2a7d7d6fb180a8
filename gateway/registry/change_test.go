package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/gateway/access"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

func mustPut(t testing.TB, r *Registry, d resource.Device) resource.Device {
	t.Helper()
	if !r.Exists(d.Application) {
		if _, _, err := r.PutApplication(r.NewApplication(d.Application), resource.Precondition{}); err != nil {
			t.Fatal(err)
		}
	}
	now, _, err := r.PutDevice(d, resource.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func faultOf(err error) resource.FaultKind {
	var f *resource.Fault
	if !errors.As(err, &f) {
		return 255
	}
	return f.Kind
}

// Changes that read, change and write with the revision they read lose nothing.
func TestConcurrentChanges(t *testing.T) {
	r := open(t, Config{}, nil)
	mustPut(t, r, r.NewDevice("plant", "d"))
	const writers, rounds = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < rounds; {
				d, _ := r.LookUp("plant", "d")
				d.MessageRate++
				_, _, err := r.PutDevice(d, resource.Precondition{Revision: d.Revision})
				switch {
				case err == nil:
					done++
				case faultOf(err) != resource.Outdated:
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() { // who only asks
			for range 1000 {
				r.Trusts("plant", "d", "e")
				r.Device("plant", "x")
				r.ListDevices("plant", "", func(resource.Device) bool { return true })
				r.ListApplications("", func(resource.Application) bool { return true })
			}
		})
	}
	for i := range writers {
		wg.Go(func() {
			name := fmt.Sprint("app-", i%3)
			for range rounds {
				r.PutApplication(r.NewApplication(name), resource.Precondition{})
				r.PutDevice(r.NewDevice(name, "x"), resource.Precondition{})
				r.AddCredential(resource.Owner{Application: name, Name: "x"}, resource.NewCredential{Kind: resource.KeyCredential})
				r.DeleteApplication(name, false, resource.Precondition{})
			}
		})
	}
	wg.Wait()
	if d, _ := r.LookUp("plant", "d"); d.MessageRate != writers*rounds {
		t.Errorf("%d changes are left of %d", d.MessageRate, writers*rounds)
	}
}

// What the file declares stands over what was made at run time, and is changed
// in the file only.
func TestDeclaredEntries(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	d := r.NewDevice("plant", "gw")
	d.MessageRate = 7
	mustPut(t, r, d)
	mustPut(t, r, r.NewDevice("plant", "kept"))
	if _, _, err := r.PutUser(resource.User{Name: "alice", Read: []string{"plant"}}, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}

	cfg := plant(t) // declares plant, gw and alice
	_, hash, _ := NewToken()
	cfg.Tokens = map[string]Token{"ci": {Hash: hash, Role: "reader"}}
	r = open(t, cfg, st)
	now, _ := r.LookUp("plant", "gw")
	if !now.FromFile || now.MessageRate != 0 {
		t.Errorf("the declared device: %+v", now)
	}
	if kept, ok := r.LookUp("plant", "kept"); !ok || kept.FromFile {
		t.Errorf("a device of the store in a declared application: %+v", kept)
	}
	gw := resource.Owner{Application: "plant", Name: "gw"}
	changes := map[string]error{}
	_, _, changes["PutApplication"] = r.PutApplication(r.NewApplication("plant"), resource.Precondition{})
	changes["DeleteApplication"] = r.DeleteApplication("plant", false, resource.Precondition{})
	_, _, changes["PutDevice"] = r.PutDevice(d, resource.Precondition{})
	changes["DeleteDevice"] = r.DeleteDevice("plant", "gw", resource.Precondition{})
	_, _, changes["AddCredential"] = r.AddCredential(gw, resource.NewCredential{Kind: resource.KeyCredential})
	changes["RemoveCredential"] = r.RemoveCredential(gw, "password-1")
	_, _, changes["PutUser"] = r.PutUser(resource.User{Name: "alice"}, resource.Precondition{})
	changes["DeleteUser"] = r.DeleteUser("alice", resource.Precondition{})
	changes["DeleteToken"] = r.DeleteToken("ci", resource.Precondition{})
	for name, err := range changes {
		if faultOf(err) != resource.Conflict || !strings.Contains(err.Error(), "gateway.toml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustPut(t, r, r.NewDevice("plant", "added"))

	r = open(t, Config{}, st) // the file declares nothing any more
	now, _ = r.LookUp("plant", "gw")
	if now.FromFile || now.MessageRate != 7 {
		t.Errorf("the device of the store: %+v", now)
	}
	if _, ok := r.LookUp("plant", "added"); !ok {
		t.Error("a device that was added to a declared application is lost")
	}
	if _, ok := r.Token("ci"); ok {
		t.Error("a declared token outlives its declaration")
	}
}

// Devices of an application that only the file had wait for it.
func TestOrphans(t *testing.T) {
	st := &memory{}
	r := open(t, plant(t), st)
	mustPut(t, r, r.NewDevice("plant", "new"))
	r = open(t, Config{}, st)
	if r.Exists("plant") {
		t.Fatal("the application is still there")
	}
	r = open(t, plant(t), st)
	if _, ok := r.LookUp("plant", "new"); !ok {
		t.Error("the device did not come back")
	}
}

// They also wait for one that is made at run time, and are then its own.
func TestOrphansComeBackWithANewApplication(t *testing.T) {
	st := &memory{}
	r := open(t, plant(t), st)
	d := r.NewDevice("plant", "new")
	d.Aliases = []string{"also-new"}
	mustPut(t, r, d)
	mustPut(t, r, r.NewDevice("plant", "other"))
	_, key, err := r.AddCredential(resource.Owner{Application: "plant", Name: "new"}, resource.NewCredential{Kind: resource.KeyCredential})
	if err != nil {
		t.Fatal(err)
	}
	r = open(t, Config{}, st)
	st.blind = true
	if _, _, err := r.PutApplication(r.NewApplication("plant"), resource.Precondition{}); !errors.Is(err, errDisk) || r.Exists("plant") {
		t.Errorf("while the store cannot be read: %v, exists %v", err, r.Exists("plant"))
	}
	st.blind = false
	if r := open(t, Config{}, st); r.Exists("plant") {
		t.Error("an application whose devices could not be read was stored")
	}
	if a, created, err := r.PutApplication(r.NewApplication("plant"), resource.Precondition{}); err != nil || !created || a.Devices != 2 {
		t.Errorf("%+v, created %v, %v", a, created, err)
	}
	now, _ := r.LookUp("plant", "new")
	if now.Revision == "" || r.Resolve("plant", "also-new") != "new" {
		t.Errorf("the device is %+v", now)
	}
	if _, err := r.Key(t.Context(), "new@plant", []byte(key)); err != nil {
		t.Errorf("its key: %v", err)
	}
	now.Disabled = true
	if _, created, err := r.PutDevice(now, resource.Precondition{Revision: now.Revision}); err != nil || created {
		t.Errorf("changing it: created %v, %v", created, err)
	}
	if err := r.DeleteApplication("plant", false, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a, _, err := r.PutApplication(r.NewApplication("plant"), resource.Precondition{}); err != nil || a.Devices != 0 {
			t.Errorf("after the deletion: %+v, %v", a, err)
		}
		r = open(t, Config{}, st)
	}
	if _, err := r.Key(t.Context(), "new@plant", []byte(key)); err == nil {
		t.Error("a key of a deleted application is right in the new one")
	}
}

func TestDeleteApplication(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	for i := range deleteChunk + 10 {
		mustPut(t, r, r.NewDevice("plant", fmt.Sprint("d", i)))
	}
	a, _ := r.Application("plant")
	a.RetentionSeconds, a.RetentionBytes = 60, 1000
	if _, _, err := r.PutApplication(a, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteApplication("plant", false, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if age, bytes := r.Retention("plant"); age != time.Minute || bytes != 1000 || r.Exists("plant") ||
			!slices.Equal(r.Retired(), []string{"plant"}) {
			t.Errorf("after deletion: %v, %d, exists %v, retired %v", age, bytes, r.Exists("plant"), r.Retired())
		}
		r = open(t, Config{}, st)
	}
	for k := range st.items {
		if strings.HasPrefix(k.Name, deviceKey) {
			t.Fatalf("%s is left", k.Name)
		}
	}
	mustPut(t, r, r.NewDevice("plant", "d0")) // of a new application
	if len(r.Retired()) > 0 {
		t.Errorf("retired: %v", r.Retired())
	}
	if err := r.DeleteApplication("plant", true, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	if _, bytes := open(t, Config{}, st).Retention("plant"); bytes != 1 {
		t.Errorf("purged, it keeps %d bytes", bytes)
	}
}

// A store that fails changes nothing, and nobody is told.
func TestStoreFailure(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	before := mustPut(t, r, r.NewDevice("plant", "d"))
	told := 0
	r.Watch(func(access.Change) { told++ })
	st.fail = true
	d := before
	d.Disabled = true
	_, _, err := r.PutDevice(d, resource.Precondition{})
	if !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	for _, err := range []error{
		r.DeleteDevice("plant", "d", resource.Precondition{}), r.DeleteApplication("plant", false, resource.Precondition{}),
		r.RemoveCredential(resource.Owner{Application: "plant", Name: "d"}, "x"),
	} {
		if err == nil {
			t.Error("a change that was not stored succeeds")
		}
	}
	if now, _ := r.LookUp("plant", "d"); cmp.Diff(before, now) != "" {
		t.Errorf("the device is %+v", now)
	}
	st.fail = false
	if now, _ := open(t, Config{}, st).LookUp("plant", "d"); now.Disabled {
		t.Error("the change was stored")
	}
	if _, _, err := r.PutDevice(d, resource.Precondition{Revision: before.Revision}); err != nil || told == 0 {
		t.Errorf("after that: %v, told %d", err, told)
	}
}

func TestWatch(t *testing.T) {
	r := open(t, Config{}, nil)
	var told []access.Change
	r.Watch(func(c access.Change) { told = append(told, c) })
	d := mustPut(t, r, r.NewDevice("plant", "d"))
	owner := resource.Owner{Application: "plant", Name: "d"}
	c, _, _ := r.AddCredential(owner, resource.NewCredential{Kind: resource.KeyCredential})
	r.RemoveCredential(owner, c.ID)
	r.PutDevice(d, resource.Precondition{}) // the same: nothing to tell
	r.PutUser(resource.User{Name: "alice"}, resource.Precondition{})
	r.DeleteUser("alice", resource.Precondition{})
	r.DeleteDevice("plant", "d", resource.Precondition{})
	r.DeleteApplication("plant", false, resource.Precondition{})
	device, alice := access.Change{Application: "plant", Device: "d"}, access.Change{Principal: "user:alice"}
	want := []access.Change{{}, device, device, {Application: "plant", Device: "d", Credential: "registry/" + c.ID}, alice, alice, device, {}}
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("(-want +told):\n%s", d)
	}
}

// Of two equal passwords the one that holds counts, whichever came first, and also
// when a login with the other one is remembered.
func TestEqualPasswords(t *testing.T) {
	for name, expires := range map[string][]time.Duration{"the first expires": {time.Minute, 0}, "the second expires": {0, time.Minute},
		"one expires sooner": {time.Minute, time.Hour}} {
		t.Run(name, func(t *testing.T) {
			r := open(t, Config{}, nil)
			clock := time.Now()
			r.now = func() time.Time { return clock }
			mustPut(t, r, r.NewDevice("plant", "d"))
			login := func() (*access.Grant, error) { return r.Login(t.Context(), "d@plant", []byte("open sesame")) }
			var ids []string
			for _, after := range expires {
				nc := resource.NewCredential{Kind: resource.PasswordCredential, Password: "open sesame"}
				if after > 0 {
					nc.Expires = clock.Add(after)
				}
				c, _, err := r.AddCredential(resource.Owner{Application: "plant", Name: "d"}, nc)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, credentialName(c.ID))
				if _, err := login(); err != nil { // is remembered
					t.Fatal(err)
				}
			}
			holds := ids[1]
			if expires[0] == 0 {
				holds = ids[0]
			}
			clock = clock.Add(time.Minute)
			if g, err := login(); err != nil || g.Credential != holds {
				t.Errorf("%+v, %v, want %s of %s", g, err, holds, ids)
			}
			clock = clock.Add(time.Hour)
			if g, err := login(); name == "one expires sooner" && (g != nil || err == nil || !strings.Contains(err.Error(), "expired")) {
				t.Errorf("when none holds: %+v, %v", g, err)
			}
		})
	}
}

// Every way to prove something: right, wrong, of others, expired, revoked, of a
// disabled holder.
func TestCredentials(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	clock := time.Now()
	r.now = func() time.Time { return clock }
	mustPut(t, r, resource.Device{Application: "plant", Name: "d", Publish: []string{"{device}/#"}, Aliases: []string{"SN 1/7"},
		MessageRate: 3})
	mustPut(t, r, r.NewDevice("plant", "other"))
	if _, _, err := r.PutUser(resource.User{Name: "alice", Read: []string{"plant"}}, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	fingerprint := sha256.Sum256([]byte("a certificate"))
	for _, owner := range []resource.Owner{{Application: "plant", Name: "d"}, {Name: "alice"}} {
		login := owner.Name
		if owner.Application != "" {
			login = "SN 1/7@plant"
		}
		give := func(nc resource.NewCredential) (resource.Credential, string) {
			nc.Expires = clock.Add(time.Hour)
			c, secret, err := r.AddCredential(owner, nc)
			if err != nil {
				t.Fatal(err)
			}
			return c, secret
		}
		password, _ := give(resource.NewCredential{Kind: resource.PasswordCredential, Password: "open sesame"})
		made, madePassword := give(resource.NewCredential{Kind: resource.PasswordCredential})
		key, secret := give(resource.NewCredential{Kind: resource.KeyCredential})
		bound, _ := give(resource.NewCredential{Kind: resource.CertificateCredential, Certificate: hexSum(fingerprint)})
		ways := []struct {
			credential resource.Credential
			try        func() (*access.Grant, error)
		}{
			{password, func() (*access.Grant, error) { return r.Login(t.Context(), login, []byte("open sesame")) }},
			{made, func() (*access.Grant, error) { return r.Login(t.Context(), login, []byte(madePassword)) }},
			{key, func() (*access.Grant, error) { return r.Key(t.Context(), login, []byte(secret)) }},
			{bound, func() (*access.Grant, error) { return r.Certificate(fingerprint) }},
		}
		for name, try := range map[string]func() (*access.Grant, error){
			"password": func() (*access.Grant, error) { return r.Login(t.Context(), login, []byte("open")) },
			"as a key": func() (*access.Grant, error) { return r.Key(t.Context(), login, []byte("open sesame")) },
			"key":      func() (*access.Grant, error) { return r.Key(t.Context(), login, []byte(secret+"x")) },
			"of other": func() (*access.Grant, error) { return r.Key(t.Context(), "other@plant", []byte(secret)) },
			"of nobody": func() (*access.Grant, error) {
				return r.Key(t.Context(), "nobody@plant", []byte(secret))
			},
			"a user's with an empty application": func() (*access.Grant, error) { return r.Key(t.Context(), "alice@", []byte(secret)) },
			"certificate":                        func() (*access.Grant, error) { return r.Certificate(sha256.Sum256(nil)) },
		} {
			if g, err := try(); codeOf(err) != event.BadUserNameOrPassword {
				t.Errorf("%s wrong: %+v, %v", name, g, err)
			}
		}
		for _, w := range ways {
			g, err := w.try()
			if err != nil || g.Principal != owner.Principal() || g.Credential != "registry/"+w.credential.ID ||
				!g.Expires.Equal(w.credential.Expires) {
				t.Fatalf("%s of %v: %+v, %v", w.credential.Kind, owner, g, err)
			}
			if owner.Application != "" && (g.Device != "d" || g.Rates.Messages != 3 || !slices.Equal(g.Publish, []string{"{device}/#"})) {
				t.Errorf("the device's grant: %+v", g)
			}
			if again, err := r.Renew(g); err != nil || cmp.Diff(g, again) != "" {
				t.Errorf("renewed: %v\n%s", err, cmp.Diff(g, again))
			}
			clock = clock.Add(time.Hour)
			if _, err := w.try(); codeOf(err) != event.NotAuthorized {
				t.Errorf("%s when expired: %v", w.credential.Kind, err)
			}
			if _, err := r.Renew(g); codeOf(err) != event.NotAuthorized {
				t.Errorf("renewing an expired %s: %v", w.credential.Kind, err)
			}
			clock = clock.Add(-time.Hour)
			setDisabled(t, r, owner, true)
			if _, err := w.try(); codeOf(err) != event.NotAuthorized {
				t.Errorf("%s when disabled: %v", w.credential.Kind, err)
			}
			setDisabled(t, r, owner, false)
			if err := r.RemoveCredential(owner, w.credential.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := w.try(); codeOf(err) != event.BadUserNameOrPassword {
				t.Errorf("%s when revoked: %v", w.credential.Kind, err)
			}
			if _, err := r.Renew(g); codeOf(err) != event.NotAuthorized {
				t.Errorf("renewing a revoked %s: %v", w.credential.Kind, err)
			}
		}
		vouched := &access.Grant{Principal: owner.Principal(), Application: owner.Application, Device: owner.Name,
			Credential: "of another authority"}
		if _, err := r.Renew(vouched); err != nil {
			t.Errorf("renewing what another authority vouched for: %v", err)
		}
	}
	if err := r.DeleteDevice("plant", "d", resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Renew(&access.Grant{Principal: "device:plant/d", Application: "plant", Device: "d"}); codeOf(err) != event.NotAuthorized {
		t.Errorf("renewing for a deleted device: %v", err)
	}
}

func codeOf(err error) event.Code {
	var e *stage.Error
	if !errors.As(err, &e) {
		return event.Success
	}
	return e.Code
}

func setDisabled(t *testing.T, r *Registry, owner resource.Owner, disabled bool) {
	t.Helper()
	var err error
	if owner.Application == "" {
		u, _ := r.User(owner.Name)
		u.Disabled = disabled
		_, _, err = r.PutUser(u, resource.Precondition{Revision: u.Revision})
	} else {
		d, _ := r.LookUp(owner.Application, owner.Name)
		d.Disabled = disabled
		_, _, err = r.PutDevice(d, resource.Precondition{Revision: d.Revision})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestVouchAndEnroll(t *testing.T) {
	r := open(t, plant(t), nil)
	if g, err := r.Vouch("plant", "gw2"); err != nil || g.Principal != "device:plant/gw2" || g.Credential != "" {
		t.Errorf("%+v, %v", g, err)
	}
	for _, tt := range []struct {
		app, device string
		code        event.Code
	}{{"plant", "nope", event.BadUserNameOrPassword}, {"nope", "gw", event.BadUserNameOrPassword}, {"", "alice",
		event.BadUserNameOrPassword}, {"plant", "dead", event.NotAuthorized}} {
		if _, err := r.Vouch(tt.app, tt.device); codeOf(err) != tt.code {
			t.Errorf("Vouch(%q, %q): %v", tt.app, tt.device, err)
		}
	}
	if g, err := r.VouchUser("alice"); err != nil || g.Principal != "user:alice" {
		t.Errorf("%+v, %v", g, err)
	}
	for range 2 { // the second time it is there
		if err := r.Enroll(t.Context(), "plant", "fresh", "a test"); err != nil {
			t.Fatal(err)
		}
	}
	if g, err := r.Vouch("plant", "fresh"); err != nil || !slices.Equal(g.Publish, everything) {
		t.Errorf("enrolled: %+v, %v", g, err)
	}
	for _, name := range []string{"a/b", ""} {
		if err := r.Enroll(t.Context(), "plant", name, "a test"); codeOf(err) != event.NotAuthorized {
			t.Errorf("enrolling %q: %v", name, err)
		}
	}
	if err := r.Enroll(t.Context(), "nope", "x", "a test"); codeOf(err) != event.NotAuthorized {
		t.Errorf("enrolling in no application: %v", err)
	}
}

func TestTokens(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	clock := time.Now()
	r.now = func() time.Time { return clock }
	_, secret, err := r.CreateToken(resource.Token{Name: "ci", Role: resource.Operator, Applications: []string{"plant"},
		Expires: clock.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	r = open(t, Config{}, st)
	r.now = func() time.Time { return clock }
	got, ok := r.Authenticate(secret)
	if !ok || got.Role != resource.Operator || got.LastFour != secret[len(secret)-4:] || got.LastUsed.IsZero() {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, wrong := range []string{"", "tra_", secret + " ", strings.ToLower(secret), hexSum(sha256.Sum256([]byte(secret)))} {
		if _, ok := r.Authenticate(wrong); ok {
			t.Errorf("%q is accepted", wrong)
		}
	}
	if used, _ := open(t, Config{}, st).Token("ci"); used.LastUsed.IsZero() {
		t.Error("the last use is not stored")
	}
	local := r.LocalToken()
	if got, ok := r.Authenticate(local); !ok || got.Role != resource.Admin {
		t.Errorf("the local token: %+v, %v", got, ok)
	}
	if _, ok := open(t, Config{}, st).Authenticate(local); ok {
		t.Error("the local token outlives the process")
	}
	clock = clock.Add(time.Hour)
	if _, ok := r.Authenticate(secret); ok {
		t.Error("an expired token is accepted")
	}
}

// No secret is anywhere but in the answer that shows it once.
func TestSecretsAreNotKept(t *testing.T) {
	st := &memory{}
	r := open(t, Config{}, st)
	mustPut(t, r, r.NewDevice("plant", "d"))
	var secrets []string
	owner := resource.Owner{Application: "plant", Name: "d"}
	for _, kind := range []resource.CredentialKind{resource.PasswordCredential, resource.ScramCredential, resource.KeyCredential} {
		_, secret, err := r.AddCredential(owner, resource.NewCredential{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	r.AddCredential(owner, resource.NewCredential{Kind: resource.PasswordCredential, Password: "open sesame"})
	_, token, _ := r.CreateToken(resource.Token{Name: "t", Role: resource.Admin})
	secrets = append(secrets, "open sesame", token, r.LocalToken())
	r.Authenticate(token)
	shown, _ := r.LookUp("plant", "d")
	visible := fmt.Sprintf("%+v", shown)
	for k, it := range st.items {
		for _, secret := range secrets {
			if secret == "" || strings.Contains(string(it.value), secret) || strings.Contains(visible, secret) {
				t.Errorf("the secret %q is in %s or shown", secret, k.Name)
			}
		}
	}
	if strings.Contains(visible, "argon2id") || strings.Contains(visible, "SCRAM-SHA-256$") {
		t.Error("hashes are shown")
	}
}

// testdata/records.txt holds what earlier versions wrote: "name value" a line.
// Lines are added and never changed; this version still reads all of them, and
// writes what it read as the last lines of a name say.
func TestRecords(t *testing.T) {
	text, err := os.ReadFile("testdata/records.txt")
	if err != nil {
		t.Fatal(err)
	}
	st := &memory{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "" && name != "#" {
			st.Commit(&store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.Meta, Name: name}, Value: []byte(value)}}}, func(error) {})
		}
	}
	r := open(t, Config{}, st)
	if a, ok := r.Application("plant"); !ok || !a.Messaging || a.RetentionSeconds != 60 || a.Devices != 1 || a.MessageRate != 5 ||
		a.ByteRate != 6 || a.Created.IsZero() {
		t.Errorf("application: %+v", a)
	}
	d, _ := r.LookUp("plant", "SN7")
	if d.Name != "pump-1" || !d.Disabled || d.GatewayFor[0] != "meter-*" || len(d.Credentials) != 4 {
		t.Errorf("device: %+v", d)
	}
	d.Disabled = false
	if _, _, err := r.PutDevice(d, resource.Precondition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Login(t.Context(), "pump-1@plant", []byte("password")); err != nil {
		t.Errorf("password: %v", err)
	}
	if _, err := r.Key(t.Context(), "pump-1@plant", []byte("trk_0123456789ABCDEFGHIJKLMNOPQRSTUV")); err != nil {
		t.Errorf("key: %v", err)
	}
	if _, err := r.Certificate(sha256.Sum256([]byte("certificate"))); err != nil {
		t.Errorf("certificate: %v", err)
	}
	if salt, _, _, n, g, err := r.Scram("pump-1@plant"); string(salt) != "0123456789abcdef" || n != 4096 || g == nil || err != nil {
		t.Errorf("SCRAM: %q, %d, %+v, %v", salt, n, g, err)
	}
	if u, ok := r.User("alice"); !ok || u.Read[0] != "plant" || u.Credentials[0].Label != "laptop" {
		t.Errorf("user: %+v", u)
	}
	if tok, ok := r.Authenticate("tra_0123456789ABCDEFGHIJKLMNOPQRSTUV"); !ok || tok.Role != resource.Operator ||
		tok.Applications[0] != "plant" {
		t.Errorf("token: %+v", tok)
	}
	if age, _ := r.Retention("gone"); age != time.Minute {
		t.Errorf("retired: %v", age)
	}
	if got := r.Purging(); !slices.Equal(got, []string{"gone"}) {
		t.Errorf("purging: %v", got)
	}
	for _, bad := range []string{"", "{}", `{"v":2}`, "not JSON"} {
		for _, kind := range []string{applicationKey + "x", deviceKey + "plant/x", userKey + "x", tokenKey + "x", retiredKey + "x",
			purgingKey + "x"} {
			broken := &memory{}
			broken.Commit(&store.Batch{Puts: []store.Put{{Key: store.Key{Kind: store.Meta, Name: kind}, Value: []byte(bad)}}}, func(error) {})
			if _, err := New(Config{}, broken, discard()); err == nil || !strings.Contains(err.Error(), kind) {
				t.Errorf("%s %q: %v", kind, bad, err)
			}
		}
	}
}
