// Package bootloader drives boot loaders through the four verbs of updater.Bootloader. There is one type per loader; the
// bytes that a loader reads are handled by pure sub-packages.
//
// # GRUB
//
// GRUB keeps its variables in an environment block of 1024 bytes (package grubenv). The names are those of RAUC, so that
// its tools read the same, with three of our own; slots are called A and B there:
//
//	ORDER="B A"            the slots that may be chosen, in the order in which they are looked at
//	A_OK=1 A_TRY=0         1: may be chosen; 1: was started since (RAUC's script only)
//	evenkeel_trial=b       the slot that is on trial; empty: none
//	evenkeel_tries=2       boots that the trial has left, one digit
//	evenkeel_failed=b      the slot whose kernel could not be loaded in this trial; "-": none
//
// The default slot is the first of ORDER that is OK and not on trial. Every verb changes the variables in one write of one
// disk sector, in place: a power cut leaves the state before it or after it.
//
//	          ORDER          OK          TRY    evenkeel_trial, _tries, _failed
//	Disable   without slot   slot: 0     -      cleared if it is slot's
//	Try       slot first     slot: 1     0      slot, tries, none
//	Confirm   slot first     slot: 1     0      cleared
//
// Two scripts read these variables. Our own, grub.cfg in this directory (Snippet), counts the boots of the trial slot
// only, reads back what it saved before it starts the trial, and always boots something. RAUC's own counts every boot of
// every slot, gives each one try, and ends in its rescue entry when no slot is left (Settle is there for that).
//
// # Boot entries
//
// Our script reads what to boot from a file for each slot, evenkeel/a/boot.cfg and evenkeel/b/boot.cfg beside it. The file
// is changed in place and never grows, always before the variables, and read back:
//
//	Disable   marks the entry unusable (retires it), in one sector, also if the slot is disabled already
//	Try       writes the entry from the signed boot spec of the release, unless the slot is enabled and has a usable one
//	Confirm   marks the slot's entry usable, and retires the other one's if that slot is disabled
//
// So a slot that is being written cannot be started even by a script that found the variables damaged: a slot that was
// disabled has no usable entry. Where the power goes between the two writes of Disable, a slot that the variables enable
// has none either; it is never the default slot, a trial of it ends as one that cannot be loaded, and the default boots.
package bootloader
