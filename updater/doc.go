// Package updater is the decision at the heart of Evenkeel: what a host does next to get from the operating system that
// runs to a better one, so that it can lose power at any moment and still boots something that works.
//
// # Parties
//
// A host has two slots, each with a whole operating system. One of them runs; the boot loader's default slot is the one
// that boots when nothing else is said. An update is written to the other slot, while the boot loader may not choose it,
// and is then tried: the next boots start it, a bounded number of times, and after that the default again, without our
// help. Only a slot that ran, and whose health checks passed, is confirmed and becomes the default.
//
// The package does no I/O. It drives ports: Bootloader (four verbs, and Settle), Slots and Installer (the disk), Source (the verified
// repository), Gate (waves, windows, leases), Prober (health), Host (boot id, uptime, why the last boot ended, reboot) and
// Store (the record). Their comments are the contract that adapters keep.
//
// # The record
//
// The record says what was meant: the phase, the transaction that is under way (Txn), what is in each slot, what is blocked,
// and which leases must still be given back. It lies on a partition of its own, which both slots share, and is saved as a
// whole: a power cut leaves the old one or the new one. The agents of two releases take turns in writing it, so it only ever
// gains fields, and fields that an agent does not know are written back as they were. An agent that may not act on it any
// more is told so by min_reader, which rises only when the agents in both slots can read it.
//
// # One step at a time
//
// Agent.Step observes (what runs, what the firmware will do, what was asked), lets Next decide, and does that one thing.
// Next is pure and total: the same record and view give the same step. Starting, resuming after a power cut, the daemon and
// the commands of an operator are all the same loop. Two rules give the order of the steps:
//
//   - Save before destroying: the record says "writing" before the first byte is written, "attempt 2" before the boot loader
//     is armed, "unhealthy" before a trial is undone.
//   - Save after achieving: it says "verified" after the slot was read back, "armed" after the boot loader was told,
//     "confirmed" after the slot is the default.
//
// What the boot loader's variables say is never taken for what was meant, and what was achieved but not saved is simply
// done again, for every verb may be repeated.
//
// # What a power cut does
//
// TestOrderTable has one row for each gap between two steps: what lies in the record and in the boot loader then, which
// slot boots, and what is done first. TestEveryCut cuts the power in every one of those gaps, and within the steps, in
// every order that a few faults, operators and ten kinds of release can bring about, and asserts that the host always
// boots, never writes what may be booted, confirms nothing that is sick, blocks nothing that is well, forgets no lease, and
// comes to rest. TestMutants breaks each rule and sees that this is noticed.
//
// # Reading order
//
// ports.go (nouns and contracts), record.go (the journal), next.go (view, step, the drawing, and the cases of Next), idle.go,
// txn.go (the transaction, phase by phase), obey.go (operators), offers.go (which release), agent.go and run.go (the loop),
// codec.go (bytes), install.go (the Installer).
package updater
