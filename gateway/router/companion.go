package router

import "tributary.io/gateway/stage"

// prepare adds to the shard's batch what the listeners need committed along, and
// returns the messages to devices that are due after the commit.
func (s *shard) prepare(j *job, p *plan) (due []stage.Prepared) {
	if j.along != nil {
		j.along.Prepare(&s.batch)
	}
	if len(p.publishes) == 0 {
		return nil
	}
	due = make([]stage.Prepared, len(p.publishes))
	for i, m := range p.publishes {
		due[i] = s.r.down.Prepare(j.in.Event.Application, j.in.Transport.ClientID, m, &s.batch)
	}
	return due
}

// committed tells the companion of an event that is accepted.
func (j *job) committed(out *stage.Outcome) {
	if j.along != nil && !out.Code.Refused() {
		j.along.Committed()
	}
}

// withdraw undoes prepare.
func (j *job) withdraw(due []stage.Prepared) {
	if j.along != nil {
		j.along.Withdraw()
	}
	for _, m := range due {
		m.Withdraw()
	}
}
