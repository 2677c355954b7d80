package vmtest

import "context"

// attack is something that goes wrong, or that somebody does, and after which the machine is what it was.
type attack struct {
	reboots bool // it takes a reboot
}

func attacks() map[string]attack { return map[string]attack{} }

func (x *run) attack(context.Context, string) error { return nil }
