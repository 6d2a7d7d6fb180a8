package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// The registry's keys in the store. Names hold no slash.
//
//	registry/application/<application>
//	registry/decoy
//	registry/device/<application>/<device>
//	registry/purging/<application>
//	registry/retired/<application>
//	registry/token/<token>
//	registry/used/<token>
//	registry/user/<user>
//
// A value is JSON with the version of its form in "v". A later version of
// Tributary reads what an earlier one wrote; see testdata/records.
const (
	keySpace       = "registry/"
	applicationKey = keySpace + "application/"
	decoyKey       = keySpace + "decoy"
	deviceKey      = keySpace + "device/"
	purgingKey     = keySpace + "purging/"
	retiredKey     = keySpace + "retired/"
	tokenKey       = keySpace + "token/"
	usedKey        = keySpace + "used/"
	userKey        = keySpace + "user/"
)

const recordVersion = 1

type version struct {
	Version int `json:"v"`
}

type applicationRecord struct {
	version
	resource.Application
}

type deviceRecord struct {
	version
	resource.Device
	Credentials []credentialRecord `json:"credentials,omitempty"`
}

type userRecord struct {
	version
	resource.User
	Credentials []credentialRecord `json:"credentials,omitempty"`
}

type credentialRecord struct {
	resource.Credential
	Secret string `json:"secret"`
}

type tokenRecord struct {
	version
	resource.Token
	Hash string `json:"hash"`
}

type retiredRecord struct {
	version
	RetentionSeconds int64 `json:"retentionSeconds"`
	RetentionBytes   int64 `json:"retentionBytes"`
}

// purgingRecord is there from the deletion of an application until all of it is
// purged, so that a crash in between delays the purge and does not end it.
type purgingRecord struct{ version }

func (rec *retiredRecord) retention() retention {
	return retention{time.Duration(rec.RetentionSeconds) * time.Second, rec.RetentionBytes}
}

func toRecords(list []credential) []credentialRecord {
	records := make([]credentialRecord, len(list))
	for i, c := range list {
		records[i] = credentialRecord{c.Credential, c.secret}
	}
	return records
}

func fromRecords(records []credentialRecord) []credential {
	if len(records) == 0 {
		return nil
	}
	list := make([]credential, len(records))
	for i, c := range records {
		list[i] = credential{c.Credential, c.Secret}
	}
	return list
}

// encode writes a record; records are made of nothing that JSON lacks.
func encode(record any) []byte {
	b, err := json.Marshal(record)
	if err != nil {
		return nil // the store then holds an empty record, which load refuses
	}
	return b
}

// decode reads a record, and tells what it cannot be.
func decode(value []byte, record any, v *version) error {
	if err := json.Unmarshal(value, record); err != nil {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	if v.Version != recordVersion {
		return fmt.Errorf("it has version %d, this program knows version %d: was it written by a later one?", v.Version, recordVersion)
	}
	return nil
}

// load takes in what the store holds, after declare.
func (r *Registry) load() error {
	var failed error
	hidden, orphans := 0, 0
	err := r.store.Scan(store.Meta, keySpace, func(name string, value []byte, rev store.Revision) bool {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(name, keySpace), "/")
		outcome, err := r.loadOne(keySpace+kind+"/", rest, value, revision(rev))
		if err != nil {
			failed = fmt.Errorf("entry %q: %w", name, err)
		}
		switch outcome {
		case entryHidden:
			hidden++
		case entryOrphan:
			orphans++
		}
		return err == nil
	})
	if hidden > 0 {
		r.log.Info("entries of the registry are hidden by entries of the same name in gateway.toml", "entries", hidden)
	}
	if orphans > 0 {
		r.log.Warn("devices are kept whose application is neither in gateway.toml nor in the registry any more; they come back with it",
			"devices", orphans)
	}
	return errors.Join(err, failed)
}

// revision writes a store's revision as entries show it.
func revision(rev store.Revision) string { return strconv.FormatUint(uint64(rev), 36) }

// keepDecoy makes r.decoy and stores it. If it did not outlive restarts, a client that asks
// before and after one could tell which SCRAM keys are real.
func (r *Registry) keepDecoy() error {
	key := store.Key{Kind: store.Meta, Name: decoyKey}
	var err error
	if r.decoy, _, err = r.store.Get(key); err == nil && r.decoy == nil {
		r.decoy = []byte(random(secretChars))
		err = store.CommitWait(r.store, &store.Batch{Puts: []store.Put{{Key: key, Value: r.decoy}}})
	}
	if err != nil {
		return fmt.Errorf("keeping a secret of the registry: %w", err)
	}
	return nil
}

type loaded uint8

const (
	entryTaken loaded = iota
	entryHidden
	entryOrphan
)

func (r *Registry) loadOne(kind, name string, value []byte, rev string) (loaded, error) {
	switch v := r.view.Load(); kind {
	case applicationKey:
		var rec applicationRecord
		if err := decode(value, &rec, &rec.version); err != nil {
			return 0, err
		}
		if v.apps[name] != nil {
			return entryHidden, nil
		}
		rec.Name, rec.Revision = name, rev
		v.apps[name] = newApplication(rec.Application)
	case deviceKey:
		return r.loadDevice(name, value, rev)
	case userKey:
		var rec userRecord
		if err := decode(value, &rec, &rec.version); err != nil {
			return 0, err
		}
		if _, ok := r.users.get(name); ok {
			return entryHidden, nil
		}
		rec.Name, rec.Revision = name, rev
		r.placeUser(newUser(rec.User, fromRecords(rec.Credentials)), nil)
	case tokenKey:
		var rec tokenRecord
		if err := decode(value, &rec, &rec.version); err != nil {
			return 0, err
		}
		if v.tokens[name] != nil {
			return entryHidden, nil
		}
		sum, ok := parseSum(rec.Hash)
		if !ok {
			return 0, fmt.Errorf("%w: its hash is none", store.ErrCorrupt)
		}
		rec.Name, rec.Revision = name, rev
		v.tokens[name] = &token{Token: rec.Token, sum: sum, used: &atomic.Int64{}}
	case usedKey:
		if t := v.tokens[name]; t != nil {
			minutes, _ := strconv.ParseInt(string(value), 10, 64)
			t.used.Store(minutes)
		}
	case retiredKey:
		var rec retiredRecord
		if err := decode(value, &rec, &rec.version); err != nil {
			return 0, err
		}
		v.retired[name] = rec.retention()
	case purgingKey:
		var rec purgingRecord
		if err := decode(value, &rec, &rec.version); err != nil {
			return 0, err
		}
		v.purging[name] = true
	}
	return entryTaken, nil
}

func (r *Registry) loadDevice(name string, value []byte, rev string) (loaded, error) {
	d, err := readDevice(name, value, rev)
	if err != nil {
		return 0, err
	}
	app := r.view.Load().apps[d.Application]
	if app == nil {
		return entryOrphan, nil
	}
	if _, ok := app.devices.get(d.Name); ok {
		return entryHidden, nil
	}
	r.place(app, d, nil)
	return entryTaken, nil
}

// readDevice reads the record of a device; name is its application's and its own.
func readDevice(name string, value []byte, rev string) (*device, error) {
	var rec deviceRecord
	if err := decode(value, &rec, &rec.version); err != nil {
		return nil, err
	}
	rec.Application, rec.Name, _ = strings.Cut(name, "/")
	rec.Revision = rev
	return newDevice(rec.Device, fromRecords(rec.Credentials)), nil
}

// orphans returns the devices that the store holds of an application that is not
// there: those that were made while a file declared it.
func (r *Registry) orphans(application string) (list []*device, err error) {
	var failed error
	err = r.store.Scan(store.Meta, deviceKey+application+"/", func(name string, value []byte, rev store.Revision) bool {
		d, err := readDevice(strings.TrimPrefix(name, deviceKey), value, revision(rev))
		if err != nil {
			failed = fmt.Errorf("entry %q: %w", name, err)
			return false
		}
		list = append(list, d)
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("reading the devices that application %s had: %w", application, err)
	}
	return list, nil
}
