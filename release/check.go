package release

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MaxSerial is the highest serial: the largest integer that every JSON reader keeps exactly.
const MaxSerial = 1<<53 - 1

// architectures are the GOARCH values that an appliance may have.
var architectures = []string{"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"}

// spellings are what people write instead of GOARCH.
var spellings = map[string]string{
	"x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "i386": "386", "i686": "386", "x86": "386",
	"aarch64": "arm64", "armhf": "arm", "armv7l": "arm", "ppc64el": "ppc64le", "loongarch64": "loong64",
}

var (
	nameRule    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	versionRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}$`)
	agentRule   = regexp.MustCompile(`^v?[0-9]+(\.[0-9]+){0,2}([-+][A-Za-z0-9._+-]+)?$`)
	roleRule    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	pathRule    = regexp.MustCompile(`^(/[A-Za-z0-9._+~-]+)+$`)
	refRule     = regexp.MustCompile(`\{[^{}]*\}`)
	byUUIDRule  = regexp.MustCompile(`(^|[^T])(UUID|LABEL)=`)
)

// Check says what is wrong with r as it is published, or returns nil. It looks at r alone: serial order and what a host
// has to say are not its business. The publisher refuses to publish what Check refuses, and a host to install it.
func (r *Release) Check() error {
	for _, check := range []func() error{r.checkNames, r.checkNumbers, r.checkImages, r.checkBoot} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Release) checkNames() error {
	if err := legalName("product", r.Product); err != nil {
		return err
	}
	if len(r.Compatible) == 0 {
		return fmt.Errorf("the release names no compatible machine type: name at least one")
	}
	for i, c := range r.Compatible {
		if err := legalName("compatible machine type", c); err != nil {
			return err
		}
		if slices.Contains(r.Compatible[:i], c) {
			return fmt.Errorf("compatible machine type %q is named twice", c)
		}
	}
	if !slices.Contains(architectures, r.Architecture) {
		return badArchitecture(r.Architecture)
	}
	return nil
}

func legalName(what, name string) error {
	if nameRule.MatchString(name) && !strings.Contains(name, "..") {
		return nil
	}
	return fmt.Errorf("%s %q is not legal: use 1 to 64 letters, digits, \".\", \"_\" and \"-\", beginning with a letter or digit", what, name)
}

func badArchitecture(arch string) error {
	if right := spellings[strings.ToLower(arch)]; right != "" {
		return fmt.Errorf("architecture %q is called %q here", arch, right)
	}
	return fmt.Errorf("architecture %q is not known: use one of %s", arch, strings.Join(architectures, ", "))
}

func (r *Release) checkNumbers() error {
	switch {
	case r.Layout < 1:
		return fmt.Errorf("layout version %d is not legal: layouts are numbered from 1", r.Layout)
	case r.Serial < 1 || r.Serial > MaxSerial:
		return fmt.Errorf("serial %d is not legal: use 1 to %d", r.Serial, uint64(MaxSerial))
	case !versionRule.MatchString(r.Version):
		return fmt.Errorf("version %q is not legal: use 1 to 64 letters, digits and \"._+~-\", beginning with a letter or digit", r.Version)
	case r.MinAgent != "" && !agentRule.MatchString(r.MinAgent):
		return fmt.Errorf("minimum agent version %q is not legal: write it as in 1.4.2", r.MinAgent)
	}
	return nil
}

func (r *Release) checkImages() error {
	if len(r.Images) == 0 {
		return fmt.Errorf("the release has no image: it needs at least one")
	}
	for i, im := range r.Images {
		if err := im.check(); err != nil {
			return err
		}
		for _, other := range r.Images[:i] {
			if im.Role == other.Role {
				return fmt.Errorf("role %q has two images", im.Role)
			}
			// FAT does not tell upper from lower case.
			if im.Kind == KindFile && other.Kind == KindFile && strings.EqualFold(im.Name, other.Name) {
				return fmt.Errorf("roles %q and %q are both the file %q", other.Role, im.Role, im.Name)
			}
		}
	}
	return nil
}

func (im Image) check() error {
	if !roleRule.MatchString(string(im.Role)) || im.Role == "slot" {
		return fmt.Errorf("role %q is not legal: use up to 32 lower-case letters, digits and \"-\", beginning with a letter; \"slot\" is taken", im.Role)
	}
	if err := im.checkKind(); err != nil {
		return fmt.Errorf("image of role %q: %w", im.Role, err)
	}
	switch sum := im.SHA256.String(); {
	case im.Size <= 0:
		return fmt.Errorf("image of role %q: it is empty", im.Role)
	case im.SHA256.IsZero():
		return fmt.Errorf("image of role %q: its digest is missing", im.Role)
	case im.Index != IndexName(im.SHA256):
		return fmt.Errorf("image of role %q: its index is named %q, which is not images/%s.index", im.Role, im.Index, sum)
	case im.Pack != PackName(im.SHA256):
		return fmt.Errorf("image of role %q: its pack is named %q, which is not packs/%s.pack", im.Role, im.Pack, sum)
	}
	return nil
}

func (im Image) checkKind() error {
	switch im.Kind {
	case KindPartition:
		if im.Name != "" {
			return fmt.Errorf("it fills a partition, so it cannot be a file named %q", im.Name)
		}
		return nil
	case KindFile:
		return checkFileName(im.Name)
	}
	return fmt.Errorf("its kind %q is not known: use %q or %q", im.Kind, KindPartition, KindFile)
}

func checkFileName(name string) error {
	switch {
	case legalName("file name", name) != nil || strings.HasSuffix(name, "."):
		return fmt.Errorf("file name %q is not legal: use letters, digits, \".\", \"_\" and \"-\", without a directory", name)
	case strings.EqualFold(name, "boot.cfg"):
		return fmt.Errorf("file name %q is taken by the slot's boot entry", name)
	}
	return nil
}

// IndexName is the TUF target name of the index of the image with digest sum.
func IndexName(sum Digest) string { return "images/" + sum.String() + ".index" }

// PackName is the path below targets/ of the pack of the image with digest sum.
func PackName(sum Digest) string { return "packs/" + sum.String() + ".pack" }

func (r *Release) checkBoot() error {
	if r.Boot.Kernel == "" {
		return fmt.Errorf("the boot spec names no kernel: write ROLE for a file, or ROLE:/path for a file inside a partition's file system")
	}
	if err := r.checkBootFile("kernel", r.Boot.Kernel); err != nil {
		return err
	}
	if r.Boot.Initrd != "" {
		if err := r.checkBootFile("initrd", r.Boot.Initrd); err != nil {
			return err
		}
	}
	return r.checkCmdline(r.Boot.Cmdline)
}

func (r *Release) checkBootFile(what, ref string) error {
	role, path, inside := strings.Cut(ref, ":")
	im, ok := r.Image(Role(role))
	switch {
	case !ok:
		return fmt.Errorf("%s %q: the release has no image of role %q, only of %s", what, ref, role, r.roles())
	case im.Kind == KindFile && inside:
		return fmt.Errorf("%s %q: role %q is a file, so write %q", what, ref, role, role)
	case im.Kind == KindPartition && !inside:
		return fmt.Errorf("%s %q: role %q is a partition, so write the path in its file system, as in \"%s:/boot/vmlinuz\"", what, ref, role, role)
	case inside && (!pathRule.MatchString(path) || strings.Contains(path, "/..")):
		return fmt.Errorf("%s %q: path %q is not legal: it begins with \"/\" and has letters, digits and \"._+~-\" between slashes", what, ref, path)
	case len(path) > maxPath:
		return fmt.Errorf("%s %q: the path has %d characters: at most %d fit in front of the kernel's command line", what, ref, len(path), maxPath)
	}
	return nil
}

func (r *Release) checkCmdline(line string) error {
	if err := plainCmdline(line); err != nil {
		return err
	}
	partition := ""
	for _, im := range r.Images {
		if im.Kind == KindPartition && partition == "" {
			partition = string(im.Role)
		}
	}
	found, err := r.checkReferences(line)
	if err != nil {
		return err
	}
	if partition != "" && !found {
		return fmt.Errorf("the command line does not say which partition to boot from: write root={%s}, which becomes root=PARTUUID=... of the slot", partition)
	}
	if err := checkRootArgument(line); err != nil {
		return err
	}
	return checkCmdlineSize(line)
}

func plainCmdline(line string) error {
	for _, c := range line {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return fmt.Errorf("the command line holds the character %q, which not every boot loader can pass on: use printable ASCII on one line, without ' and \\", c)
		}
	}
	switch {
	case strings.Count(line, `"`)%2 != 0:
		return fmt.Errorf("the command line has a double quote that is never closed")
	case byUUIDRule.MatchString(line), strings.Contains(line, "/by-uuid/"), strings.Contains(line, "/by-label/"):
		return fmt.Errorf("the command line uses UUID= or LABEL= of a file system, which the images of both slots share: write {ROLE}, which becomes PARTUUID=... of the slot")
	case strings.Contains(line, "evenkeel.slot="):
		return fmt.Errorf("the command line sets evenkeel.slot=, which the boot loader's adapter adds by itself: leave it out")
	}
	return nil
}

// checkReferences checks every {NAME} in line, and reports whether one of them is a partition.
func (r *Release) checkReferences(line string) (partition bool, err error) {
	for _, ref := range refRule.FindAllString(line, -1) {
		name := strings.Trim(ref, "{}")
		if name == "slot" {
			continue
		}
		im, ok := r.Image(Role(name))
		switch {
		case !ok:
			return false, fmt.Errorf("the command line refers to %s, but the release has no image of role %q, only of %s", ref, name, r.roles())
		case im.Kind != KindPartition:
			return false, fmt.Errorf("the command line refers to %s, but role %q is a file and has no partition", ref, name)
		}
		partition = true
	}
	if strings.ContainsAny(refRule.ReplaceAllString(line, ""), "{}") {
		return false, fmt.Errorf("the command line has a single brace: write {slot} or {ROLE}")
	}
	return partition, nil
}

func checkRootArgument(line string) error {
	for arg := range strings.FieldsSeq(line) {
		value, ok := strings.CutPrefix(arg, "root=")
		if ok && (strings.HasPrefix(value, "PART") || strings.HasPrefix(value, "/dev/")) {
			return fmt.Errorf("the command line says %s, which is one partition for both slots: write root={ROLE}", arg)
		}
	}
	return nil
}

func (r *Release) roles() string {
	names := make([]string, len(r.Images))
	for i, im := range r.Images {
		names[i] = string(im.Role)
	}
	return quoted(names)
}
