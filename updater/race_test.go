//go:build race

package updater_test

const raceDetector = true
