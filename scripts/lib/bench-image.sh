# Makes the images that scripts/bench installs. Sourced after scripts/lib/install.sh. DIR holds the benchinstall program.
# shellcheck shell=sh

# What an appliance has: a kernel with its modules, systemd, ssh, a web server, containers, Python.
BENCH_PACKAGES=linux-image-amd64,openssh-server,nginx-light,python3,podman,network-manager,ca-certificates,curl
BENCH_EPOCH=1760000000

# bench_image DIR makes DIR/root.img (ext4, 1 GiB), root.label that says what it is, and root.index and root.zst: its index
# and its pack, compressed as the publisher does.
bench_image() {
	if [ ! -s "$1/root.img" ]; then
		rm -f "$1/root.zst"
		if bench_fetch "$1/root.tar"; then
			bench_debian "$1"
		else
			bench_synthetic "$1"
		fi
		mv "$1/root.img.part" "$1/root.img"
	fi
	[ -s "$1/root.zst" ] || bench_pack "$1" root 0
}

# bench_big_image DIR makes DIR/big.img, 4 GiB: the image four times.
bench_big_image() {
	[ ! -s "$1/big.zst" ] || return 0
	for _ in 1 2 3 4; do cat "$1/root.img"; done >"$1/big.img"
	bench_pack "$1" big 3
}

# bench_pack DIR NAME LEVEL
bench_pack() {
	say "cutting and compressing $2.img (once)"
	"$1/benchinstall" build --image "$1/$2.img" --out "$1/$2" --level "$3"
}

# bench_fetch TAR installs Debian into an archive.
bench_fetch() {
	[ ! -s "$1" ] || return 0
	say "installing Debian into an image (once; some minutes)"
	rm -f "$1.part"
	SOURCE_DATE_EPOCH=$BENCH_EPOCH mmdebstrap --quiet --variant=important --include=$BENCH_PACKAGES \
		--dpkgopt=force-unsafe-io --format=tar bookworm "$1.part" && mv "$1.part" "$1"
}

# bench_debian DIR makes the image. It is the same, byte by byte, for as long as Debian's packages are.
bench_debian() {
	bench_tree=$1/tree
	rm -rf "$bench_tree"
	mkdir "$bench_tree"
	tar -x --numeric-owner -p -f "$1/root.tar" -C "$bench_tree" --exclude './dev/*'
	bench_ext4 "$1/root.img.part" "$bench_tree"
	rm -rf "$bench_tree"
	echo "Debian 12, ext4, $(du -m --apparent-size "$1/root.tar" | cut -f1) MiB of files" >"$1/root.label"
	rm -f "$1/root.tar"
}

# bench_ext4 IMAGE TREE makes a file system that does not depend on when and where it is made.
bench_ext4() {
	export E2FSPROGS_FAKE_TIME=$BENCH_EPOCH
	rm -f "$1"
	truncate -s 1G "$1"
	mkfs.ext4 -q -F -b 4096 -m 0 -O ^has_journal -L root -U 00000000-0000-4000-8000-000000000001 \
		-E hash_seed=00000000-0000-4000-8000-000000000002,lazy_itable_init=0,root_owner=0:0 -d "$2" "$1"
	# It copies the times at which the tree was made and read.
	{
		printf '<%s>\n' 2 11
		find "$2" -mindepth 1 -printf '%i "/%P"\n' | sort -u -k1,1 | cut -d' ' -f2-
	} | while IFS= read -r bench_file; do
		for bench_time in ctime atime; do
			echo "set_inode_field $bench_file $bench_time @$BENCH_EPOCH"
			echo "set_inode_field $bench_file ${bench_time}_extra 0"
		done
	done >"$1.commands"
	debugfs -w -f "$1.commands" "$1" >"$1.log" 2>&1
	rm -f "$1.commands" "$1.log"
	unset E2FSPROGS_FAKE_TIME
	e2fsck -fn "$1" >/dev/null 2>&1 || die "the file system that was made is damaged: $1"
}

# bench_synthetic DIR makes an image where no Debian can be had. What is measured with it is no figure for the documentation.
bench_synthetic() {
	say "no Debian can be installed here (see above): using synthetic data instead"
	"$1/benchinstall" synthetic --out "$1/root.img.part"
	echo "SYNTHETIC DATA, no file system: there was no Debian" >"$1/root.label"
}
