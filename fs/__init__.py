"""The mount: trio. Imports from sync only sync.core, sync.state, sync.env and sync.ipc.frames."""

TCFS_PACKAGE = "0.1.0"  # what sync.ours looks for: another distribution may bring a package of this name
