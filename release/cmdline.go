package release

import (
	"fmt"
	"strings"
)

// MaxCmdline bounds the kernel's command line as CmdlineSize counts it. A kernel takes 2047 bytes on x86, GRUB puts
// BOOT_IMAGE= and the kernel's path in front, and cuts off without a word what is too long.
const MaxCmdline = 1800

// maxPath bounds the path of a kernel or initrd within a partition, which takes part of the same 2047 bytes.
const maxPath = 200

// SplitCmdline splits as the kernel does: at spaces outside of double quotes, which do not belong to the value.
func SplitCmdline(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inQuotes, inWord := false, false
	flush := func() {
		if inWord {
			words = append(words, word.String())
		}
		word.Reset()
		inWord = false
	}
	for _, c := range []byte(s) {
		switch {
		case c == '"':
			inQuotes, inWord = !inQuotes, true
		case c == ' ' && !inQuotes:
			flush()
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	flush()
	if inQuotes {
		return nil, fmt.Errorf("command line %q: a double quote is never closed", s)
	}
	return words, nil
}

// CmdlineSize is the most that a loader makes of words in which every placeholder is replaced: with each come a space, and
// the two quotes that it may need.
func CmdlineSize(words []string) int {
	size := 0
	for _, w := range words {
		size += len(w) + 3
	}
	return size
}

// samples are as long as what takes the place of {slot} and {ROLE}.
const (
	sampleSlot      = "a"
	samplePartition = "PARTUUID=00000000-0000-0000-0000-000000000000"
)

// checkCmdlineSize counts what the loader's adapter will make of the line, in either slot.
func checkCmdlineSize(line string) error {
	words, err := SplitCmdline(strings.ReplaceAll(line, "{slot}", sampleSlot))
	if err != nil {
		return err
	}
	for i, w := range words {
		words[i] = refRule.ReplaceAllString(w, samplePartition)
	}
	if size := CmdlineSize(append(words, "evenkeel.slot="+sampleSlot)); size > MaxCmdline {
		return fmt.Errorf("the command line takes %d bytes in the boot entry, with 3 more for each word, {ROLE} written out and evenkeel.slot= added: "+
			"at most %d fit", size, MaxCmdline)
	}
	return nil
}
