package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// The plugin's state in an application. Names that a client makes up stand last in a
// key, or are hashed, so that none can pass for another.
//
//	app/<app>                          an app: its secret, whether it is active, its actuators
//	user/<user>                        a user, by UUID
//	ext/<app>/<hash of external id>    the UUID of a user, by the id that the app gave it
//	users/<app>/<user>                 empty; lists the users of an app
//	contacts/<user>                    the emergency contacts of a user
//	device/<app>/<hardware id>         a paired device and who owns it
//	devices/<user>/<device id>         its hardware id; lists the devices of a user
//	edge/<node>                        an edge gateway: its app and the hash of its secret
//	incident/<incident>                an incident with its actuators
//	open/<user>                        the id of a user's open incident
//	past/<user>/<time>/<incident>      empty; lists the incidents of a user, the latest first
//	seen/<user>/<time>/<hardware id>   the incident of an alert that came in the last ten minutes
//	link/<hash of token>               the incident and contact of a public link
//	upper/<user>                       there if the user subscribed in upper case
//	rate/<what>/<bucket>               how often something was tried in this minute

func appKey(app string) string              { return "app/" + app }
func userKey(user string) string            { return "user/" + user }
func extKey(app, external string) string    { return "ext/" + app + "/" + hashed(external) }
func usersKey(app, user string) string      { return "users/" + app + "/" + user }
func contactsKey(user string) string        { return "contacts/" + user }
func deviceKey(app, hardware string) string { return "device/" + app + "/" + hardware }
func devicesKey(user, id string) string     { return "devices/" + user + "/" + id }
func edgeKey(node string) string            { return "edge/" + node }
func incidentKey(id string) string          { return "incident/" + id }
func openKey(user string) string            { return "open/" + user }
func linkKey(token string) string           { return "link/" + hashed(token) }
func upperKey(user string) string           { return "upper/" + user }

// pastKey sorts the latest incident first.
func pastKey(user string, opened int64, id string) string {
	const latest = 1e13 // ms, the year 2286
	back := strconv.FormatInt(latest-min(opened, latest), 10)
	for len(back) < 13 {
		back = "0" + back
	}
	return "past/" + user + "/" + back + "/" + id
}

// seenKey stands for an alert: who needs help, when, by which device.
func seenKey(user, hardware string, at int64) string {
	return "seen/" + user + "/" + strconv.FormatInt(at, 10) + "/" + hardware
}

// rateKey has one of so many buckets, so that strangers cannot fill the state.
func rateKey(what, who string) string {
	const buckets = 1 << 12
	sum := sha256.Sum256([]byte(who))
	return "rate/" + what + "/" + strconv.Itoa((int(sum[0])<<8|int(sum[1]))%buckets)
}

// hashed names something that must not stand in a key as it is, be it long or secret.
func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
