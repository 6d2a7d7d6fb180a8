package registry

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tributary.io/gateway/resource"
)

// What the registry keeps to check a credential, by kind:
//
//	password       $argon2id$v=19$m=…,t=…,p=…$salt$hash
//	scram-sha-256  SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>
//	key            64 hexadecimal digits, the key's SHA-256: a key is random, and
//	               needs no slow hash
//	certificate    64 hexadecimal digits, the SHA-256 of its DER form

// The prefixes by which secrets of Tributary are recognised, also by programs
// that look for leaked ones.
const (
	keyPrefix   = "trk_"
	tokenPrefix = "tra_"
)

// secretChars are the random characters of a key: 190 bits.
const secretChars = 32

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// random returns n random characters of letters and digits.
func random(n int) string {
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		rand.Read(b[:]) // it never fails; see its documentation
		for _, c := range b {
			if c &= 63; int(c) < len(alphabet) && len(out) < n { // no modulo, which would prefer some
				out = append(out, alphabet[c])
			}
		}
	}
	return string(out)
}

// NewToken returns a new admin token, its hash for gateway.toml and its last
// four characters.
func NewToken() (secret, hash, last string) {
	secret = tokenPrefix + random(secretChars)
	return secret, hexSum(sha256.Sum256([]byte(secret))), secret[len(secret)-4:]
}

func hexSum(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }

// parseSum reads the hexadecimal form of a SHA-256, also with colons between the
// bytes, as openssl writes it, and with "sha256:" in front.
func parseSum(s string) (sum [sha256.Size]byte, ok bool) {
	s = strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(s), "sha256:"), ":", "")
	b, err := hex.DecodeString(s)
	return [sha256.Size]byte(append(b, make([]byte, sha256.Size)...)[:sha256.Size]), err == nil && len(b) == sha256.Size
}

// scram is the authentication information of RFC 5802 section 3.
type scram struct {
	salt, storedKey, serverKey []byte
	iterations                 int
}

// scramIterations is four times RFC 7677's minimum: the device computes them, too.
const scramIterations = 16384

func newScram(password []byte, salt []byte, iterations int) (scram, error) {
	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return scram{}, fmt.Errorf("deriving SCRAM keys: %w", err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	return scram{salt, stored[:], mac(salted, "Server Key"), iterations}, nil
}

func (s scram) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", s.iterations, b64(s.salt), b64(s.storedKey), b64(s.serverKey))
}

func parseScram(text string) (s scram, ok bool) {
	parts := strings.FieldsFunc(text, func(c rune) bool { return c == '$' || c == ':' })
	if len(parts) != 5 || parts[0] != "SCRAM-SHA-256" {
		return scram{}, false
	}
	var errs [4]error
	s.iterations, errs[0] = strconv.Atoi(parts[1])
	s.salt, errs[1] = base64.StdEncoding.DecodeString(parts[2])
	s.storedKey, errs[2] = base64.StdEncoding.DecodeString(parts[3])
	s.serverKey, errs[3] = base64.StdEncoding.DecodeString(parts[4])
	return s, errs == [4]error{} && s.String() == text
}

// issue makes a credential. What is returned with it is to be shown once: a key
// or password that was made here, or nothing.
func issue(nc resource.NewCredential, now time.Time) (c credential, shown string, err error) {
	var f faults
	if len(nc.Label) > 128 || nc.Label != "" && !text(nc.Label, 128) {
		f.add("label", "a label is at most 128 bytes of text")
	}
	if !nc.Expires.IsZero() && !nc.Expires.After(now) {
		f.add("expires", "%s is past", nc.Expires.Format(time.RFC3339))
	}
	if len(nc.Password) > maxPassword {
		f.add("password", "a password has at most %d bytes", maxPassword)
	}
	withPassword := nc.Kind == resource.PasswordCredential || nc.Kind == resource.ScramCredential
	if nc.Password != "" && !withPassword {
		f.add("password", "a credential of kind %s has no password", nc.Kind)
	}
	if nc.Certificate != "" && nc.Kind != resource.CertificateCredential {
		f.add("certificate", "a credential of kind %s has no certificate", nc.Kind)
	}
	c.Credential = resource.Credential{ID: random(12), Kind: nc.Kind, Label: nc.Label, Created: now, Expires: nc.Expires}
	password := nc.Password
	if withPassword && password == "" {
		password = random(secretChars)
		shown = password
	}
	switch nc.Kind {
	case resource.PasswordCredential, resource.ScramCredential: // below, since it is dear
	case resource.KeyCredential:
		shown = keyPrefix + random(secretChars)
		c.secret, c.LastFour = hexSum(sha256.Sum256([]byte(shown))), shown[len(shown)-4:]
	case resource.CertificateCredential:
		c.bind(nc.Certificate, &f)
	default:
		f.add("kind", "the kind is %q; use password, scram-sha-256, key or certificate", nc.Kind)
	}
	if len(f) > 0 {
		return c, "", f.err()
	}
	switch nc.Kind {
	case resource.PasswordCredential:
		c.secret, err = Hash([]byte(password))
	case resource.ScramCredential:
		var s scram
		s, err = newScram([]byte(password), []byte(random(saltBytes)), scramIterations)
		c.secret = s.String()
	}
	return c, shown, err
}

// bind takes the certificate of a credential: in PEM, or its fingerprint.
func (c *credential) bind(certificate string, f *faults) {
	if sum, ok := parseSum(strings.TrimSpace(certificate)); ok {
		c.Fingerprint = hexSum(sum)
	} else {
		block, _ := pem.Decode([]byte(certificate))
		if block == nil || block.Type != "CERTIFICATE" {
			f.add("certificate", "this is neither a certificate in PEM nor a SHA-256 fingerprint (64 hexadecimal digits)")
			return
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			f.add("certificate", "the certificate cannot be read: %v", err)
			return
		}
		c.Fingerprint, c.Subject = hexSum(sha256.Sum256(cert.Raw)), cert.Subject.String()
		if c.Expires.IsZero() || cert.NotAfter.Before(c.Expires) {
			c.Expires = cert.NotAfter.UTC()
		}
	}
	c.secret = c.Fingerprint
}
