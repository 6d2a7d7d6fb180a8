package admin

// enums returns the values of types that have a fixed set of them.
func enums() map[string][]any {
	return map[string][]any{
		"Role":           {"reader", "operator", "admin"},
		"CredentialKind": {"password", "scram-sha-256", "key", "certificate"},
	}
}

// pathNames describes the parts of paths.
func pathNames() map[string]string {
	return map[string]string{
		"application": "name of an application",
		"device":      "name of a device; to show one also an alias",
		"user":        "name of a user",
		"token":       "name of an admin token",
		"credential":  "id of a credential",
		"group":       "name of a group, as the list shows it",
		"namespace":   "namespace of a connection, as the list shows it: the application, or user:<name>",
		"clientId":    "client id of a connection",
	}
}

// describe returns what a member of a type means. A test finds members without
// a description.
func describe(typ, member string) string {
	shared := map[string]string{
		"application": "Name of the application.",
		"fromFile":    "Set by the gateway: gateway.toml declares the entry, and it is changed there.",
		"created":     "Set by the gateway.",
		"changed":     "Set by the gateway.",
		"devices":     "Set by the gateway: how many devices there are.",
		"credentials": "Set by the gateway: what the holder can prove itself with, without secrets.",
		"messageRate": "Messages per second that may be published; 0 is no bound.",
		"byteRate":    "Bytes of payload and topic per second that may be published; 0 is no bound.",
		"disabled":    "Its connections are refused; those that are open end.",
		"expires":     "When it ends by itself; absent: never.",
		"lastFour":    "Set by the gateway: the last four characters of the secret, to tell one from another.",
		"kind":        "How it proves something.",
		"label":       "A note of yours, up to 128 bytes.",
		"items":       "The entries of this page.",
		"next":        "Give it as after to get the next page; absent on the last one.",
		"role": "reader sees everything but payloads, secrets and tokens; operator also changes devices and their credentials, ends " +
			"connections and deletes groups; admin does everything.",
		"applications": "The applications that the token is for. Absent or empty: all of them, and what belongs to none, such as users and " +
			"tokens.",
	}
	own := map[string]string{
		"Application.name":      "1 to 64 of a-z, 0-9 and -.",
		"Application.anonymous": "Lets programs on the gateway's machine in without credentials.",
		"Application.messaging": "Devices get what other devices publish, where they subscribed to it.",
		"Application.routed": "Set by the gateway: some route is for events of the application. Without any, and without messaging, " +
			"what its devices publish goes into quarantine.",
		"Application.retentionSeconds": "Age at which events leave the log; 0 is never.",
		"Application.retentionBytes":   "Size at which the oldest events leave the log; 0 is never.",
		"Device.name":                  "1 to 128 bytes of text without /, + and #.",
		"Device.aliases":               "Other names by which it logs in, such as a serial number.",
		"Device.gatewayFor":            "Devices that it may speak for; * stands for any run of characters.",
		"Device.publish": "Topic filters that it may publish to, with {device}, {application}, {clientid} and {username}. " +
			"Absent: #.",
		"Device.subscribe":          "Topic filters that it may subscribe to, with the same placeholders. Absent: #.",
		"User.name":                 "1 to 128 bytes of text without @, /, + and #.",
		"User.read":                 "Applications whose log it may read; * at the end stands for any rest.",
		"User.write":                "Applications whose devices it may command; * at the end stands for any rest.",
		"Credential.id":             "Names the credential among those of its holder.",
		"Credential.fingerprint":    "SHA-256 of the certificate, in hexadecimal.",
		"Credential.subject":        "Subject of the certificate, where it was given whole.",
		"NewCredential.password":    "For the kinds password and scram-sha-256. Absent: one is made and answered.",
		"NewCredential.certificate": "For the kind certificate: PEM, or the SHA-256 fingerprint in hexadecimal.",
		"issued.secret":             "The key or password that was made. It is shown here only, and kept as a hash.",
		"issuedToken.secret":        "The token. It is shown here only, and kept as a hash.",
		"Token.name":                "1 to 64 of a-z, 0-9 and -.",
		"Token.lastUsed":            "Set by the gateway, to the minute.",
		"newToken.name":             "1 to 64 of a-z, 0-9 and -.",
		"Connection.listener":       "Name of the listener.",
		"Connection.protocol":       "mqtt/3.1.1 or mqtt/5.",
		"Connection.namespace":      "With the client id it names the session: the application, or user:<name>.",
		"Connection.clientId":       "Client id.",
		"Connection.principal":      "Who authenticated.",
		"Connection.device":         "The device, where it is one's.",
		"Connection.method":         "How it authenticated.",
		"Connection.peer":           "Address and port; absent: nobody is connected.",
		"Connection.since":          "When the connection began, or ended.",
		"Connection.online":         "Somebody is connected; else the session is kept.",
		"Connection.expires":        "When the session is forgotten, where nobody is connected.",
		"Connection.subscriptions":  "Subscriptions of the session.",
		"Connection.queuedMessages": "Messages that wait for it.",
		"Connection.queuedBytes":    "The same in bytes of payload and topic.",
		"Connection.inFlight":       "Messages sent to it and not acknowledged.",
		"Group.quarantine":          "It reads the quarantine and not the events.",
		"Group.name":                "s.<group> is a shared group, c.<…> a client's own.",
		"Group.position":            "First offset that is not acknowledged.",
		"Group.lag":                 "Records that are not acknowledged.",
		"Group.members":             "Connected members.",
		"Group.inFlight":            "Records handed out and not acknowledged.",
		"problem.type":              "about:blank.",
		"problem.title":             "What the status means.",
		"problem.status":            "The HTTP status.",
		"problem.detail":            "What was wrong, and what to do.",
		"problem.field":             "The member or parameter that is wrong.",
	}
	if about, ok := own[typ+"."+member]; ok {
		return about
	}
	return shared[member]
}
