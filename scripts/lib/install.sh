# What every script here uses to install what it needs. Source it from the root of the checkout:
#
#   . scripts/lib/install.sh
#   need_debian gdisk mtools          Debian packages: installed when root; otherwise listed with the command, exit 1
#   need_go                           puts a Go on the PATH that is as new as go.mod wants
#   tool=$(go_tool NAME MODULE@V)     builds a command into .cache/bin once, and prints its path
#
# Everything that does not come from Debian lies below .cache. Go comes as a module through the module proxy that is
# configured (go env GOPROXY): an older Go fetches it, and checks it against the checksum database like any module. That
# older Go may be Debian's.
# shellcheck shell=sh

# The Go that is fetched where there is none, or one that is older than go.mod wants.
GO_FETCH=1.26.8

# say prints a line about what is going on.
say() { echo "== $*" >&2; }

# die ends the script with what is wrong.
die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# debian_lacks prints those of the packages that are not installed.
debian_lacks() {
	for debian_package; do
		case $(dpkg-query -W -f '${db:Status-Status}\n' "$debian_package" 2>/dev/null) in
		*installed*) ;;
		*) printf ' %s' "$debian_package" ;;
		esac
	done
}

need_debian() {
	command -v dpkg-query >/dev/null || die "this needs Debian or a relative of it: there is no dpkg-query"
	debian_missing=$(debian_lacks "$@")
	[ -n "$debian_missing" ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		echo "${0##*/}: these Debian packages are missing:" >&2
		for debian_package in $debian_missing; do echo "  $debian_package" >&2; done
		die "install them, then run this again: sudo apt-get install --no-install-recommends$debian_missing"
	fi
	say "installing$debian_missing"
	debian_log=$(mktemp)
	# A machine may have other sources too, which need not answer.
	apt-get update >"$debian_log" 2>&1 || say "apt-get update complains; going on with the package lists that there are"
	# shellcheck disable=SC2086 # the packages are words
	if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $debian_missing >>"$debian_log" 2>&1; then
		cat "$debian_log" >&2
		die "cannot install$debian_missing"
	fi
	rm -f "$debian_log"
}

# go_version prints the version of the Go on the PATH as a number that can be compared; 0 when there is none.
go_version() { go version 2>/dev/null | version_number || echo 0; }

# version_number turns the first "1.26.8" of its input into 1026008.
version_number() {
	sed -n 's/^[^0-9]*\([0-9][0-9]*\)\.\([0-9][0-9]*\)\.\{0,1\}\([0-9]*\).*/\1 \2 \3/p' | head -n 1 | {
		read -r major minor patch && echo $((major * 1000000 + minor * 1000 + ${patch:-0}))
	}
}

need_go() {
	go_root=$PWD/.cache/go
	[ ! -x "$go_root/bin/go" ] || PATH=$go_root/bin:$PATH
	# Outside of Debian's PATH, where people unpack it.
	command -v go >/dev/null || [ ! -x /usr/local/go/bin/go ] || PATH=/usr/local/go/bin:$PATH
	export PATH
	go_wanted=$(sed -n 's/^go //p' go.mod | version_number)
	[ "$(go_version)" -lt "$go_wanted" ] || return 0
	command -v go >/dev/null || need_debian golang-go ca-certificates
	fetch_go
	PATH=$go_root/bin:$PATH
	export GOTOOLCHAIN=local
	[ "$(go_version)" -ge "$go_wanted" ] || die "go.mod wants a newer Go than $GO_FETCH: raise GO_FETCH in scripts/lib/install.sh"
}

# fetch_go puts Go $GO_FETCH into $go_root, by means of the older one on the PATH.
fetch_go() {
	go_module=golang.org/toolchain@v0.0.1-go$GO_FETCH.$(go env GOOS)-$(go env GOARCH)
	say "fetching $go_module by means of $(go version)"
	# In a directory of its own: an older Go cannot read our go.mod.
	go_scratch=$(mktemp -d)
	(cd "$go_scratch" && GOTOOLCHAIN=local GOFLAGS='' go mod download "$go_module") ||
		die "cannot fetch Go: is the module proxy right that go env GOPROXY names? Or install Go $GO_FETCH by hand"
	rm -rf "$go_scratch"
	rm -rf "$go_root.new" "$go_root"
	mkdir -p .cache
	cp -r "$(go env GOMODCACHE)/$go_module" "$go_root.new"
	chmod -R u+w "$go_root.new"
	# A module can hold neither programs nor other modules, so these arrive in disguise.
	chmod -R a+x "$go_root.new/bin" "$go_root.new/pkg/tool"
	find "$go_root.new/src" -name _go.mod | while read -r go_mod; do
		cp "$go_mod" "${go_mod%_go.mod}go.mod"
	done
	mv "$go_root.new" "$go_root"
}

go_tool() {
	tool_path=$PWD/.cache/bin/$1-${2##*@}
	if [ ! -x "$tool_path" ]; then
		say "building $2"
		mkdir -p "$PWD/.cache/bin"
		GOBIN=$PWD/.cache/bin GOFLAGS='' go install "$2" >&2 || die "cannot build $2"
		mv "$PWD/.cache/bin/$1" "$tool_path"
	fi
	echo "$tool_path"
}
