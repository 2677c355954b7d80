package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/evenkeel-os/evenkeel/tuf/repo"
)

// asker asks a person for a secret.
type asker func(prompt string) (string, error)

// Errors of asking.
var (
	errNoTerminal = errors.New("there is no terminal to ask on")
	errNotChosen  = errors.New("no passphrase was chosen")
)

// askTerminal asks on the terminal, without echo, even where standard input is something else.
func askTerminal(prompt string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errNoTerminal
	}
	defer tty.Close()
	fmt.Fprint(tty, prompt)
	secret, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return string(secret), err
}

const (
	passphraseEnv = "EVENKEEL_REPO_PASSPHRASE"
	tries         = 3
)

// passphrases gets the passphrases of one run: from the environment, or from a person.
type passphrases struct {
	app  *app
	last string // what a person typed for an earlier key: often the same
}

// fromEnv returns the passphrase that the environment has for keys of a role.
func (p *passphrases) fromEnv(role repo.Role) string {
	special := passphraseEnv + "_" + strings.ToUpper(strings.ReplaceAll(string(role), "-", "_"))
	return or(p.app.env(special), p.app.env(passphraseEnv))
}

// open decrypts a key.
func (p *passphrases) open(f repo.KeyFile, role repo.Role) (repo.Signer, error) {
	if secret := p.fromEnv(role); secret != "" {
		return f.Open(secret)
	}
	if p.last != "" {
		if s, err := f.Open(p.last); err == nil {
			return s, nil
		}
	}
	for range tries - 1 {
		s, err := p.prompt(f)
		if !errors.Is(err, repo.ErrPassphrase) {
			return s, err
		}
		fmt.Fprintln(p.app.stderr, "Wrong passphrase. Try again.")
	}
	return p.prompt(f)
}

func (p *passphrases) prompt(f repo.KeyFile) (repo.Signer, error) {
	secret, err := p.app.ask(fmt.Sprintf("Passphrase of key %s (%s): ", f.Name, f.ID.Short()))
	if err != nil {
		return repo.Signer{}, cannotAsk("the passphrase of key "+f.Name, err)
	}
	s, err := f.Open(secret)
	if err == nil {
		p.last = secret
	}
	return s, err
}

// choose returns the passphrase for new keys of a role; a person types it twice.
func (p *passphrases) choose(role repo.Role, what string) (string, error) {
	if secret := p.fromEnv(role); secret != "" {
		return secret, nil
	}
	if p.last != "" {
		return p.last, nil
	}
	for range tries {
		first, err := p.app.ask("New passphrase for " + what + ": ")
		if err != nil {
			return "", cannotAsk("a passphrase for "+what, err)
		}
		if len([]rune(first)) < repo.MinPassphrase {
			fmt.Fprintf(p.app.stderr, "Use at least %d characters.\n", repo.MinPassphrase)
			continue
		}
		again, err := p.app.ask("The same again: ")
		if err != nil {
			return "", cannotAsk("a passphrase for "+what, err)
		}
		if first == again {
			p.last = first
			return first, nil
		}
		fmt.Fprintln(p.app.stderr, "They differ. Try again.")
	}
	return "", errNotChosen
}

func cannotAsk(what string, err error) error {
	return fmt.Errorf("cannot ask for %s: %w: set %s, or %s_ROLE for the keys of one role", what, err, passphraseEnv, passphraseEnv)
}
