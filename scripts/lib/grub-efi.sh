#!/bin/sh
# Build EFI/BOOT/BOOTX64.EFI: GRUB with everything that bootloader/grub.cfg needs, and nothing that has to be loaded later.
# It looks for evenkeel/grub.cfg on the partition that the firmware started it from, whatever that is called.
#
#   scripts/lib/grub-efi.sh OUTPUT        needs grub-mkimage (grub-common) and the modules of grub-efi-amd64-bin
#
# Sourced instead, it defines grub_efi OUTPUT.

# What our script uses; the file systems that a kernel may lie on; what a person at the console wants.
GRUB_EFI_MODULES="normal configfile test echo sleep reboot halt loadenv regexp probe linux boot serial terminal
 part_gpt part_msdos fat ext2 squash4 btrfs xfs gzio xzio zstd
 efi_gop all_video ls cat efifwsetup"

grub_efi() {
	grub_efi_early=$(mktemp) || return
	# GRUB's rescue shell runs this, which knows no "if". It is reached again when the script is missing, and a machine
	# that waits for a person is a machine that is down.
	cat >"$grub_efi_early" <<-'END'
		configfile $prefix/grub.cfg
		echo evenkeel: cannot read $prefix/grub.cfg, rebooting in 10 seconds
		sleep 10
		reboot
	END
	# shellcheck disable=SC2086 # the modules are words
	grub-mkimage --format x86_64-efi --prefix /evenkeel --config "$grub_efi_early" --output "$1" $GRUB_EFI_MODULES
	grub_efi_status=$?
	rm -f "$grub_efi_early"
	return $grub_efi_status
}

case ${0##*/} in
grub-efi.sh)
	set -eu
	[ $# -eq 1 ] || { echo "usage: $0 OUTPUT" >&2; exit 2; }
	command -v grub-mkimage >/dev/null || { echo "$0: there is no grub-mkimage: apt-get install grub-common grub-efi-amd64-bin" >&2; exit 1; }
	grub_efi "$1"
	;;
esac
