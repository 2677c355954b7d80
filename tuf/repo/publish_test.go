package repo

import (
	"slices"
	"testing"
	"time"
)

func TestInitSignPublish(t *testing.T) {
	w := newWorld(t)
	w.must(w.Init(w.public()))
	w.wantErr(w.Init(w.public()), ErrInput, "there is a repository")
	_, err := w.Publish(w.ctx(), w)
	w.wantErr(err, ErrUnsigned, "root lacks 2 signatures")
	w.signAll()
	p := w.publish()
	if last := p.Files[len(p.Files)-1]; last != "metadata/timestamp.json" {
		t.Errorf("the last file written is %s", last)
	}
	if got := w.sound(); len(got) != 0 {
		t.Errorf("an empty repository has releases %v", got)
	}
	_, err = w.Publish(w.ctx(), w)
	w.wantErr(err, ErrInput, "nothing is staged")
}

func TestReleases(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.release(1)
	w.now = w.now.Add(time.Hour)
	added := w.add(5)
	if !added.Images[1].Reused {
		t.Error("the kernel is the same as in release 1, but its pack was made again")
	}
	if added.Images[0].Reused {
		t.Error("the root image is another one, but was taken for the same")
	}
	w.add(7)
	w.signAll()
	w.publish()
	if got := w.sound(); !slices.Equal(got, []uint64{1, 5, 7}) {
		t.Errorf("published serials %v", got)
	}
	if names, err := w.fs.List("/repo/staged/targets"); err == nil && len(names) > 0 {
		t.Errorf("left in the staging area: %v", names)
	}
}
