// Package vmtest runs Evenkeel on real firmware: a Debian appliance in QEMU, with UEFI firmware (OVMF), GRUB, a hardware
// watchdog (i6300esb), a read-only root and the agent as a service. scripts/vm is its command.
//
//	scripts/lib/vm-base.sh   a Debian as a tar file
//	      ▼ overlay/, kinds/, the programs
//	Builder                  root file system, kernel and initrd of a release that is good, sick, dead, ...
//	      ▼ evenkeel-repo add, sign, publish, disk-image
//	Server                   the repository over HTTP, as its enemies would change it
//	VM                       the machine: console, operator, power
//	Disk                     what lies on its disk, read from outside
//	WriteLog                 every write of a machine, from which the disk of any power cut is made
//
// A scenario is data. Run plays it on a VM and Twin on fixtures.Machine; what the firmware did at each boot is compared.
//
// Nothing is moved on from outside: a machine gets releases, power, power cuts, and what an operator types at its second
// serial port.
package vmtest
