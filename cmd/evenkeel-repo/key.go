package main

import (
	"github.com/spf13/cobra"

	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

func (a *app) keyCommand() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "make and look at keys"}
	c.AddCommand(
		&cobra.Command{
			Use: "new NAME", Short: "make a key of your own",
			Long: `Makes NAME.key, encrypted with a passphrase, and NAME.pub in the directory of keys. Give NAME.pub to whoever runs
evenkeel-repo init; keep NAME.key to yourself.`,
			Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return a.newKey(args[0]) },
		},
		&cobra.Command{
			Use: "list", Short: "list the keys in the directory of keys",
			Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.listKeys() },
		},
	)
	return c
}

// keyInfo is what key --json prints of a key.
type keyInfo struct {
	Name string     `json:"name"`
	ID   repo.KeyID `json:"keyid"`
	File string     `json:"file"`
}

func (a *app) newKey(name string) error {
	ring, err := a.keyDir()
	if err != nil {
		return err
	}
	if err := ring.Free(name); err != nil {
		return err
	}
	secret, err := (&passphrases{app: a}).choose("", "key "+name)
	if err != nil {
		return err
	}
	file, _, err := repo.NewKey(name, secret, a.work)
	if err != nil {
		return err
	}
	if err := ring.Save(file); err != nil {
		return err
	}
	a.say("Key %s (%s) is in %s.", name, file.ID.Short(), ring.Path(name))
	return a.result(keyInfo{Name: name, ID: file.ID, File: ring.Path(name)})
}

func (a *app) listKeys() error {
	ring, err := a.keyDir()
	if err != nil {
		return err
	}
	files, err := ring.Files()
	if err != nil {
		return err
	}
	infos := []keyInfo{}
	for _, f := range files {
		a.say("%s  %s", f.ID.Short(), ring.Path(f.Name))
		infos = append(infos, keyInfo{Name: f.Name, ID: f.ID, File: ring.Path(f.Name)})
	}
	return a.result(infos)
}
