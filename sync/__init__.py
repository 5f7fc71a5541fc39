"""The fleet engine: asyncio, or no event loop at all. Never imports fs, cli, trio or pyfuse3."""

TCFS_PACKAGE = "0.1.0"  # what sync.ours looks for: another distribution may bring a package of this name
