package pebble

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	pebbledb "github.com/cockroachdb/pebble/v2"

	"tributary.io/gateway/metric"
)

// stats are the store's counters, read at scrape time.
type stats struct {
	commits, conflicts, groups, waits    atomic.Uint64
	appended, cutBytes, expired          atomic.Uint64
	background, corruption, stalls, slow atomic.Uint64
	scrubBytes, scrubRounds              atomic.Uint64
	sync                                 metric.Histogram
}

// Metrics returns the store's metrics.
func (s *Store) Metrics() []metric.Sample {
	var set metric.Set
	st := &s.stats
	set.Counter("tributary_store_commits_total", "Commits that became durable.", st.commits.Load())
	set.Counter("tributary_store_commit_groups_total", "Groups of commits, each of which cost one fsync.", st.groups.Load())
	set.Counter("tributary_store_commit_conflicts_total", "Commits refused because a key had changed.", st.conflicts.Load())
	set.Counter("tributary_store_commit_waits_total", "Times a commit waited for room.", st.waits.Load())
	set.Counter("tributary_store_appended_bytes_total", "Bytes of the records appended to logs.", st.appended.Load())
	set.Counter("tributary_store_retention_removed_bytes_total", "Bytes of the records that retention removed.", st.cutBytes.Load())
	set.Counter("tributary_store_expired_keys_total", "Expired keys that were removed.", st.expired.Load())
	set.Counter("tributary_store_write_stalls_total", "Times writing stopped until compaction caught up.", st.stalls.Load())
	set.Counter("tributary_store_slow_writes_total", "Writes to the disk that took very long.", st.slow.Load())
	set.Counter("tributary_store_background_errors_total", "Errors of flushes, compactions and housekeeping.", st.background.Load())
	set.Counter("tributary_store_corruptions_total", "Damaged files found, by the scrub or when they were read.", st.corruption.Load())
	set.Counter("tributary_store_scrub_bytes_total", "Bytes of tables that the scrub compared with their checksums.", st.scrubBytes.Load())
	set.Counter("tributary_store_scrub_rounds_total", "Rounds of the scrub over all tables.", st.scrubRounds.Load())
	set.Histogram("tributary_store_sync_seconds", "Time to make a group of commits durable.", &st.sync)
	failed := 0.0
	if s.fs.failure() != nil {
		failed = 1
	}
	set.Gauge("tributary_store_failed", "1 when the store refuses writes.", failed)
	set.Gauge("tributary_store_damaged_files", "Files in use that are known to be damaged.", float64(len(s.damage.list())))

	s.mu.Lock()
	set.Gauge("tributary_store_pending_commits", "Commits that wait for the next fsync.", float64(s.open.commits))
	set.Gauge("tributary_store_pending_bytes", "Bytes that wait for the next fsync.", float64(s.open.batch.Len()))
	for _, l := range s.logs {
		label := metric.Label{Name: "log", Value: string(l.name)}
		set.Gauge("tributary_store_log_bytes", "Bytes of the records in a log.", float64(l.total-l.base), label)
		set.Gauge("tributary_store_log_records", "Records in a log.", float64(l.next-l.first), label)
	}
	s.mu.Unlock()

	if s.readers.enter() == nil {
		defer s.readers.leave()
		set.Gauge("tributary_store_disk_bytes", "Bytes that the store takes on disk.", float64(s.db.Metrics().DiskSpaceUsage()))
	}
	return set
}

// Failure is why the store refuses writes since, nil while it takes them.
func (s *Store) Failure() error { return s.fs.failure() }

func (s *Store) listener() *pebbledb.EventListener {
	return &pebbledb.EventListener{
		BackgroundError: func(err error) {
			if s.Failure() == nil { // else it only misses what was not written
				s.note("background work", err)
			}
		},
		DataCorruption: func(i pebbledb.DataCorruptionInfo) {
			if s.Failure() != nil {
				return // of a file that is not all on disk, and not needed after a restart
			}
			s.found(i.Path, i.Details)
		},
		DiskSlow: func(i pebbledb.DiskSlowInfo) {
			s.stats.slow.Add(1)
			s.log.Warn("store: the disk is slow", "file", i.Path, "took", i.Duration)
		},
		WriteStallBegin: func(i pebbledb.WriteStallBeginInfo) {
			s.stats.stalls.Add(1)
			s.log.Warn("store: writes wait for compaction", "reason", i.Reason)
		},
	}
}

// Damaged returns the files in use that are known to be damaged, nil while there are none.
// Only what is in them is lost: the store reads and writes the rest.
func (s *Store) Damaged() []string { return s.damage.list() }

// found notes a damaged file. Each one is logged and counted once, however often it is read.
func (s *Store) found(path string, err error) {
	if s.damage.add(path) {
		s.stats.corruption.Add(1)
		s.log.Error("store: a file is damaged: restore a backup, on another disk unless this one is known to be good",
			"file", path, "error", err)
	}
}

// dbLogger is pebble's way to speak. Fatalf returns, against pebble's wish:
// the frozen file system keeps what follows from doing harm.
type dbLogger struct{ s *Store }

func (l dbLogger) Infof(string, ...any) {}

func (l dbLogger) Errorf(format string, args ...any) {
	l.s.log.Error("store: pebble", slog.String("error", fmt.Sprintf(format, args...)))
}

func (l dbLogger) Fatalf(format string, args ...any) {
	l.s.fs.freeze(fmt.Errorf("pebble: "+format, args...))
}
