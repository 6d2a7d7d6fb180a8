package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// revocations are the certificate revocation lists of a file.
type revocations struct {
	file string
	now  func() time.Time

	mu      sync.Mutex
	changed time.Time // of the file when it was read
	size    int64
	lists   []revocationList
	problem error
}

type revocationList struct {
	*x509.RevocationList
	serials map[string]bool // that are revoked
}

// check refuses a chain in which a list of the certificate's own authority names
// it. Without a current list of that authority nobody can tell, which is an error
// that is no *stage.Error.
func (r *revocations) check(chain []*x509.Certificate) error {
	if len(chain) < 2 {
		return errors.New("the certificate's authority is not in its chain, so no revocation list can be checked")
	}
	lists, err := r.read()
	if err != nil {
		return err
	}
	leaf, authority := chain[0], chain[1]
	found := false
	for _, l := range lists {
		if !bytes.Equal(l.RawIssuer, leaf.RawIssuer) || l.CheckSignatureFrom(authority) != nil {
			continue
		}
		if l.serials[leaf.SerialNumber.String()] {
			return notAuthorized("the certificate was revoked")
		}
		found = found || l.NextUpdate.IsZero() || r.now().Before(l.NextUpdate)
	}
	if !found {
		return fmt.Errorf("%s holds no current revocation list of %s; put a newer one there", r.file, authority.Subject)
	}
	return nil
}

// read returns the lists, read again when the file changed.
func (r *revocations) read() ([]revocationList, error) {
	info, err := os.Stat(r.file)
	if err != nil {
		return nil, fmt.Errorf("reading revocation lists: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if info.ModTime().Equal(r.changed) && info.Size() == r.size {
		return r.lists, r.problem
	}
	r.changed, r.size = info.ModTime(), info.Size()
	content, err := os.ReadFile(r.file)
	if err == nil {
		r.lists, err = parseRevocations(content)
	}
	r.problem = nil
	if err != nil {
		r.problem = fmt.Errorf("reading revocation lists from %s: %w", r.file, err)
	}
	return r.lists, r.problem
}

// parseRevocations reads lists in PEM, or one in DER.
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
