package access

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// loggedBytes bounds what a log says of a name that a stranger chose.
const loggedBytes = 128

// LoggedUsername returns what a log may say of the user name, which may be a credential: a
// token, or a key in the wrong field. Listeners and authenticators must not log c.Username
// itself. A digest takes the place of a name unless the name cannot prove anything alone: a
// password is beside it, or it holds an @ like the names of devices. What is returned is
// printable, and less than 800 bytes long.
func (c *Credentials) LoggedUsername() string {
	name := c.Username
	switch {
	case name == "":
		return ""
	case PublicName(name) != name:
		return PublicName(name)
	case len(name) > loggedBytes, strings.HasPrefix(name, "eyJ"), strings.HasPrefix(name, "trk_"), strings.HasPrefix(name, "tra_"),
		len(c.Password) == 0 && !strings.Contains(name, "@"):
		digest := sha256.Sum256([]byte(name))
		return fmt.Sprintf("sha256:%s (%d bytes)", hex.EncodeToString(digest[:6]), len(name))
	}
	q := strconv.Quote(name)
	return q[1 : len(q)-1]
}
