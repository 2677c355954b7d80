package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/evenkeel-os/evenkeel/updater"
)

// attack is something that goes wrong, or that somebody does, until the agent has said so. Nothing of the running system may
// change by it, and afterwards everything goes on as if it had not been.
type attack struct {
	begin  func(x *run, ctx context.Context) error
	says   string // on the console, by then
	end    func(x *run, ctx context.Context) error
	reboot bool // it takes a power cycle
}

// attacks are those that scenarios name.
func attacks() map[string]attack {
	return map[string]attack{
		"the timestamp is tampered with": lying("metadata/timestamp.json", `look for releases: .*timestamp`),
		"an index is tampered with":      lying(".index", `write release .* to slot b: .*index`),
		"a pack is tampered with":        lying(".pack", `write release .* to slot b: .*(SHA-256|digest|frame|decode|corrupt|checksum)`),
		"the repository is gone": {
			begin: func(x *run, _ context.Context) error { x.server.Vanish(true); return nil },
			says:  `look for releases: .*cannot fetch`,
			end:   func(x *run, _ context.Context) error { x.server.Vanish(false); return nil },
		},
		"a release is for another machine": {says: `release 2\.0 is newer, but .*other-board`},
		"the state partition is full": {
			begin: (*run).fillState,
			says:  `(?i)no space left`,
			end: func(x *run, ctx context.Context) error {
				return x.ask(ctx, "rm /var/lib/evenkeel/filler && systemctl restart --no-block evenkeel")
			},
		},
		"the state partition is lost": {
			begin:  (*run).loseState,
			says:   `state directory|not mounted|state partition`,
			end:    (*run).makeState,
			reboot: true,
		},
	}
}

// lying changes a byte in each KiB, for an update fetches only what the running slot does not have, of every file whose name
// ends so.
func lying(suffix, says string) attack {
	lie := func(name string, data []byte) []byte {
		if !strings.HasSuffix(name, suffix) || len(data) == 0 {
			return data
		}
		data = bytes.Clone(data)
		for i := min(512, len(data)/2); i < len(data); i += 1024 {
			data[i] ^= 1
		}
		return data
	}
	return attack{
		begin: func(x *run, _ context.Context) error { x.server.Lie(lie); return nil },
		says:  says,
		end:   func(x *run, _ context.Context) error { x.server.Lie(nil); return nil },
	}
}

func (x *run) attack(ctx context.Context, name string) error {
	a, ok := attacks()[name]
	if !ok {
		return fmt.Errorf("nobody knows the attack %q", name)
	}
	if a.begin != nil {
		if err := a.begin(x, ctx); err != nil {
			return err
		}
	}
	if _, err := x.vm.Expect(ctx, a.says); err != nil {
		return err
	}
	if err := x.unchanged(ctx); err != nil {
		return err
	}
	if a.end == nil {
		return nil
	}
	return a.end(x, ctx)
}

// unchanged: the factory's release runs, is the default, and the operator is told what is wrong, before long.
func (x *run) unchanged(ctx context.Context) error {
	for range 20 {
		st, err := x.status(ctx)
		if err != nil {
			return err
		}
		if st.Running != updater.A || st.Default != updater.A || st.Version != x.s.Releases[0].Version {
			return fmt.Errorf("it runs %s in slot %s, default %s", st.Version, st.Running, st.Default)
		}
		if st.Error != "" || strings.Contains(st.Next.Why, "could not") || strings.Contains(st.Next.Why, ", but ") {
			x.Say("%s: status says: %s", x.s.Name, or(st.Error, st.Next.Why))
			return x.holds(updater.A, x.s.Releases[0].Version)
		}
		if err := x.ask(ctx, "sleep 2"); err != nil {
			return err
		}
	}
	return errors.New("its status says of no error")
}

func (x *run) fillState(ctx context.Context) error {
	// dd ends with an error: there is no space left.
	return x.ask(ctx, "dd if=/dev/zero of=/var/lib/evenkeel/filler bs=64k; busybox df /var/lib/evenkeel; systemctl restart --no-block evenkeel")
}

// loseState wipes the state partition while the machine is off, as a medium does that dies.
func (x *run) loseState(ctx context.Context) error {
	if err := x.vm.Ready(ctx); err != nil {
		return err
	}
	x.off()
	f, err := os.OpenFile(x.disk.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	e := x.disk.parts["state"]
	if _, err = f.WriteAt(make([]byte, e.size), e.off); err != nil {
		f.Close()
		return err
	}
	return errors.Join(f.Close(), x.powerOn(ctx))
}

// makeState is what an operator does about it.
func (x *run) makeState(ctx context.Context) error {
	return x.ask(ctx, "mkfs.ext4 -q /dev/disk/by-partlabel/state && systemctl restart var-lib-evenkeel.mount && systemctl restart --no-block evenkeel")
}
