// Package host is the machine under the agent: which boot this is, which release runs, why the boot before it ended, and
// how to reboot. It needs no tool of the system.
//
// # What is read
//
// Everything lies below a root directory, "/" on a real host:
//
//	proc/sys/kernel/random/boot_id      the name of this boot
//	proc/uptime                         seconds since the kernel started
//	proc/cmdline                        evenkeel.slot=a or b
//	etc/os-release, usr/lib/os-release  IMAGE_VERSION and EVENKEEL_SERIAL of the running release
//	sys/fs/pstore/                      what the kernel left when it panicked (pstore)
//	var/lib/systemd/pstore/             the same, after systemd-pstore.service moved it away
//	sys/class/watchdog/*/bootstatus     what the hardware watchdog says of the last reset
//	sys/devices/platform/               power_on_reason, where the platform's driver knows it
//
// # Why a boot ended
//
// The state directory, which both slots share, holds two small files:
//
//	boot.json      which boot this is and which slot runs; whether it ended in order; what was learnt about the one before
//	deadline.json  the note of the deadline unit, written right before it reboots
//
// Begin writes boot.json early in each boot, and End marks it when the system shuts down in order. What Begin finds there
// of an earlier boot, together with the traces above, says how that one ended. The strongest trace wins: the deadline
// unit's note, then a panic, then the watchdog, then what the platform says of power, then the mark of an orderly end.
// Nothing is concluded from silence: a power cut, a reset button and a crash without pstore all look alike, and such an
// end is "unknown" unless something says that it was the power.
//
// A trace counts once. A panic that was there in an earlier boot, and a note that was read in one, say nothing about this
// one; what was learnt is kept under the boot's id, so that it is the same however often it is asked for. Traces may turn
// up late, for drivers load late: until the boot ends, a stronger one replaces a weaker one.
//
// A trace names the slot that it is about only where that is certain enough: the note says it, and a panic says it where
// the kernel's command line is among its lines. Otherwise it is the slot of the last boot that got as far as Begin, if
// that one did not end in order. If it did, a later boot left the trace that never got so far, and no slot is named.
package host
