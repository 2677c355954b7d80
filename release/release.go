// Package release is the vocabulary that the publisher and the host share: what a release is, which images it
// consists of, what its boot entry says, and which hosts may run it. Types and pure checks only; no I/O.
//
// A release is published as one TUF target, the JSON encoding of Release, named by TargetName. Because the target is
// signed, everything in it is authority: above all the digest of each image's index, from which every byte that
// reaches a disk is verified.
package release

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Role names what an image is for within one slot: "root", "kernel", "initrd", "boot", ... The roles of a slot make
// one bootable system. Roles are lower-case ASCII letters, digits and "-".
type Role string

// Kind says where the image of a role lives.
type Kind string

const (
	// KindPartition images fill a partition of the slot from its first byte.
	KindPartition Kind = "partition"
	// KindFile images are files in the slot's directory of a mounted ESP or boot partition.
	KindFile Kind = "file"
)

// Digest is a SHA-256 digest. Its text form is 64 lower-case hex digits.
type Digest [32]byte

// String returns the 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d is the zero digest, which stands for "not known".
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler; the zero digest is the empty text.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It accepts the empty text and 64 hex digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	if len(text) != 64 {
		return fmt.Errorf("cannot read SHA-256 digest %.80q: want 64 hex digits, got %d characters", text, len(text))
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("cannot read SHA-256 digest %q: %w", text, err)
	}
	return nil
}

// Release is one signed, installable version of one product.
type Release struct {
	Product      string   `json:"product"`             // the operating system product, e.g. "edge-appliance"
	Compatible   []string `json:"compatible"`          // the machine types that may run it; a host names exactly one
	Architecture string   `json:"architecture"`        // GOARCH spelling: "amd64", "arm64"
	Layout       int      `json:"layout"`              // version of the disk layout that it expects
	MinAgent     string   `json:"min_agent,omitempty"` // oldest agent version that may install it; empty: any
	Version      string   `json:"version"`             // for people; the order of releases is Serial alone
	Serial       uint64   `json:"serial"`              // grows with every release; "newer" means a higher serial
	Images       []Image  `json:"images"`              // one per role, in the order in which they are installed
	Boot         BootSpec `json:"boot"`
	Withdrawn    string   `json:"withdrawn,omitempty"` // why nobody may install it any more; empty: installable
	Notes        string   `json:"notes,omitempty"`     // for people
}

// Image is the content of one role: a signed index, and a pack that the index verifies.
type Image struct {
	Role   Role   `json:"role"`
	Kind   Kind   `json:"kind"`
	Name   string `json:"name,omitempty"` // KindFile: the file's name in the slot's directory, e.g. "vmlinuz"
	Size   int64  `json:"size"`           // bytes of the image
	SHA256 Digest `json:"sha256"`         // of the whole image
	Index  string `json:"index"`          // TUF target name of the index
	Pack   string `json:"pack"`           // path of the pack below targets/; untrusted, the index verifies its bytes
}

// BootSpec is what the slot's boot entry says. It is signed with the release, so the boot entry is part of the image.
//
// Kernel and Initrd are "ROLE" for a KindFile role, or "ROLE:/path" for a file inside the file system of a
// KindPartition role. Cmdline is a template: {slot} becomes a or b, and {ROLE} becomes PARTUUID=... of that role's
// partition, so "root={root} ro" is the usual beginning. The loader's adapter appends evenkeel.slot=a|b by itself.
// It is handed Release.Entry, in which every "ROLE" has become "ROLE:name".
type BootSpec struct {
	Kernel  string `json:"kernel"`
	Initrd  string `json:"initrd,omitempty"`
	Cmdline string `json:"cmdline"`
}

// TargetName is the name of the TUF target that holds the JSON encoding of the release.
func TargetName(product string, serial uint64) string {
	return "releases/" + product + "/" + strconv.FormatUint(serial, 10) + ".json"
}

// Image returns the image of role, or false.
func (r *Release) Image(role Role) (Image, bool) {
	for _, im := range r.Images {
		if im.Role == role {
			return im, true
		}
	}
	return Image{}, false
}

// Entry returns the boot spec with the file names that the images of KindFile have in this release: "ROLE" becomes
// "ROLE:name". What names no such image is left as it is, for the loader's adapter to refuse.
func (r *Release) Entry() BootSpec {
	b := r.Boot
	b.Kernel, b.Initrd = r.fileOf(b.Kernel), r.fileOf(b.Initrd)
	return b
}

func (r *Release) fileOf(from string) string {
	if im, ok := r.Image(Role(from)); ok && im.Kind == KindFile {
		return from + ":" + im.Name
	}
	return from
}
