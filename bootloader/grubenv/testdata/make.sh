#!/bin/sh
# Makes the golden files of this directory with grub-editenv. Last run with GRUB 2.06-13+deb12u2 of Debian 12.
set -eu
cd "$(dirname "$0")"
rm -f ./*.env

grub-editenv empty.env create

grub-editenv rauc.env create
grub-editenv rauc.env set "ORDER=A B" A_OK=1 B_OK=0 A_TRY=0 B_TRY=1

grub-editenv escapes.env create
grub-editenv escapes.env set 'path=C:\boot' "lines=one
two\\" equals=a=b= 'hash=#x' empty= 'space= x '

# A longer and a shorter value, and a variable that goes.
grub-editenv changed.env create
grub-editenv changed.env set first=1 second=2 third=3
grub-editenv changed.env set first=longer second=
grub-editenv changed.env unset third

# Not a byte left.
grub-editenv full.env create
grub-editenv full.env set "filler=$(head -c 922 /dev/zero | tr '\0' x)"

# By hand, as no tool writes them: what GRUB makes of them is in the .list files.
block() { { cat; head -c 1024 /dev/zero | tr '\0' '#'; } | head -c 1024 >"$1"; }
printf '# GRUB Environment Block\nA=1\nA=2\n# comment\nno equals sign\nB=3\nlast=yes\n=no name\n' | block odd.env
printf '# GRUB Environment Block\nwhole=1\nbroken=2' | block torn.env

for f in *.env; do grub-editenv "$f" list >"${f%.env}.list"; done
