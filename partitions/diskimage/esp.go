package diskimage

import (
	"fmt"
	"slices"

	"github.com/evenkeel-os/evenkeel/updater"
)

// Boot is what the EFI system partition of a machine with GRUB starts with. The bytes come from the boot loader's own
// package: this one knows only where they go.
type Boot struct {
	Architecture string // GOARCH: "amd64", "arm64"
	Loader       Content
	Config       []byte // evenkeel/grub.cfg
	Env          []byte // evenkeel/grubenv
	// EntryA and EntryB are boot.cfg of the slots, padded to the size that they keep for ever.
	EntryA, EntryB []byte
	// ImagesA are the file images of slot A. A path is the name alone.
	ImagesA []File
}

// ESPFiles returns the files of the partition. What the boot loader or the agent later writes in place comes first, so
// that it lies at the same place on every machine.
func ESPFiles(b Boot) ([]File, error) {
	loader, ok := map[string]string{
		"amd64": "EFI/BOOT/BOOTX64.EFI", "arm64": "EFI/BOOT/BOOTAA64.EFI", "riscv64": "EFI/BOOT/BOOTRISCV64.EFI", "386": "EFI/BOOT/BOOTIA32.EFI",
	}[b.Architecture]
	if !ok {
		return nil, fmt.Errorf("cannot name the EFI boot loader of architecture %q: amd64, arm64, riscv64 and 386 are known", b.Architecture)
	}
	files := []File{
		{Path: "evenkeel/grubenv", Content: Bytes(b.Env)},
		{Path: slotDir(updater.A) + "boot.cfg", Content: Bytes(b.EntryA)},
		{Path: slotDir(updater.B) + "boot.cfg", Content: Bytes(b.EntryB)},
		{Path: loader, Content: b.Loader},
		{Path: "evenkeel/grub.cfg", Content: Bytes(b.Config)},
	}
	for _, f := range slices.Clone(b.ImagesA) {
		f.Path = slotDir(updater.A) + f.Path
		files = append(files, f)
	}
	return files, nil
}

func slotDir(s updater.Slot) string { return "evenkeel/" + string(s) + "/" }
