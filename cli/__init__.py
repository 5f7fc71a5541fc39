"""The command line: one file a verb. Nothing imports it."""

TCFS_PACKAGE = "0.1.0"  # what sync.ours looks for: another distribution may bring a package of this name
