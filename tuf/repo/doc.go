// Package repo is the publisher of a TUF repository: a directory of static files that any HTTP server serves, and the
// keys that vouch for them.
//
// # The directory
//
//	metadata/N.root.json, N.snapshot.json, N.targets.json, N.ROLE.json   consistent snapshots: never rewritten once published
//	metadata/timestamp.json                                              the only file that is ever replaced
//	targets/releases/PRODUCT/SHA256.SERIAL.json                          a release
//	targets/images/SHA256.IMAGE.index                                    the index of the image with digest IMAGE
//	targets/packs/IMAGE.pack                                             its bytes, untrusted: the index verifies them
//	staged/metadata/ROLE.json                                            the next version of a role, while people sign it
//	staged/targets/SHA256, staged/targets/IMAGE.pack                     the files that it names, until they move to targets/
//
// metadata/ and targets/ are served; staged/ is not, and nothing in it is trusted by anybody.
//
// # From a release to the world
//
// Add makes the files of a release and stages the next version of the role "releases" that names them. Each holder of a key
// of that role adds one signature with Sign, in any order, on any machine that has a copy of metadata/ and staged/. When
// the threshold is met, Publish makes the next snapshot and timestamp with the online keys, and switches.
//
// The switch is the replacement of timestamp.json: everything it leads to was written and fsynced before, under names that
// no published file leads to yet, and was read back and accepted by the client that the agent uses (package tuf), both as a
// host with nothing but the first root sees it and as a host sees it that trusts what is published now. So a publisher that
// is killed leaves the old repository or the new one, and Publish again finishes the work.
//
// # Roles
//
// root says who holds the other keys; targets delegates; snapshot and timestamp give freshness, with keys that live on the
// publishing machine. Delegated by targets: releases (which releases exist), policy (the upper bound of who, when and how
// far), approvers (open an "approve" gate), brake (halt, and nothing else). A delegated role without a target says that
// there is nothing, signed: it is not the same as a missing role.
//
// timestamp, snapshot, targets and the delegated roles carry "issued", RFC 3339 in UTC, at the top level of "signed": when
// the file was made. A host without a clock takes its time from there.
//
// # Keys
//
// A private key is PKCS #8, encrypted with a passphrase by age (scrypt), in a JSON file beside its public half. It is never
// written otherwise. What signs is a crypto.Signer, so it may as well live in an agent or a token.
package repo
