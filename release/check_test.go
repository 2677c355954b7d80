package release

import (
	"strings"
	"testing"
)

func sum(b byte) (d Digest) {
	d[0] = b
	return d
}

func checkable() Release {
	image := func(role Role, kind Kind, name string, b byte) Image {
		return Image{Role: role, Kind: kind, Name: name, Size: 1, SHA256: sum(b), Index: IndexName(sum(b)), Pack: PackName(sum(b))}
	}
	return Release{
		Product: "edge-appliance", Compatible: []string{"qemu-x86"}, Architecture: "amd64", Layout: 1, Version: "2.4.1+deb12~rc1", Serial: 17, MinAgent: "0.1.0",
		Images: []Image{
			image("root", KindPartition, "", 1), image("kernel", KindFile, "vmlinuz", 2), image("initrd", KindFile, "initrd.img", 3),
		},
		Boot: BootSpec{Kernel: "kernel", Initrd: "initrd", Cmdline: "root={root} ro quiet systemd.mount-extra=PARTLABEL=state:/var/lib/evenkeel my.slot={slot}"},
	}
}

func TestCheckAccepts(t *testing.T) {
	for name, change := range map[string]func(*Release){
		"as it is": func(*Release) {},
		"kernel inside the partition": func(r *Release) {
			r.Boot.Kernel, r.Boot.Initrd = "root:/boot/vmlinuz-6.1.0-13-amd64", "root:/boot/initrd.img"
		},
		"no initrd":                  func(r *Release) { r.Boot.Initrd = "" },
		"any agent":                  func(r *Release) { r.MinAgent = "" },
		"the highest serial":         func(r *Release) { r.Serial = MaxSerial },
		"files only, root in memory": func(r *Release) { r.Images, r.Boot.Cmdline = r.Images[1:], "quiet" },
		"the longest command line":   func(r *Release) { r.Boot.Cmdline = "root={root} " + strings.Repeat("x", 1726) },
		"the longest path":           func(r *Release) { r.Boot.Kernel = "root:/" + strings.Repeat("x", 199) },
		"withdrawn":                  func(r *Release) { r.Withdrawn = "it eats disks" },
		"the same bytes twice": func(r *Release) {
			r.Images[2].SHA256, r.Images[2].Index, r.Images[2].Pack = r.Images[1].SHA256, r.Images[1].Index, r.Images[1].Pack
		},
	} {
		r := checkable()
		change(&r)
		if err := r.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for want, change := range map[string]func(*Release){
		`product "" is not legal`:                       func(r *Release) { r.Product = "" },
		`product "../x" is not legal`:                   func(r *Release) { r.Product = "../x" },
		`product "a..b" is not legal`:                   func(r *Release) { r.Product = "a..b" },
		`product "a/b" is not legal`:                    func(r *Release) { r.Product = "a/b" },
		"names no compatible machine type":              func(r *Release) { r.Compatible = nil },
		`compatible machine type "" is not`:             func(r *Release) { r.Compatible = []string{""} },
		`"qemu-x86" is named twice`:                     func(r *Release) { r.Compatible = []string{"qemu-x86", "qemu-x86"} },
		`"x86_64" is called "amd64" here`:               func(r *Release) { r.Architecture = "x86_64" },
		`"AArch64" is called "arm64" here`:              func(r *Release) { r.Architecture = "AArch64" },
		`architecture "vax" is not known`:               func(r *Release) { r.Architecture = "vax" },
		"layouts are numbered from 1":                   func(r *Release) { r.Layout = 0 },
		"serial 0 is not legal":                         func(r *Release) { r.Serial = 0 },
		"serial 9007199254740992 is not legal":          func(r *Release) { r.Serial = MaxSerial + 1 },
		`version "" is not legal`:                       func(r *Release) { r.Version = "" },
		`version "1 2" is not legal`:                    func(r *Release) { r.Version = "1 2" },
		`minimum agent version "new" is not`:            func(r *Release) { r.MinAgent = "new" },
		"has no image":                                  func(r *Release) { r.Images = nil },
		`role "Root" is not legal`:                      func(r *Release) { r.Images[0].Role = "Root" },
		`role "slot" is not legal`:                      func(r *Release) { r.Images[0].Role = "slot" },
		`role "root" has two images`:                    func(r *Release) { r.Images[1].Role = "root" },
		`are both the file "VMLINUZ"`:                   func(r *Release) { r.Images[2].Name = "VMLINUZ" },
		`cannot be a file named "x"`:                    func(r *Release) { r.Images[0].Name = "x" },
		`file name "" is not legal`:                     func(r *Release) { r.Images[1].Name = "" },
		`file name "a/b" is not legal`:                  func(r *Release) { r.Images[1].Name = "a/b" },
		`file name ".." is not legal`:                   func(r *Release) { r.Images[1].Name = ".." },
		`file name "x." is not legal`:                   func(r *Release) { r.Images[1].Name = "x." },
		"taken by the slot's boot entry":                func(r *Release) { r.Images[1].Name = "BOOT.cfg" },
		`kind "blob" is not known`:                      func(r *Release) { r.Images[1].Kind = "blob" },
		"it is empty":                                   func(r *Release) { r.Images[0].Size = 0 },
		"its digest is missing":                         func(r *Release) { r.Images[0].SHA256 = Digest{} },
		"its index is named":                            func(r *Release) { r.Images[0].Index = "images/x.index" },
		"its pack is named":                             func(r *Release) { r.Images[0].Pack = "packs/../../x" },
		"names no kernel":                               func(r *Release) { r.Boot.Kernel = "" },
		`has no image of role "linux"`:                  func(r *Release) { r.Boot.Kernel = "linux" },
		`role "kernel" is a file, so write "kernel"`:    func(r *Release) { r.Boot.Kernel = "kernel:/vmlinuz" },
		`role "root" is a partition, so write the path`: func(r *Release) { r.Boot.Kernel = "root" },
		`path "vmlinuz" is not legal`:                   func(r *Release) { r.Boot.Kernel = "root:vmlinuz" },
		`path "/../x" is not legal`:                     func(r *Release) { r.Boot.Kernel = "root:/../x" },
		`path "/a b" is not legal`:                      func(r *Release) { r.Boot.Kernel = "root:/a b" },
		`initrd "none": the release has no image`:       func(r *Release) { r.Boot.Initrd = "none" },
		"does not say which partition":                  func(r *Release) { r.Boot.Cmdline = "ro quiet" },
		"refers to {data}":                              func(r *Release) { r.Boot.Cmdline = "root={root} {data}" },
		`role "kernel" is a file and has no partition`:  func(r *Release) { r.Boot.Cmdline = "root={root} x={kernel}" },
		"single brace":                                  func(r *Release) { r.Boot.Cmdline = "root={root} x={root" },
		"uses UUID= or LABEL=":                          func(r *Release) { r.Boot.Cmdline = "root=UUID=1234 x={root}" },
		"of a file system, which":                       func(r *Release) { r.Boot.Cmdline = "root={root} resume=LABEL=swap" },
		"which the images of both slots share":          func(r *Release) { r.Boot.Cmdline = "root=/dev/disk/by-uuid/1 x={root}" },
		"says root=PARTUUID=1":                          func(r *Release) { r.Boot.Cmdline = "root=PARTUUID=1 x={root}" },
		"says root=/dev/sda2":                           func(r *Release) { r.Boot.Cmdline = "root=/dev/sda2 x={root}" },
		"sets evenkeel.slot=":                           func(r *Release) { r.Boot.Cmdline = "root={root} evenkeel.slot=a" },
		`holds the character '\n'`:                      func(r *Release) { r.Boot.Cmdline = "root={root}\nquiet" },
		`holds the character 'é'`:                       func(r *Release) { r.Boot.Cmdline = "root={root} é" },
		"at most 1800 fit":                              func(r *Release) { r.Boot.Cmdline = "root={root} " + strings.Repeat("x", 1800) },
		"takes 1801 bytes":                              func(r *Release) { r.Boot.Cmdline = "root={root} " + strings.Repeat("x", 1727) },
		"has 201 characters: at most 200":               func(r *Release) { r.Boot.Kernel = "root:/" + strings.Repeat("x", 200) },
		`holds the character '\''`:                      func(r *Release) { r.Boot.Cmdline = "root={root} x='y'" },
		`holds the character '\\'`:                      func(r *Release) { r.Boot.Cmdline = `root={root} x=\y` },
		"never closed":                                  func(r *Release) { r.Boot.Cmdline = `root={root} x="y` },
	} {
		r := checkable()
		change(&r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}
