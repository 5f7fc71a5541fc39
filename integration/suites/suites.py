"""Test suites of others, run on a folder of this disk and on a mount at the same time.

`scripts/suites [SUITE[:PATTERN,...]]...`. What fails on the mount only is printed; the exit code is 1 if anything of it
is not explained by docs/SEMANTICS.md. The programs are Debian's, installed by scripts/tools; root is needed for most of
what they try.
"""

import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import programs
from git import git
from kit import ROOT, Outcome, Side, Suite

sys.path.insert(0, str(ROOT / "integration" / "support"))

from fleetkit import Machine

SUITES: dict[str, Suite] = {
    "libfuse": programs.libfuse,
    "fio": programs.fio,
    "dbench": programs.dbench,
    "stress": programs.stress,
    "python": programs.python,
    "git": git,
}
# What fails on a mount, and why that is so: the names are those of the suites.
EXPLAINED = {
    "names that are not UTF-8 are refused (EILSEQ)": r"Pep383Tests|nonascii_abspath|test_unicode_file|testUnencodable",
    "no ioctl comes to a mount (ENOTTY)": r"^fiemap$",
    "the umask counts in a folder with a default ACL": r"^t1304-default-acl: left out$",
}


def why(name: str) -> str:
    return next((reason for reason, pattern in EXPLAINED.items() if re.search(pattern, name)), "")


def both(side: Side, folders: list[Path]) -> list[tuple[Outcome, float]]:
    """What came out in each of the folders, and the seconds that it took."""

    def one(folder: Path) -> tuple[Outcome, float]:
        folder.mkdir(parents=True)
        began = time.monotonic()
        return side(folder), time.monotonic() - began

    with ThreadPoolExecutor(len(folders)) as pool:
        return list(pool.map(one, folders))


def report(name: str, here: tuple[Outcome, float], there: tuple[Outcome, float]) -> int:
    """Print what a suite has shown; how much of it nothing explains."""
    for where, (outcome, seconds) in (("disk", here), ("mount", there)):
        print(f"{name} on the {where}: {sum(outcome.ran.values())} ran, {len(outcome.failed)} failed, {seconds:.0f} s")
    for what in sorted(here[0].failed):
        print(f"    {what}: fails on the disk: {here[0].failed[what]}")
    found = {what: words for what, words in there[0].failed.items() if what not in here[0].failed}
    for part, count in here[0].ran.items():
        if there[0].ran[part] < count:
            found[f"{part}: left out"] = f"{there[0].ran[part]} instead of {count} have run"
    unexplained = 0
    for what in sorted(found):
        reason = why(what)
        unexplained += not reason
        print(f"    {what}: {reason or f'NOT EXPLAINED: {found[what]}'}", flush=True)
    return unexplained


def main(names: list[str]) -> int:
    unexplained = 0
    with tempfile.TemporaryDirectory(prefix="tcfs-suites-", ignore_cleanup_errors=True) as base:
        Path(base).chmod(0o711)
        yoga = Machine(Path(base) / "yoga", "yoga")
        yoga.environ["TCFS_SYNC_GIT"] = "raw"
        try:
            yoga.init(Path(base) / "store")
            yoga.up()
            for name, _, patterns in (word.partition(":") for word in names or SUITES):
                with SUITES[name](patterns.split(",") if patterns else []) as side:
                    here, there = both(side, [Path(base) / "plain" / name, yoga.mountpoint / name])
                unexplained += report(name, here, there)
            yoga.run("wait", "--timeout", "600", timeout=700)
            yoga.fsck()
        finally:
            yoga.destroy()
    return 1 if unexplained else 0


if __name__ == "__main__":
    unknown = {word.partition(":")[0] for word in sys.argv[1:]} - SUITES.keys()
    if unknown:
        sys.exit(f"there is no suite {' '.join(sorted(unknown))}; there are {' '.join(SUITES)}")
    sys.exit(main(sys.argv[1:]))
