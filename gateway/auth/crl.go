package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// revocations holds the certificate revocation lists of a file. It is safe for concurrent use.
type revocations struct {
	file string
	now  func() time.Time
	wake chan<- struct{} // gets an element when the file was read again

	mu          sync.Mutex
	changed     time.Time // modification time of the file when it was read
	size        int64
	unread      bool // reading it failed, so it is tried again
	lists       []revocationList
	problem     error
	seen        bool                         // look has reported the last reading
	authorities map[string]*x509.Certificate // of accepted certificates, by SHA-256 in hexadecimal
}

type revocationList struct {
	*x509.RevocationList
	serials map[string]bool // of revoked certificates
}

func newRevocations(file string, now func() time.Time, wake chan<- struct{}) *revocations {
	return &revocations{file: file, now: now, wake: wake, seen: true, authorities: map[string]*x509.Certificate{}}
}

func errRevoked() error { return notAuthorized("the certificate was revoked") }

// check refuses a certificate, the first of chain, that a list of its authority revokes. If
// there is no current list of that authority, it returns an error that is no *stage.Error. For
// a certificate that is not revoked it returns the name that has takes.
func (r *revocations) check(chain []*x509.Certificate) (name string, err error) {
	if len(chain) < 2 {
		return "", errors.New("the certificate's authority is not in its chain, so no revocation list can be checked")
	}
	lists, err := r.read()
	if err != nil {
		return "", err
	}
	authority, serial := chain[1], chain[0].SerialNumber.String()
	found := false
	for _, l := range lists {
		if !l.by(authority) {
			continue
		}
		if l.serials[serial] {
			return "", errRevoked()
		}
		found = found || l.NextUpdate.IsZero() || r.now().Before(l.NextUpdate)
	}
	if !found {
		return "", fmt.Errorf("%s holds no current revocation list of %s; put a newer one there", r.file, authority.Subject)
	}
	sum := sha256.Sum256(authority.Raw)
	name = hex.EncodeToString(sum[:])
	r.mu.Lock()
	r.authorities[name] = authority
	r.mu.Unlock()
	return name + "/" + serial, nil
}

// by reports whether an authority signed the list.
func (l *revocationList) by(authority *x509.Certificate) bool {
	return bytes.Equal(l.RawIssuer, authority.RawSubject) && l.CheckSignatureFrom(authority) == nil
}

// has reports whether the last lists, current or not, revoke a certificate that check
// accepted. name is what check returned; an empty name is never revoked.
func (r *revocations) has(name string) bool {
	authority, serial, _ := strings.Cut(name, "/")
	r.mu.Lock()
	lists, from := r.lists, r.authorities[authority]
	r.mu.Unlock()
	return from != nil && slices.ContainsFunc(lists, func(l revocationList) bool { return l.serials[serial] && l.by(from) })
}

// look reports whether the file was read again since the last call, and the error of that.
func (r *revocations) look() (newer bool, err error) {
	_, err = r.read()
	r.mu.Lock()
	defer r.mu.Unlock()
	newer, r.seen = !r.seen, true
	return newer, err
}

// read returns the lists. It reads the file again if its time or size changed, or if the last
// reading failed: what repairs the file, such as chmod, need not change either.
func (r *revocations) read() ([]revocationList, error) {
	info, err := os.Stat(r.file)
	if err != nil {
		return nil, fmt.Errorf("reading revocation lists: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	same := info.ModTime().Equal(r.changed) && info.Size() == r.size
	if same && !r.unread {
		return r.lists, r.problem
	}
	content, err := os.ReadFile(r.file)
	if same && err != nil { // it still cannot be read
		return r.lists, r.problem
	}
	r.changed, r.size, r.unread, r.seen = info.ModTime(), info.Size(), err != nil, false
	select {
	case r.wake <- struct{}{}:
	default: // Run was told already
	}
	if err == nil {
		r.lists, err = parseRevocations(content)
	}
	r.problem = nil
	if err != nil {
		r.problem = fmt.Errorf("reading revocation lists from %s: %w", r.file, err)
	}
	return r.lists, r.problem
}

// parseRevocations parses lists in PEM, or one list in DER.
func parseRevocations(content []byte) (lists []revocationList, err error) {
	add := func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		serials := make(map[string]bool, len(l.RevokedCertificateEntries))
		for _, e := range l.RevokedCertificateEntries {
			serials[e.SerialNumber.String()] = true
		}
		lists = append(lists, revocationList{l, serials})
		return nil
	}
	block, rest := pem.Decode(content)
	if block == nil {
		return lists, add(content)
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		if err := add(block.Bytes); err != nil {
			return nil, err
		}
	}
	if len(lists) == 0 {
		return nil, errors.New("there is none in it")
	}
	return lists, nil
}
