"""git's own tests, with their repositories in a folder: `scripts/suites git`, or `git:t7*` for some of the scripts.

They run as an ordinary user: as root git leaves out those that need permissions to be refused. What git itself knows to
fail ("known breakage") counts as nothing.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit import Outcome, Side, chosen, debian_source, install, run

# All but those about other systems of version control (t91*, t92*, t94* to t96*, t98*).
SCRIPTS = ("t[0-8]*", "t9[03]*", "t921*", "t97*", "t99*")
BUILD = "make -j2 CFLAGS=-O1 NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_TCLTK=1 NO_PYTHON=1 all"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@contextmanager
def git(parts: list[str]) -> Iterator[Side]:
    """GIT_SOURCE in the environment: sources that BUILD has built before."""
    if ready := os.environ.get("GIT_SOURCE"):
        yield lambda folder: _scripts(Path(ready) / "t", parts, folder)
        return
    install("build-essential", "zlib1g-dev", "libssl-dev", "perl")
    with debian_source("git") as source:
        subprocess.run(BUILD.split(), cwd=source, check=True, capture_output=True)
        yield lambda folder: _scripts(source / "t", parts, folder)


def _scripts(tests: Path, parts: list[str], folder: Path) -> Outcome:
    ran, failed = {}, {}
    folder.chmod(0o777)
    with tempfile.TemporaryDirectory(prefix="tcfs-git-") as output:
        Path(output).chmod(0o777)
        # Each side has all its cases in one folder: git does not look for a repository above it.
        environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/nonexistent", "TEST_OUTPUT_DIRECTORY": output}
        environ |= {"GIT_TEST_CHAIN_LINT": "0", "GIT_CEILING_DIRECTORIES": str(folder)}
        for script in chosen(sorted(path.stem for path in tests.glob("t[0-9]*.sh")), parts or SCRIPTS):
            command = [*NOBODY, f"./{script}.sh", f"--root={folder}"]
            done = run(command, timeout=1800, cwd=tests, env=environ)
            ran[script], found = read_tap(done.code, done.text)
            failed.update({f"{script} {what}": words for what, words in found.items()})
    return Outcome(ran, failed)


def read_tap(code: int, text: str) -> tuple[int, dict[str, str]]:
    """How many tests of a script have run, and which have failed, by what it says in the Test Anything Protocol."""
    passed = re.findall(r"^ok \d+ (?!# skip)", text, re.MULTILINE)
    failed = {}
    for number, what, remark in re.findall(r"^not ok (\d+) - (.*?)( # TODO.*)?$", text, re.MULTILINE):
        if not remark:
            failed[number] = what
    if code and not failed:
        failed["as a whole"] = f"exit {code}: {text[-300:]}"
    return len(passed) + len(failed), failed
