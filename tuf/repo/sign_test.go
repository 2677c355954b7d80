package repo

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/evenkeel-os/evenkeel/fixtures"
)

// carry copies metadata/ and staged/metadata/ to another machine, as people do with a stick.
func (w *world) carry() *world {
	there := &world{t: w.t, now: w.now, keys: w.keys}
	there.on(fixtures.NewFS())
	for name, data := range w.files() {
		there.fs.Put(w.at(name), data)
	}
	return there
}

// TestTwoOfThreeOffline has three people sign on three machines, in every order; any two of them suffice.
func TestTwoOfThreeOffline(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}, {0, 2}, {2, 1}, {2, 0, 1}} {
		w := newWorld(t)
		w.ready()
		w.add(1)
		at := w
		for i, person := range order {
			if _, err := w.Publish(w.ctx(), w); i < 2 && !errors.Is(err, ErrUnsigned) {
				t.Fatalf("published after %d of 2 signatures: %v", i, err)
			}
			at = at.carry()
			signed, err := at.Sign(w.keys[RoleReleases][person])
			at.must(err)
			if !slices.Equal(signed, []Role{RoleReleases}) {
				t.Fatalf("person %d signed %v", person, signed)
			}
		}
		w.fs.Put(w.at(stagedName(RoleReleases)), at.files()[stagedName(RoleReleases)])
		w.publish()
		if got := w.sound(); !slices.Equal(got, []uint64{1}) {
			t.Errorf("order %v: hosts see %v", order, got)
		}
	}
}

// TestMerge has two people sign copies at the same time.
func TestMerge(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.add(1)
	a, b := w.carry(), w.carry()
	for i, there := range []*world{a, b} {
		_, err := there.Sign(w.keys[RoleReleases][i])
		there.must(err)
	}
	name := stagedName(RoleReleases)
	for _, there := range []*world{a, b} {
		ids, err := w.Merge(RoleReleases, there.files()[name])
		w.must(err)
		if len(ids) != 1 {
			t.Fatalf("took over %v", ids)
		}
		if ids, err = w.Merge(RoleReleases, there.files()[name]); err != nil || len(ids) != 0 {
			t.Fatalf("took over twice: %v, %v", ids, err)
		}
	}
	w.publish()
	w.sound()
}

func TestMergeRefuses(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.add(1)
	name := stagedName(RoleReleases)
	forged := w.carry()
	_, err := forged.Sign(w.keys[RoleReleases][0])
	forged.must(err)
	bad := bytes.Replace(forged.files()[name], []byte(`"sig":"`), []byte(`"sig":"00`), 1)
	if ids, err := w.Merge(RoleReleases, bad); err != nil || len(ids) != 0 {
		t.Errorf("a damaged signature: took over %v, %v", ids, err)
	}
	other := w.carry()
	_, err = other.Add(other.ctx(), draft(2))
	other.must(err)
	_, err = w.Merge(RoleReleases, other.files()[name])
	w.wantErr(err, ErrInput, "something else")
	_, err = w.Merge(RolePolicy, other.files()[name])
	w.wantErr(err, ErrInput, "nothing is staged for policy")
	_, err = w.Merge(RoleReleases, []byte("{}"))
	w.wantErr(err, ErrInput, "the other copy")
}

func TestSignRefuses(t *testing.T) {
	w := newWorld(t)
	_, err := w.Sign(w.keys[RoleRoot][0])
	w.wantErr(err, ErrInput, "there is no repository here")
	w.ready()
	_, err = w.Sign(w.keys[RoleRoot][0])
	w.wantErr(err, ErrInput, "nothing is staged")
	w.add(1)
	_, err = w.Sign(testKey(t, "stranger", 1))
	w.wantErr(err, ErrKey, "belongs to no role")
	_, err = w.Sign(w.keys[RolePolicy][0])
	w.wantErr(err, ErrKey, "belongs to policy, but what is staged is releases")
	_, err = w.Sign(w.keys[RoleReleases][0], RolePolicy)
	w.wantErr(err, ErrInput, "nothing is staged for policy")
	for i, want := range []int{1, 0} {
		signed, err := w.Sign(w.keys[RoleReleases][0])
		if err != nil || len(signed) != want {
			t.Errorf("signing for the %d. time: %v, %v", i+1, signed, err)
		}
	}
	all, err := w.Pending()
	w.must(err)
	if len(all) != 1 || all[0].Missing != 1 || len(all[0].MayNow) != 2 {
		t.Errorf("after one of two signatures: %+v", all)
	}
}

// TestAnotherDraftVoidsSignatures: nobody has signed what they have not seen.
func TestAnotherDraftVoidsSignatures(t *testing.T) {
	w := newWorld(t)
	w.ready()
	w.add(1)
	w.signAll()
	if added := w.add(2); added.Voided != 2 {
		t.Errorf("%d signatures are said to be void, not 2", added.Voided)
	}
	_, err := w.Publish(w.ctx(), w)
	w.wantErr(err, ErrUnsigned, "releases lacks 2 signatures")
}

// TestTamperedStaging changes what is staged after people signed it.
func TestTamperedStaging(t *testing.T) {
	for name, change := range map[string]struct{ old, new string }{
		"another digest":   {`"sha256":"`, `"sha256":"0000`},
		"another expiry":   {`"expires":"2027`, `"expires":"2037`},
		"another version":  {`"version":2`, `"version":3`},
		"garbage":          {`{"signed"`, `{"sigmed"`},
		"of another type":  {`"_type":"targets"`, `"_type":"root"`},
		"a null target":    {`"targets":{`, `"targets":{"x":null,`},
		"a null signature": {`"signatures":[`, `"signatures":[null,`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ready()
			w.add(1)
			w.signAll()
			file := stagedName(RoleReleases)
			data := w.files()[file]
			if !bytes.Contains(data, []byte(change.old)) {
				t.Fatalf("no %s in %s", change.old, data)
			}
			w.fs.Put(w.at(file), bytes.Replace(data, []byte(change.old), []byte(change.new), 1))
			_, err := w.Publish(w.ctx(), w)
			if name == "a null signature" {
				w.must(err) // it counts for nothing, and the others suffice
			} else if err == nil {
				t.Fatal("published")
			}
			if got := w.sound(); name != "a null signature" && len(got) > 0 {
				t.Errorf("hosts see %v", got)
			}
			_, err = w.Discard()
			w.must(err)
		})
	}
}
