# A later version of the agent than this one, whose record has a higher schema and fields that this one does not know. There is
# none yet: it is this one, with a few lines of its source changed while it is built.
#
#   . scripts/lib/vm-next.sh
#   vm_next_agent OUTPUT
# shellcheck shell=sh

vm_next_agent() {
	vm_scratch=$(mktemp -d)
	vm_patch updater/codec.go 's/^const Schema = .*/const Schema = 1000/'
	# shellcheck disable=SC2016 # the backquotes are Go's
	vm_patch updater/record.go \
		's/^type Record struct {/&\n\tNovelty string `json:"novelty,omitempty"`/
		s/^type Txn struct {/&\n\tNovelty string `json:"novelty,omitempty"`/
		s/^\tn := r.clone()$/&\n\tn.Novelty = "of a later agent"/
		s/^\tn.Txn = &Txn{$/&\n\t\tNovelty: "of a later agent",/'
	printf '{"Replace": {"%s": "%s", "%s": "%s"}}\n' "$PWD/updater/codec.go" "$vm_scratch/codec.go" \
		"$PWD/updater/record.go" "$vm_scratch/record.go" >"$vm_scratch/overlay.json"
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -overlay "$vm_scratch/overlay.json" -ldflags '-X main.version=1000.0.0' -o "$1" ./cmd/evenkeel ||
		die "cannot build a later agent"
	rm -rf "$vm_scratch"
}

# vm_patch FILE SCRIPT changes a copy of FILE; every line of SCRIPT must change something.
vm_patch() {
	vm_copy=$vm_scratch/${1##*/}
	cp "$1" "$vm_copy"
	printf '%s\n' "$2" | while read -r vm_line; do
		sed -i.before "$vm_line" "$vm_copy"
		! cmp -s "$vm_copy" "$vm_copy.before" || die "$1 is not what scripts/lib/vm-next.sh expects: nothing for $vm_line"
	done
}
