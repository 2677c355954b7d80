# The Debian that the virtual machines run, as a tar file: a minimal bookworm with systemd and Debian's kernel, and of the
# kernel's modules only those that a virtual machine needs. What makes an appliance of it is added by internal/vmtest.
#
#   . scripts/lib/vm-base.sh
#   vm_base DIRECTORY       prints the path of the tar file, which is made in DIRECTORY once
#
# Needs mmdebstrap, and the network when there is nothing in DIRECTORY. Not root: then user namespaces (uidmap).
# shellcheck shell=sh

VM_SUITE=bookworm
# Mirrors other than Debian's own, which mmdebstrap knows.
VM_MIRROR=${VM_MIRROR:-}
VM_SECURITY=${VM_SECURITY:-}

VM_PACKAGES='systemd systemd-sysv udev dbus kmod e2fsprogs dosfstools busybox-static ca-certificates linux-image-amd64'

# What no appliance reads. A later --path-include takes files out of an exclusion again.
VM_EXCLUDE='/usr/share/doc* /usr/share/man* /usr/share/locale* /usr/share/i18n* /usr/share/info* /usr/share/lintian* /usr/share/zoneinfo*
 /usr/share/bash-completion* /boot/System.map* /lib/modules/*/kernel/drivers* /lib/modules/*/kernel/sound* /lib/modules/*/kernel/net*
 /lib/modules/*/kernel/fs* /lib/modules/*/kernel/arch*'
VM_MODULES='drivers/virtio/ drivers/block/virtio_blk drivers/net/virtio_net
 drivers/net/net_failover net/core/failover drivers/char/hw_random/virtio-rng drivers/char/hw_random/rng-core drivers/watchdog/watchdog
 drivers/watchdog/i6300esb drivers/firmware/efi/efi-pstore fs/squashfs/squashfs fs/ext4/ext4 fs/jbd2/jbd2 fs/mbcache fs/fat/fat fs/fat/vfat
 fs/nls/nls_ascii fs/nls/nls_cp437 fs/efivarfs/efivarfs fs/autofs/autofs4'

vm_base() {
	vm_key=$(sha256sum <scripts/lib/vm-base.sh | cut -c 1-16)
	vm_tar=$1/base-$vm_key.tar
	if [ ! -e "$vm_tar" ]; then
		say "making a Debian $VM_SUITE (once)"
		vm_make_base "$vm_tar.part"
		mv "$vm_tar.part" "$vm_tar"
		find "$1" -maxdepth 1 -name 'base-*.tar' ! -path "$vm_tar" -delete
	fi
	echo "$vm_tar"
}

vm_make_base() {
	vm_output=$1
	set --
	for vm_word in $VM_EXCLUDE; do set -- "$@" "--dpkgopt=path-exclude=$vm_word"; done
	for vm_word in $VM_MODULES; do set -- "$@" "--dpkgopt=path-include=/lib/modules/*/kernel/$vm_word*"; done
	# The image has an initrd of its own: INITRD=No keeps the kernel's hook from making one.
	INITRD=No SOURCE_DATE_EPOCH=1764028800 mmdebstrap --variant=essential --format=tar \
		--include="$(echo "$VM_PACKAGES" | tr ' ' ,)" --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
		--dpkgopt=force-unsafe-io "$@" "$VM_SUITE" "$vm_output" \
		${VM_MIRROR:+"deb $VM_MIRROR $VM_SUITE main"} ${VM_SECURITY:+"deb $VM_SECURITY $VM_SUITE-security main"} >"$vm_output.log" 2>&1 || {
		tail -n 30 "$vm_output.log" >&2
		die "cannot make a Debian: see above, and $vm_output.log"
	}
	rm -f "$vm_output.log"
}
