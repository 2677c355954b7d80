package updater_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel-os/evenkeel/release"
	"github.com/evenkeel-os/evenkeel/updater"
)

// golden reads a record as some agent wrote it. Files in testdata are never changed, only added: hosts hold them.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustDecode(t testing.TB, b []byte) updater.Record {
	t.Helper()
	r, err := updater.DecodeRecord(b, updater.Schema)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustEncode(t testing.TB, r updater.Record) []byte {
	t.Helper()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// canonical makes two spellings of the same JSON equal.
func canonical(t testing.TB, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestRecordsOfOtherAgentsAreWrittenBackAsTheyWere(t *testing.T) {
	for _, name := range []string{"schema1-idle.json", "schema1-trial.json", "schema2-staged.json"} {
		b := golden(t, name)
		if got, want := canonical(t, mustEncode(t, mustDecode(t, b))), canonical(t, b); got != want {
			t.Errorf("%s became\n%s", name, got)
		}
	}
}

// TestOlderAgentAfterARollback: the agent of schema 2 staged an update and left; this one, of schema 1, runs again and
// finishes it. What it does not know is still there.
func TestOlderAgentAfterARollback(t *testing.T) {
	r := mustDecode(t, golden(t, "schema2-staged.json"))
	v := updater.View{
		Running: updater.A, Boot: updater.Boot{ID: "now"}, Caps: updater.Caps{MaxTries: 3}, Intent: updater.Intent{Verb: updater.Cancel},
		Loader: updater.BootState{Default: updater.A, EnabledA: true}, Settings: updater.Settings{Tries: 3, MaxAttempts: 5, Deadline: time.Minute},
	}
	s := updater.Next(r, v)
	if s.Do != updater.DoSave || s.Record.Phase != updater.Closing {
		t.Fatalf("cancel leads to %+v", s)
	}
	closing := canonical(t, mustEncode(t, *s.Record))
	for _, unknown := range []string{`"x_txn": "kept"`, `"x_release": "kept"`, `"x_lease": "kept"`, `"x_slot": "kept"`, `"x_record": {`} {
		if !strings.Contains(closing, unknown) {
			t.Errorf("%s was lost:\n%s", unknown, closing)
		}
	}
	v.Intent = updater.Intent{}
	s = updater.Next(mustDecode(t, []byte(closing)), v)
	if s.Do != updater.DoSave || s.Record.Phase != updater.Idle || s.Record.Schema != 2 {
		t.Fatalf("closing leads to %+v", s)
	}
	if idle := canonical(t, mustEncode(t, *s.Record)); !strings.Contains(idle, `"x_lease": "kept"`) || strings.Contains(idle, `"x_txn"`) {
		t.Errorf("the lease goes into the outbox as it was, and the transaction goes:\n%s", idle)
	}
}

func TestTransactionKeepsTheSchemaOfItsAgent(t *testing.T) {
	r := mustDecode(t, golden(t, "schema2-staged.json"))
	if r.Txn.Schema != 2 || mustDecode(t, mustEncode(t, r)).Txn.Schema != 2 {
		t.Errorf("the transaction is of schema %d now", r.Txn.Schema)
	}
}

func TestMinReader(t *testing.T) {
	b := []byte(`{"schema":3,"min_reader":2,"phase":"idle","next_txn":1}`)
	if _, err := updater.DecodeRecord(b, 1); !errors.Is(err, updater.ErrNewerRecord) {
		t.Errorf("an agent that reads 1 gets %v", err)
	}
	if _, err := updater.DecodeRecord(b, 2); err != nil {
		t.Errorf("an agent that reads 2 gets %v", err)
	}
}

func TestMinReaderRisesOnlyWhenBothSlotsCanRead(t *testing.T) {
	for _, c := range []struct {
		phase updater.Phase
		a, b  int
		want  int
	}{
		{updater.Idle, 2, 2, 2},
		{updater.Idle, 3, 2, 2},
		{updater.Idle, 2, 1, 1},
		{updater.Idle, 1, 2, 1},
		{updater.Idle, 2, 0, 1}, // nobody knows what the other slot reads
		{updater.Staged, 2, 2, 1},
	} {
		r := updater.Record{MinReader: 1, Phase: c.phase, Slots: map[updater.Slot]updater.SlotRecord{updater.A: {Reads: c.a}, updater.B: {Reads: c.b}}}
		if r.RaiseMinReader(2); r.MinReader != c.want {
			t.Errorf("%s, a reads %d, b reads %d: min_reader is %d, want %d", c.phase, c.a, c.b, r.MinReader, c.want)
		}
	}
}

func TestUnreadableRecords(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{``, "unexpected end"},
		{`[]`, "cannot unmarshal"},
		{`{}`, `unknown phase ""`},
		{`{"phase":"dancing"}`, `unknown phase "dancing"`},
		{`{"phase":"idle","txn":{"from":"a","slot":"b","tries":1}}`, `phase "idle" with a transaction`},
		{`{"phase":"trial"}`, `phase "trial" without a sound transaction`},
		{`{"phase":"trial","txn":{"from":"a","slot":"a","tries":1}}`, `phase "trial" without a sound transaction`},
		{`{"phase":"trial","txn":{"from":"a","slot":"b"}}`, `phase "trial" without a sound transaction`},
	} {
		if _, err := updater.DecodeRecord([]byte(c.record), updater.Schema); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.record, err, c.want)
		}
	}
}

// TestRecordFits: what is only for people goes first, and what decides stays.
func TestRecordFits(t *testing.T) {
	r := mustDecode(t, golden(t, "schema1-trial.json"))
	for i := range 40 {
		r.Txn.Checks = append(r.Txn.Checks, updater.Check{Name: fmt.Sprint("check ", i), Required: true, Output: strings.Repeat("x", 900)})
	}
	b := mustEncode(t, r)
	if len(b) > updater.MaxRecord {
		t.Fatalf("it has %d bytes", len(b))
	}
	got := mustDecode(t, b)
	if n := len(got.Txn.Checks); n != 40 || got.Txn.Checks[39].Name != "check 39" {
		t.Errorf("%d checks are left", n)
	}
	if got.Phase != r.Phase || !reflect.DeepEqual(got.Txn.Release, r.Txn.Release) || len(got.Blocked) != len(r.Blocked) {
		t.Errorf("more than output was lost: %+v", got)
	}
	if len(r.Txn.Checks[0].Output) != 900 {
		t.Error("encoding changed the record itself")
	}
}

// TestAFailureIsSavedWhateverItSays: a trial that failed a thousand checks is reverted as one that failed one, and those
// that failed are what is kept.
func TestAFailureIsSavedWhateverItSays(t *testing.T) {
	long := strings.Repeat("\"<é", 2000)
	s := in(updater.InTrial, probed(updater.Sick))
	checks := make([]updater.Check, 1000)
	for i := range checks {
		checks[i] = updater.Check{Name: fmt.Sprint(i, long), Required: i > 900, OK: i%100 != 50 && i != 999, Output: long, Took: time.Hour}
	}
	s.v.Session.Report.Checks = checks
	for i := range 16 {
		s.r.Blocked = append(s.r.Blocked, updater.Blocked{Version: "v", Serial: uint64(i), Reason: long})
	}
	s.r.Last = &updater.Closed{Reason: long, Checks: checks}
	for range 2 { // Reverting, and Closing after the reboot
		step := updater.Next(s.r, s.v)
		if step.Do != updater.DoSave {
			t.Fatalf("%+v", step)
		}
		if c := step.Record.Txn.Checks; len(c) != 32 || !strings.HasPrefix(c[0].Name, "950") || !strings.HasPrefix(c[1].Name, "999") || !strings.HasPrefix(c[2].Name, "50") || len(c[0].Name) > 64 {
			t.Errorf("%d checks are kept, the first %+v", len(c), c[0])
		}
		s.r = mustDecode(t, mustEncode(t, *step.Record))
		if s.r.Txn.Outcome != updater.Unhealthy || s.r.Txn.Reason == "" {
			t.Errorf("what is saved is %+v", s.r.Txn)
		}
		s.r.Txn.Checks = step.Record.Txn.Checks
		s.v.Running, s.v.Loader = updater.A, updater.BootState{Default: updater.A, EnabledA: true}
	}
}

// TestLongReasons: how a reason begins and how it ends is kept.
func TestLongReasons(t *testing.T) {
	s := in(updater.Armed, panicked)
	s.v.Boot.ID, s.v.Boot.Reset.Detail = "next", strings.Repeat("x", 9000)+" end"
	step := updater.Next(s.r, s.v)
	if why := step.Record.Txn.Reason; len(why) > 512 || !strings.HasPrefix(why, "its kernel panicked: x") || !strings.HasSuffix(why, "x end") {
		t.Errorf("%d bytes: %s", len(why), why)
	}
}

func TestRecordThatCannotFit(t *testing.T) {
	r := mustDecode(t, golden(t, "schema1-trial.json"))
	for i := range 200 {
		r.Txn.Release.Images = append(r.Txn.Release.Images, release.Image{Role: release.Role(fmt.Sprint("r", i)), Index: strings.Repeat("i", 80)})
	}
	if b, err := r.Encode(); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, name := range []string{"schema1-idle.json", "schema1-trial.json", "schema2-staged.json"} {
		f.Add(golden(f, name))
	}
	f.Add([]byte(`{"PHASE":"idle","phase":"idle","slots":{"c":null},"outbox":[{"Txn":1,"x":[]}],"blocked":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := updater.DecodeRecord(b, updater.Schema)
		if err != nil {
			return
		}
		once, err := r.Encode()
		if err != nil {
			return // too large
		}
		again, err := updater.DecodeRecord(once, updater.Schema)
		if err != nil {
			t.Fatalf("%s became unreadable: %v\n%s", b, err, once)
		}
		if twice := mustEncode(t, again); !bytes.Equal(once, twice) {
			t.Fatalf("it changes:\n%s\n%s", once, twice)
		}
	})
}
