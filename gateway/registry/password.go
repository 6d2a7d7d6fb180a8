package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// hash is a parsed argon2id hash in the PHC string format.
type hash struct {
	memory, passes uint32 // memory in KiB
	threads        uint8
	salt, sum      []byte
}

// The bounds keep a hash in the configuration from costing more memory or time
// than a login may. The defaults follow OWASP's advice for argon2id: 19 MiB, two
// passes, about 30 ms on one core.
const (
	defaultMemory, defaultPasses = 19 << 10, 2

	maxMemory, maxPasses, maxThreads = 256 << 10, 16, 16

	saltBytes, sumBytes = 16, 32

	maxPassword = 1024
)

// Hash returns the argon2id hash of a password, with a fresh salt, as
// password_hashes takes it. An empty password and one above 1024 bytes are refused.
func Hash(password []byte) (string, error) {
	h, err := newHash(password, defaultMemory, defaultPasses)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return h.String(), nil
}

func newHash(password []byte, memory, passes uint32) (hash, error) {
	if len(password) == 0 || len(password) > maxPassword {
		return hash{}, fmt.Errorf("a password has 1 to %d bytes, this one has %d", maxPassword, len(password))
	}
	h := hash{memory: memory, passes: passes, threads: 1, salt: make([]byte, saltBytes), sum: make([]byte, sumBytes)}
	if _, err := rand.Read(h.salt); err != nil {
		return hash{}, err
	}
	h.sum = h.compute(password)
	return h, nil
}

func (h hash) compute(password []byte) []byte {
	return argon2.IDKey(password, h.salt, h.passes, h.memory, h.threads, uint32(len(h.sum)))
}

// matches compares in constant time.
func (h hash) matches(password []byte) bool {
	return subtle.ConstantTimeCompare(h.compute(password), h.sum) == 1
}

// String returns the PHC string format.
func (h hash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.threads, b64(h.salt), b64(h.sum))
}

var errHash = errors.New("this is no argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash); make one with: tributary hash-password")

// parseHash reads the PHC string format. Only what String writes is accepted,
// so that one hash has one spelling. Its errors never show the hash.
func parseHash(s string) (hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return hash{}, errHash
	}
	var h hash
	var version int
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &h.memory, &h.passes, &h.threads); err != nil ||
		version != argon2.Version {
		return hash{}, errHash
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || h.String() != s {
		return hash{}, errHash
	}
	switch {
	case h.threads < 1 || h.threads > maxThreads,
		h.passes < 1 || h.passes > maxPasses,
		h.memory < 8*uint32(h.threads) || h.memory > maxMemory,
		len(h.salt) < 8 || len(h.salt) > 64,
		len(h.sum) < 16 || len(h.sum) > 64:
		return hash{}, fmt.Errorf("the hash's parameters are out of bounds (m 8·p to %d KiB, t 1 to %d, p 1 to %d, salt 8 to 64 bytes, hash "+
			"16 to 64 bytes); make one with: tributary hash-password",
			maxMemory, maxPasses, maxThreads)
	}
	return h, nil
}

// verifier checks passwords. Its work is bounded: at most one hash per core is
// computed at a time, because each takes megabytes. A failed check computes
// the same number of hashes whether the login exists or not. Successes are
// remembered for a while under a keyed hash, so that a whole fleet that comes
// back at once does not pay for its passwords again.
type verifier struct {
	price  atomic.Pointer[price]
	slots  chan struct{}
	hashed atomic.Uint64

	secret []byte // of this process, never stored
	mu     sync.Mutex
	known  map[[sha256.Size]byte]time.Time // until when
	now    func() time.Time
}

// price is how long a failed check takes. It only rises.
type price struct {
	dummy  hash // stands in for the hashes that a login does not have
	rounds int
}

// rememberFor and rememberMost bound what is remembered: 64 K logins take about 5 MiB.
const (
	rememberFor  = 10 * time.Minute
	rememberMost = 64 << 10
)

func newVerifier() (*verifier, error) {
	v := &verifier{
		slots:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		secret: make([]byte, 32),
		known:  map[[sha256.Size]byte]time.Time{},
		now:    time.Now,
	}
	v.price.Store(&price{rounds: 1, dummy: hash{memory: 8, passes: 1, threads: 1, salt: make([]byte, saltBytes), sum: make([]byte, sumBytes)}})
	if _, err := rand.Read(v.secret); err != nil {
		return nil, fmt.Errorf("reading random bytes for the login cache: %w", err)
	}
	return v, nil
}

// learn raises the price for a login that has a number of passwords, of which
// this is one. One goroutine at a time calls it.
func (v *verifier) learn(secret string, passwords int) {
	p := *v.price.Load()
	h, err := parseHash(secret)
	if err != nil {
		return
	}
	cost := func(h hash) uint64 { return uint64(h.memory) * uint64(h.passes) }
	if passwords <= p.rounds && cost(h) <= cost(p.dummy) {
		return
	}
	p.rounds = max(p.rounds, passwords)
	if cost(h) > cost(p.dummy) {
		p.dummy.memory, p.dummy.passes, p.dummy.threads = h.memory, h.passes, h.threads
	}
	v.price.Store(&p)
}

// check returns the first of the passwords' hashes that matches, -1: none. Only for
// the first ones, which are still valid, a success that is remembered counts: else
// one from before its expiry would hide an equal password that holds. It fails only
// when ctx ends while it waits for its turn.
func (v *verifier) check(ctx context.Context, username string, secrets []string, valid int, password []byte) (int, error) {
	for i, secret := range secrets[:valid] {
		if v.remembers(v.key(username, secret, password)) {
			return i, nil
		}
	}
	select {
	case v.slots <- struct{}{}:
		defer func() { <-v.slots }()
	case <-ctx.Done():
		return -1, ctx.Err()
	}
	if len(password) > maxPassword {
		password, secrets = password[:maxPassword], nil // hopeless, but at the same price
	}
	p := v.price.Load()
	for i := range max(p.rounds, len(secrets)) {
		h, real := p.dummy, false
		if i < len(secrets) {
			if parsed, err := parseHash(secrets[i]); err == nil {
				h, real = parsed, true
			}
		}
		v.hashed.Add(1)
		if h.matches(password) && real {
			v.remember(v.key(username, secrets[i], password))
			return i, nil
		}
	}
	return -1, nil
}

// key names a success; with another hash in the registry it is another one.
func (v *verifier) key(username, secret string, password []byte) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, v.secret)
	for _, s := range []string{username, secret} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		mac.Write([]byte(s))
	}
	mac.Write(password)
	mac.Sum(key[:0])
	return key
}

func (v *verifier) remembers(key [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	until, ok := v.known[key]
	return ok && v.now().Before(until)
}

func (v *verifier) remember(key [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	if len(v.known) >= rememberMost {
		for k, until := range v.known {
			if !now.Before(until) {
				delete(v.known, k)
			}
		}
	}
	for k := range v.known { // still full: any one makes room
		if len(v.known) < rememberMost {
			break
		}
		delete(v.known, k)
	}
	v.known[key] = now.Add(rememberFor)
}
