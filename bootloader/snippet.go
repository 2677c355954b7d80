package bootloader

import (
	_ "embed"
	"slices"
)

//go:embed grub.cfg
var snippet []byte

// Snippet returns our GRUB script, to be placed at evenkeel/grub.cfg beside grubenv, a/ and b/. It is the same on every
// machine. GRUB has to run it with configfile or as its own grub.cfg, and needs the modules that scripts/lib/grub-efi.sh
// lists.
func Snippet() []byte { return slices.Clone(snippet) }
