package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConfigOrDefaults: the units that end a bad trial work with the best configuration that there is.
func TestConfigOrDefaults(t *testing.T) {
	const good = "product: edge\ncompatible: box\nrepository: {urls: [\"file:///repo\"]}\n"
	tests := []struct {
		name, image, override string
		product               string
		deadline              time.Duration
		warns                 int
	}{
		{"right", good, "health: {deadline: 20m}\n", "edge", 20 * time.Minute, 0},
		{"wrong override", good, "health: {deadline: soon}\n", "edge", 10 * time.Minute, 1},
		{"wrong image", "product: [", "", "unknown", 10 * time.Minute, 1},
		{"no file", "", "", "unknown", 10 * time.Minute, 1},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		a := testApp()
		a.file = filepath.Join(dir, "config.yaml")
		if tt.image != "" {
			image := strings.ReplaceAll(tt.image, "product: edge", "product: edge\nstate: {dir: "+dir+"}")
			if err := os.WriteFile(a.file, []byte(image), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "config.d"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.d/x.yaml"), []byte(tt.override), 0o600); err != nil {
			t.Fatal(err)
		}
		var warned []string
		c := a.configOrDefaults(func(s string) { warned = append(warned, s) })
		if c.Product != tt.product || c.Health.Deadline != tt.deadline || len(warned) != tt.warns || c.Host.Root != "/" {
			t.Errorf("%s: product %q, deadline %v, root %q, warned %q", tt.name, c.Product, c.Health.Deadline, c.Host.Root, warned)
		}
	}
}
