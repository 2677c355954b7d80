// Package tuf is the client of a TUF repository (specification 1.0.33): from signed metadata to releases that may be
// trusted, whatever the network, the mirrors and a thief of some keys do.
//
// # What is trusted, and why
//
// The image carries a root: who holds which keys, and how many must sign. From there each file vouches for the next:
//
//	root N -> root N+1 -> ...   each signed by a threshold of its predecessor's keys and of its own; 404 or 403 ends the chain
//	timestamp                   short-lived: which snapshot is current
//	snapshot                    the version of every targets file, so that old and new cannot be mixed
//	targets -> delegated roles  names, lengths and hashes of files: releases/PRODUCT/SERIAL.json, images/SHA256.index
//
// The verification of each step is go-tuf's trustedmetadata: bytes in, verdict out. The loop around it, the store and the
// walk over the delegations are ours, because they must survive power cuts, lost files and hostile bytes.
//
// # What is kept
//
// In Options.Dir, on the state partition, outside both slots:
//
//	root.json, timestamp.json, snapshot.json, ROLE.json   the newest verified file of each role, byte for byte as served
//	marks                                                 the highest versions and the newest time ever verified
//	complete                                              the last set of files that was complete and consistent
//	targets/SHA256                                        small verified files: releases and indexes
//
// Every file is replaced atomically. A damaged or missing one counts as absent, with a warning, and is fetched again: no
// damage ends updates for ever. The marks keep a lost or damaged file from opening the way back to an old version. Where
// all of it is lost, trust starts again from the root in the image.
//
// A refresh that fails anywhere leaves the complete set in force that was in force before.
//
// # Time
//
// Metadata expires, and a machine may have no clock, or a wrong one. So time is the later of the system clock and a floor:
// the build time of the image, or the newest "issued" field of verified timestamp, snapshot or targets metadata. The
// system clock itself is never kept: a clock that was ahead for an hour would expire everything for ever. A root that
// replaces a role's key voids what that key said of versions and of time.
package tuf
