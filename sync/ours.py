"""Are the packages sync, fs and cli of this environment ours? Their names are common: another distribution may bring
one that overwrites ours, or stands before it on the path."""

import importlib.util
from pathlib import Path

from sync import TCFS_PACKAGE

VERSION = TCFS_PACKAGE
PACKAGES = ("sync", "fs", "cli")


def foreign_packages() -> dict[str, str]:
    """Package -> what is wrong with it; empty if all is well. Nothing is imported.

    Said at start-up and by doctor; the remedy is an environment of its own: scripts/setup.
    """
    wrong = {}
    home = Path(__file__).parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            wrong[name] = "is missing"
        elif Path(spec.origin).parent.parent != home:
            wrong[name] = f"comes from {Path(spec.origin).parent}, tcfs is in {home}"
        elif f'TCFS_PACKAGE = "{VERSION}"' not in Path(spec.origin).read_text(errors="replace"):
            wrong[name] = f"{spec.origin} is not of tcfs {VERSION}"
    return wrong
