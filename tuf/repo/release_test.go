package repo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAddRefuses(t *testing.T) {
	for want, change := range map[string]func(*Draft){
		"serial 3 does not grow: edge 1.4.0 has serial 4, so use 5 or more": func(d *Draft) { d.Rel.Serial = 3 },
		"serial 4 does not grow":       func(d *Draft) { d.Rel.Serial = 4 },
		"version 1.4.0 exists already": func(d *Draft) { d.Rel.Version = "1.4.0" },
		"is called \"amd64\" here":     func(d *Draft) { d.Rel.Architecture = "x86_64" },
		"has no image":                 func(d *Draft) { d.Sources = nil },
		"it is empty":                  func(d *Draft) { d.Sources[0].Size = 0 },
		"names no kernel":              func(d *Draft) { d.Rel.Boot.Kernel = "" },
		"cannot read the image of role root: it ends at byte 100000 of 200000": func(d *Draft) { d.Sources[0].Size = 200_000 },
	} {
		w := newWorld(t)
		w.ready()
		w.release(4)
		d := draft(9)
		change(&d)
		_, err := w.Add(w.ctx(), d)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
		if all, err := w.Pending(); err != nil || len(all) > 0 {
			t.Errorf("%s: staged %v, %v", want, all, err)
		}
	}
}

// TestAddOtherProducts: serials grow within a product; versions are taken within what a host may be.
func TestAddOtherProducts(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(4)
	other := draft(1)
	other.Rel.Product = "gateway"
	arm := draft(5)
	arm.Rel.Architecture, arm.Rel.Version = "arm64", "1.4.0"
	board := draft(6)
	board.Rel.Compatible, board.Rel.Version = []string{"board-2"}, "1.4.0"
	for _, d := range []Draft{other, arm, board} {
		_, err := w.Add(w.ctx(), d)
		w.must(err)
	}
	w.signAll()
	w.publish()
	if got := w.sound(); len(got) != 4 {
		t.Errorf("hosts see %v", got)
	}
}

func TestAddBeforePublish(t *testing.T) {
	w := newWorld(t)
	_, err := w.Add(w.ctx(), draft(1))
	w.wantErr(err, ErrInput, "there is no repository here")
	w.must(w.Init(w.public()))
	_, err = w.Add(w.ctx(), draft(1))
	w.wantErr(err, ErrInput, "never published")
}

func TestAddCancelled(t *testing.T) {
	w := newWorld(t)
	w.ready()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Add(ctx, draft(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestImageChangesWhileAdding: the index is of other bytes than those that were hashed first.
func TestImageChangesWhileAdding(t *testing.T) {
	w := newWorld(t)
	w.ready()
	d := draft(1)
	d.Sources[0].Bytes = &fickle{ReaderAt: bytes.NewReader(randomImage(100_000, 1)), after: 1}
	_, err := w.Add(w.ctx(), d)
	if err == nil || !strings.Contains(err.Error(), "image of role root") {
		t.Fatalf("got %v", err)
	}
	if names, _ := w.fs.List("/repo/staged/targets"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// fickle returns other bytes after some reads.
type fickle struct {
	*bytes.Reader
	ReaderAt *bytes.Reader
	after    int
}

func (f *fickle) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if f.after--; f.after < 0 && n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func TestWithdraw(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(1)
	w.release(2)
	rel, err := w.Withdraw("", "1.1.0", "it eats disks")
	w.must(err)
	if rel.Serial != 1 {
		t.Errorf("withdrew %+v", rel)
	}
	l, err := w.List()
	w.must(err)
	if l.Releases[0].State != StateStaged || l.Releases[0].Missing != 2 || l.Releases[1].State != StatePublished {
		t.Errorf("before signing: %+v", l.Releases)
	}
	w.signAll()
	w.publish()
	if got := w.sound(); len(got) != 2 {
		t.Errorf("hosts see %v: a withdrawn release stays, to be read", got)
	}
	l, err = w.List()
	w.must(err)
	if got := l.Releases[0]; got.State != StateWithdrawn || got.Withdrawn != "it eats disks" || !got.Added.Equal(w.now) {
		t.Errorf("withdrawn: %+v", got)
	}
	_, err = w.Withdraw("", "1", "again")
	w.wantErr(err, ErrInput, "withdrawn already: it eats disks")
	_, err = w.Withdraw("", "2", " ")
	w.wantErr(err, ErrInput, "say why")
	_, err = w.Withdraw("", "3", "x")
	w.wantErr(err, ErrInput, `there is no release "3"`)
	_, err = w.Withdraw("other", "2", "x")
	w.wantErr(err, ErrInput, `of product "other"`)
}

func TestWithdrawAmbiguous(t *testing.T) {
	w := newWorld(t)
	w.ready()
	for i, product := range []string{"edge", "gateway"} {
		d := draft(uint64(i + 1))
		d.Rel.Product, d.Rel.Version = product, "1.0"
		_, err := w.Add(w.ctx(), d)
		w.must(err)
	}
	_, err := w.Withdraw("", "1.0", "x")
	w.wantErr(err, ErrInput, "may be edge serial 1 (1.0, amd64) or gateway serial 2")
	rel, err := w.Withdraw("gateway", "1.0", "x")
	if err != nil || rel.Product != "gateway" {
		t.Errorf("withdrew %+v, %v", rel, err)
	}
}

func TestRenew(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(1)
	w.now = w.now.Add(300 * day)
	_, err := w.Renew(RoleTimestamp)
	w.wantErr(err, ErrInput, "renewed by refresh")
	roles, err := w.Renew()
	w.must(err)
	if len(roles) != 6 {
		t.Errorf("renewed %v", roles)
	}
	w.signAll()
	w.publish()
	w.now = w.now.Add(360 * day) // 660 days after init: only what was renewed is still good
	_, err = w.Refresh(w.ctx(), w, true)
	w.must(err)
	w.sound()
}

// TestExpired: what hosts would refuse is not published, and the way out is to renew it.
func TestExpired(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(1)
	w.now = w.now.Add(366 * day)
	_, err := w.Refresh(w.ctx(), w, true)
	w.wantErr(err, ErrInvalid, "expired")
	w.add(2)
	w.signAll()
	_, err = w.Publish(w.ctx(), w)
	w.wantErr(err, ErrInvalid, "expired")
	_, err = w.Discard()
	w.must(err)
	_, err = w.Renew()
	w.must(err)
	w.signAll()
	w.publish()
	w.sound()
}

// TestOthersExpired: an expired role that no release depends on is a warning, not an obstacle.
func TestOthersExpired(t *testing.T) {
	w := newWorld(t)
	w.o.Lifetimes = map[Role]time.Duration{RolePolicy: day}
	w.ready()
	w.now = w.now.Add(2 * day)
	p := w.release(1)
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "policy expired at 2026-11-25T12:00:00Z: renew it") {
		t.Errorf("warnings %q", p.Warnings)
	}
	v, err := w.Verify(w.ctx(), VerifyOptions{})
	w.must(err)
	if len(v.Problems) != 1 || v.Problems[0].Where != "metadata/1.policy.json" || v.Problems[0].Hint != "run renew policy, sign and publish" {
		t.Errorf("problems %+v", v.Problems)
	}
}

// TestClockBehind: metadata made by a clock that is behind would be older than what it replaces.
func TestClockBehind(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.now = w.now.Add(-time.Hour)
	_, err := w.Refresh(w.ctx(), w, false)
	w.wantErr(err, ErrInput, "set the clock")
	_, err = w.Add(w.ctx(), draft(1))
	w.wantErr(err, ErrInput, "set the clock")
}

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	w.ready()
	for range 4 {
		w.now = w.now.Add(6 * day)
		_, err := w.Refresh(w.ctx(), w, false)
		w.must(err)
	}
	s, err := w.load()
	w.must(err)
	// Half of the snapshot's 30 days were over at the third refresh, 18 days on.
	if s.version(RoleTimestamp) != 5 || s.version(RoleSnapshot) != 2 {
		t.Errorf("timestamp %d, snapshot %d; want 5 and 2", s.version(RoleTimestamp), s.version(RoleSnapshot))
	}
	w.sound()
	w.now = w.now.Add(8 * day)
	v, err := w.Verify(w.ctx(), VerifyOptions{})
	w.must(err)
	if len(v.Problems) != 2 || !strings.Contains(v.Problems[0].What, "expired") || v.Problems[0].Hint != "run refresh" || v.Problems[1].Where != "client" {
		t.Errorf("after 8 days without refresh: %+v", v.Problems)
	}
}

// TestPublishOne leaves the other staged role alone.
func TestPublishOne(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.add(1)
	_, err := w.Renew(RolePolicy)
	w.must(err)
	for _, s := range w.keys[RoleReleases][:2] {
		_, err := w.Sign(s)
		w.must(err)
	}
	_, err = w.Publish(w.ctx(), w)
	w.wantErr(err, ErrUnsigned, "policy lacks 2 signatures")
	_, err = w.Publish(w.ctx(), w, RoleReleases)
	w.must(err)
	if got := w.sound(); len(got) != 1 {
		t.Errorf("hosts see %v", got)
	}
	all, err := w.Pending()
	w.must(err)
	if len(all) != 1 || all[0].Role != RolePolicy {
		t.Errorf("still staged: %+v", all)
	}
	_, err = w.Publish(w.ctx(), w, RoleBrake)
	w.wantErr(err, ErrInput, "nothing is staged for brake")
}

// TestSomebodyElsePublished: two copies of a repository, and both publish.
func TestSomebodyElsePublished(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.add(1)
	mine := w.files()[stagedName(RoleReleases)]
	_, err := w.Discard()
	w.must(err)
	w.release(2)
	w.fs.Put(w.at(stagedName(RoleReleases)), mine)
	_, err = w.Publish(w.ctx(), w)
	w.wantErr(err, ErrInvalid, "somebody else published meanwhile")
	_, err = w.Discard()
	w.must(err)
	w.release(3)
	w.sound()
}

func TestLock(t *testing.T) {
	w := newWorld(t)
	held := errors.New("held")
	w.o.Lock = func() (func(), error) { return nil, held }
	for name, verb := range map[string]func() error{
		"init":     func() error { return w.Init(w.public()) },
		"add":      func() error { _, err := w.Add(w.ctx(), draft(1)); return err },
		"sign":     func() error { _, err := w.Sign(w.keys[RoleRoot][0]); return err },
		"merge":    func() error { _, err := w.Merge(RoleRoot, nil); return err },
		"publish":  func() error { _, err := w.Publish(w.ctx(), w); return err },
		"refresh":  func() error { _, err := w.Refresh(w.ctx(), w, true); return err },
		"renew":    func() error { _, err := w.Renew(); return err },
		"withdraw": func() error { _, err := w.Withdraw("", "1", "x"); return err },
		"discard":  func() error { _, err := w.Discard(); return err },
	} {
		if err := verb(); !errors.Is(err, held) {
			t.Errorf("%s does not take the lock: %v", name, err)
		}
	}
}
