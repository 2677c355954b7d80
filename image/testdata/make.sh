#!/bin/sh
# Makes golden.index and golden.pack with no code of ours: coreutils, xxd and zstd 1.5.4 (Debian 12).
# The image is the output of picture: four segments of 64 KiB, the third one zeros, and a short fifth one; frames of 128 KiB.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT

picture() {
	yes 'Evenkeel: a golden image.' | head -c 100000
	head -c 100000 /dev/zero
	yes 'The end of the golden image.' | head -c 70001
}
le() { # le BYTES NUMBER
	printf "%0$(($1 * 2))x" "$2" | fold -w2 | tac | tr -d '\n' | xxd -r -p
}
sha() { sha256sum | cut -c 1-64; }

picture >"$tmp/image"
split -b 65536 "$tmp/image" "$tmp/segment."
split -b 131072 "$tmp/image" "$tmp/frame."
{
	printf EVKINDEX
	le 4 1
	le 4 65536
	le 4 131072
	le 4 0
	le 8 "$(stat -c %s "$tmp/image")"
	sha <"$tmp/image" | xxd -r -p
	for s in "$tmp"/segment.*; do
		if [ "$(tr -d '\0' <"$s" | wc -c)" = 0 ]; then
			head -c 40 /dev/zero
			continue
		fi
		sha <"$s" | xxd -r -p
		head -c 4096 "$s" | sha | cut -c 1-16 | xxd -r -p
	done
	for f in "$tmp"/frame.*; do
		zstd -q -19 "$f" -o "$f.zst"
		le 4 "$(stat -c %s "$f.zst")"
	done
} >golden.index
cat "$tmp"/frame.*.zst >golden.pack
