package config

import (
	"time"
)

// Config is everything that can be configured. The tags are the schema: the key's name, its default, the environment
// variable that sets it, the words that it may be, whether it may hold a secret, and what it means.
type Config struct {
	Product      string     `mapstructure:"product" doc:"the operating system product that this machine runs; required"`
	Compatible   string     `mapstructure:"compatible" doc:"the machine type; releases say which types they are for; required"`
	Architecture string     `mapstructure:"architecture" doc:"GOARCH spelling, such as amd64 or arm64; default: that of the agent"`
	Layout       int        `mapstructure:"layout" default:"1" doc:"version of the disk layout of this machine"`
	State        State      `mapstructure:"state"`
	Repository   Repository `mapstructure:"repository"`
	Slots        Slots      `mapstructure:"slots"`
	Boot         Boot       `mapstructure:"boot"`
	Health       Health     `mapstructure:"health"`
	Update       Update     `mapstructure:"update"`
	Host         Host       `mapstructure:"host"`
	Log          Log        `mapstructure:"log"`
}

// State is where the agent keeps what must outlive both slots.
type State struct {
	Dir       string `mapstructure:"dir" default:"/var/lib/evenkeel" env:"EVENKEEL_STATE_DIR" doc:"directory on the state partition"`
	PartLabel string `mapstructure:"partlabel" default:"state" doc:"GPT label of the state partition; \"\": it is not on the slots' disk"`
}

// Repository is where releases come from, and what of it is trusted.
type Repository struct {
	URLs           []string      `mapstructure:"urls" env:"EVENKEEL_REPOSITORY_URLS" secret:"url" doc:"places of the repository, best first: http(s) or file URLs, or absolute paths"`
	Root           string        `mapstructure:"root" default:"/usr/share/evenkeel/root.json" doc:"file with the trusted root metadata, part of the image"`
	Proxy          string        `mapstructure:"proxy" env:"EVENKEEL_REPOSITORY_PROXY" secret:"url" doc:"URL of the HTTP proxy; none: no proxy; default: HTTPS_PROXY and so on of the environment"`
	CA             string        `mapstructure:"ca" doc:"file with the only certificate authorities to accept (PEM); default: the system's"`
	Cert           string        `mapstructure:"cert" doc:"file with the client certificate (PEM)"`
	Key            string        `mapstructure:"key" doc:"file with the client certificate's key (PEM)"`
	Token          string        `mapstructure:"token" doc:"file with a bearer token"`
	ConnectTimeout time.Duration `mapstructure:"connect_timeout" default:"15s" doc:"for connecting, and for the TLS handshake"`
	HeaderTimeout  time.Duration `mapstructure:"header_timeout" default:"30s" doc:"for the first byte of an answer"`
	StallTimeout   time.Duration `mapstructure:"stall_timeout" default:"30s" doc:"a download stalls when stall_bytes do not arrive in this time"`
	StallBytes     Size          `mapstructure:"stall_bytes" default:"8KiB" doc:"see stall_timeout"`
	Tries          int           `mapstructure:"tries" default:"5" doc:"how often each place is asked before a download gives up"`
}

// Slots says where the images of each slot live.
type Slots struct {
	Disk       string `mapstructure:"disk" env:"EVENKEEL_DISK" doc:"block device or disk image file; default: the disk that / is on"`
	SectorSize int    `mapstructure:"sector_size" default:"0" doc:"512 or 4096, for disk image files; 0: found out"`
	ESP        string `mapstructure:"esp" default:"/efi" doc:"where the EFI system partition is mounted"`
	RootMount  string `mapstructure:"root_mount" default:"/" doc:"where the running slot's root file system is mounted, if / is an overlay over it"`
	Roles      []Role `mapstructure:"roles" doc:"the images of a slot; default: root (partition), kernel and initrd (files)"`
}

// Role is one image of a slot, and its place in both slots.
type Role struct {
	Role string `mapstructure:"role" doc:"name, as in the release; required"`
	Kind string `mapstructure:"kind" default:"partition" oneof:"partition file" doc:"a whole partition, or a file on the EFI system partition"`
	A    Place  `mapstructure:"a"`
	B    Place  `mapstructure:"b"`
}

// Place selects a partition by one of label, partuuid, or type with order; or names the directory of a file.
type Place struct {
	Label    string `mapstructure:"label" doc:"GPT partition label; default: ROLE-a and ROLE-b"`
	PartUUID string `mapstructure:"partuuid" doc:"GPT partition GUID"`
	Type     string `mapstructure:"type" doc:"GPT partition type GUID; with order"`
	Order    int    `mapstructure:"order" default:"0" doc:"the how-manieth of that type, by number; from 1"`
	Dir      string `mapstructure:"dir" doc:"directory, for kind file; default: ESP/evenkeel/a and ESP/evenkeel/b"`
}

// Boot says which boot loader the machine has.
type Boot struct {
	Loader     string   `mapstructure:"loader" default:"grub" oneof:"grub" doc:"the boot loader"`
	Script     string   `mapstructure:"script" default:"evenkeel" oneof:"evenkeel rauc" doc:"the script that GRUB runs: ours, or RAUC's"`
	Grubenv    string   `mapstructure:"grubenv" doc:"GRUB's environment block; default: ESP/evenkeel/grubenv"`
	Entries    string   `mapstructure:"entries" doc:"directory of the boot entries a/boot.cfg and b/boot.cfg; default: ESP/evenkeel; none: the script has its own"`
	NameA      string   `mapstructure:"name_a" default:"A" doc:"what a RAUC script calls slot a"`
	NameB      string   `mapstructure:"name_b" default:"B" doc:"what a RAUC script calls slot b"`
	Tries      int      `mapstructure:"tries" default:"3" doc:"boots that one attempt may take"`
	Attempts   int      `mapstructure:"attempts" default:"5" doc:"attempts before an update that keeps being interrupted is blocked"`
	AcceptRisk []string `mapstructure:"accept_risk" oneof:"loader-cannot-count" doc:"risks taken, by name: loader-cannot-count"`
}

// Health says what a system that is well looks like.
type Health struct {
	Dirs     []string      `mapstructure:"dirs" default:"/usr/lib/evenkeel/health /etc/evenkeel/health" doc:"directories with required.d and wanted.d, which hold executables"`
	HTTP     []HTTPCheck   `mapstructure:"http" doc:"URLs that must answer"`
	TCP      []TCPCheck    `mapstructure:"tcp" doc:"ports that must accept a connection"`
	Units    []UnitCheck   `mapstructure:"units" doc:"systemd units that must be active"`
	Timeout  time.Duration `mapstructure:"timeout" default:"30s" doc:"for each check"`
	Settle   time.Duration `mapstructure:"settle" default:"2m" doc:"how long a check that fails is repeated before that counts"`
	Deadline time.Duration `mapstructure:"deadline" default:"10m" env:"EVENKEEL_HEALTH_DEADLINE" doc:"uptime by which a trial must be confirmed, or is rolled back"`
}

// HTTPCheck is a URL that must answer.
type HTTPCheck struct {
	Name     string        `mapstructure:"name" doc:"default: the URL's host and path"`
	URL      string        `mapstructure:"url" secret:"url" doc:"required"`
	Status   int           `mapstructure:"status" default:"0" doc:"the only status that is well; 0: 200 to 299"`
	Required bool          `mapstructure:"required" default:"true" doc:"false: a failure is reported and does not count"`
	Baseline bool          `mapstructure:"baseline" default:"false" doc:"true: a failure counts only if it worked before the update"`
	Timeout  time.Duration `mapstructure:"timeout" default:"0s" doc:"0s: health.timeout"`
}

// TCPCheck is a port that must accept a connection.
type TCPCheck struct {
	Name     string        `mapstructure:"name" doc:"default: the address"`
	Address  string        `mapstructure:"address" doc:"HOST:PORT; required"`
	Required bool          `mapstructure:"required" default:"true" doc:"false: a failure is reported and does not count"`
	Baseline bool          `mapstructure:"baseline" default:"false" doc:"true: a failure counts only if it worked before the update"`
	Timeout  time.Duration `mapstructure:"timeout" default:"0s" doc:"0s: health.timeout"`
}

// UnitCheck is a systemd unit that must be active.
type UnitCheck struct {
	Unit     string        `mapstructure:"unit" doc:"name with suffix, such as nginx.service; required"`
	Required bool          `mapstructure:"required" default:"true" doc:"false: a failure is reported and does not count"`
	Baseline bool          `mapstructure:"baseline" default:"false" doc:"true: a failure counts only if it worked before the update"`
	Timeout  time.Duration `mapstructure:"timeout" default:"0s" doc:"0s: health.timeout"`
}

// Update says how far the agent goes by itself, and how fast.
type Update struct {
	Mode      string        `mapstructure:"mode" default:"auto" oneof:"auto stage check off" env:"EVENKEEL_UPDATE_MODE" doc:"auto: everything; stage: install, an operator starts the trial; check: look only; off: nothing by itself"`
	Poll      time.Duration `mapstructure:"poll" default:"1h" env:"EVENKEEL_UPDATE_POLL" doc:"how often to look for releases"`
	Jitter    time.Duration `mapstructure:"jitter" default:"15m" doc:"a random part of this is added to every wait"`
	HoldUntil time.Time     `mapstructure:"hold_until" doc:"nothing is installed or tried before this time (RFC 3339)"`
	HoldFile  string        `mapstructure:"hold_file" doc:"nothing is installed or tried while this file exists; its first line says why"`
	Bandwidth Rate          `mapstructure:"bandwidth" default:"0B/s" env:"EVENKEEL_UPDATE_BANDWIDTH" doc:"limit for downloads of images, such as 2MiB/s; 0B/s: none"`
	MaxBytes  Size          `mapstructure:"max_bytes" default:"0B" doc:"most bytes that one update may download; 0B: no limit"`
}

// Host is the machine under the agent.
type Host struct {
	Root   string   `mapstructure:"root" default:"/" env:"EVENKEEL_HOST_ROOT" doc:"directory below which proc, sys and os-release are read"`
	RunDir string   `mapstructure:"run_dir" default:"/run/evenkeel" env:"EVENKEEL_RUN_DIR" doc:"directory of the agent's socket"`
	Reboot []string `mapstructure:"reboot_command" doc:"command that reboots, word by word; default: systemd, else the system call"`
	// Where systemd feeds the hardware watchdog (RuntimeWatchdogSec=), which is better, this stays empty.
	Watchdog        string        `mapstructure:"watchdog" doc:"hardware watchdog that the agent feeds, such as /dev/watchdog; default: none, for systemd does (RuntimeWatchdogSec=)"`
	WatchdogTimeout time.Duration `mapstructure:"watchdog_timeout" default:"1m" doc:"time after which the hardware resets a machine that stopped feeding it"`
}

// Log says what is logged, and how.
type Log struct {
	Level  string `mapstructure:"level" default:"info" oneof:"error warning info debug" env:"EVENKEEL_LOG_LEVEL" doc:"how much"`
	Format string `mapstructure:"format" default:"auto" oneof:"auto text json journal" env:"EVENKEEL_LOG_FORMAT" doc:"auto: the journal where there is one, else text"`
}

// Size is a number of bytes, written with a unit: "64MiB", "4GB".
type Size int64

// Rate is a number of bytes per second, written with a unit: "2MiB/s".
type Rate int64
