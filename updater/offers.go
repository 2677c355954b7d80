package updater

import (
	"fmt"

	"github.com/evenkeel-os/evenkeel/release"
)

// Offers is what the repository names, as of the last successful Refresh, for this host.
type Offers struct {
	This     release.Host
	Releases []release.Release // ascending serial
	Known    bool              // the repository's metadata could be read, now or in an earlier run
	Stale    string            // why nothing of it may be installed: its metadata has expired, or was never verified
	Unread   string            // why the last Refresh failed; what was known before is still in force
}

// take remembers what a Source answered. Releases beside an error are there to be shown: a running agent may install no
// more of them than one that starts now.
func (o *Offers) take(rels []release.Release, err error) {
	if o.Known, o.Stale = err == nil, ""; err != nil {
		o.Stale = err.Error()
	}
	if err == nil || rels != nil {
		o.Releases = rels
	}
}

// Newest returns the newest release that may be installed over what runs.
func (o Offers) Newest(r Record, run Running) (release.Release, bool) {
	for i := len(o.Releases) - 1; i >= 0; i-- {
		if o.Judge(o.Releases[i], r, run) == "" {
			return o.Releases[i], true
		}
	}
	return release.Release{}, false
}

// Judge says why rel may not be installed over what runs, as one sentence, or returns "".
func (o Offers) Judge(rel release.Release, r Record, run Running) string {
	if rel.Serial <= run.Serial {
		return fmt.Sprintf("its serial %d is not newer than the running one, %d; a signed downgrade is still a downgrade", rel.Serial, run.Serial)
	}
	if o.Stale != "" {
		return "what the repository said cannot be relied upon any more: " + o.Stale
	}
	if rel.Withdrawn != "" {
		return "it was withdrawn: " + rel.Withdrawn
	}
	if b, ok := r.blocked(rel.Serial); ok {
		return fmt.Sprintf("it is blocked here (%s: %s); \"evenkeel retry %s\" allows it again", b.Outcome, b.Reason, rel.Version)
	}
	if rel.Serial <= r.BlockedUpTo {
		return fmt.Sprintf("everything up to serial %d is blocked here, for too many releases failed; \"evenkeel retry\" allows all of it again", r.BlockedUpTo)
	}
	return rel.Incompatible(o.This)
}

func (o Offers) named(version string) (release.Release, bool) {
	for i := len(o.Releases) - 1; i >= 0; i-- {
		if o.Releases[i].Version == version {
			return o.Releases[i], true
		}
	}
	return release.Release{}, false
}

func (o Offers) withdrawn(serial uint64) string {
	for _, rel := range o.Releases {
		if rel.Serial == serial {
			return rel.Withdrawn
		}
	}
	return ""
}

// summary says in one sentence what there is to install, or why there is nothing.
func (o Offers) summary(r Record, v View) string {
	run := v.Boot.Running
	if rel, ok := o.Newest(r, run); ok {
		return fmt.Sprintf("release %s (serial %d) can be installed", rel.Version, rel.Serial)
	}
	for i := len(o.Releases) - 1; i >= 0; i-- {
		if rel := o.Releases[i]; rel.Serial > run.Serial {
			return fmt.Sprintf("release %s is newer, but %s", rel.Version, o.Judge(rel, r, run))
		}
	}
	switch {
	case o.Unread != "":
		return "the repository could not be read (" + o.Unread + "), and nothing newer was known before"
	case !o.Known:
		return "the repository was not reached yet"
	}
	return fmt.Sprintf("release %s (serial %d) is the newest there is", run.Version, run.Serial)
}

// Failure names the required checks that failed, for a sentence.
func (r Report) Failure() string {
	for _, c := range r.Checks {
		if c.Required && !c.OK {
			return "health check " + c.Name + " failed"
		}
	}
	return "a health check failed"
}
