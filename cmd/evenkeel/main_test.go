package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts, and the machines that they work on, run the command as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"evenkeel": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", Setup: setup, RequireExplicitExec: true, UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"machine": cmdMachine, "on": cmdOn, "off": cmdOff, "cut": cmdCut, "console": cmdConsole, "publish": cmdPublish,
			"withdraw": cmdWithdraw, "repo": cmdRepo, "exits": cmdExits, "hup": cmdHUP, "signal": cmdSignal, "damage": cmdDamage,
			"boot": cmdBoot, "block": cmdBlock, "unblock": cmdUnblock, "pass": cmdPass, "quiet": cmdQuiet, "interrupt": cmdInterrupt, "expand": cmdExpand,
			"aside": cmdAside, "unmount": cmdUnmount,
		},
	})
}
