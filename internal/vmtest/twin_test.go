package vmtest

import "testing"

// TestTwin plays every scenario on the machine in Go: it must end as it says.
func TestTwin(t *testing.T) {
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			trace, err := Twin(s)
			for _, b := range trace {
				t.Log(b)
			}
			if err != nil {
				t.Fatal(err)
			}
			if last := trace[len(trace)-1]; last.Slot != s.End.Running {
				t.Errorf("it ends in slot %s, want %s", last.Slot, s.End.Running)
			}
		})
	}
}
