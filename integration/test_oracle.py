"""Every combination of flags and things, on a mount and on the file system below: what the one answers the other does.

Things are new here (rows of the mount's own), or were published elsewhere and nothing of them has been changed.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import oracle
import pytest
from made_versions import put
from mountkit import HAS_FUSE, Fleet, fleet

from sync.core.manifest import Kind

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened here")

QUICK = 7  # one case in so many, prime so that it meets all flags and things; every one of them in the long run

CASES: dict[str, Callable[[], Iterator[oracle.Case]]] = {
    "opens": oracle.opens,
    "odd_opens": oracle.odd_opens,
    "renames": oracle.renames,
    "odd_renames": oracle.odd_renames,
    "names": oracle.names,
}


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """What was published elsewhere has the modes that the other machine gave it."""
    old = os.umask(0o022)
    yield
    os.umask(old)


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def published(yoga: Fleet, folder: str, case: oracle.Case) -> None:
    """Another machine has made what is there before."""
    lines = [yoga.other.mkdir(folder)]
    for thing in case.things:
        path = f"{folder}/{thing[0] if isinstance(thing, tuple) else thing}"
        if isinstance(thing, tuple):
            lines.append(yoga.other.write(path, thing[1], kind=Kind.SYMLINK))
        elif thing.endswith("/"):
            lines.append(yoga.other.mkdir(path[:-1]))
        else:
            lines.append(yoga.file_line(path, oracle.CONTENT))
    put(yoga.db, *lines)


@pytest.mark.parametrize("every", [QUICK, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", CASES)
def test_what_is_new_here(yoga: Fleet, tmp_path: Path, kind: str, every: int) -> None:
    root, plain = yoga.mount(), tmp_path / "plain"
    plain.mkdir()
    wrong = []
    for number, case in enumerate(islice(CASES[kind](), 0, None, every)):
        for side in (plain, root):
            oracle.furnish(side / str(number), case)
        right, got = (oracle.answers(side / str(number), case) for side in (plain, root))
        wrong.append(oracle.difference(case, right, got))
    found = [line for line in wrong if line]
    assert not found, "\n".join([f"{len(found)} of {len(wrong)}", *found[:20]])
    assert "Traceback" not in yoga.log()


@pytest.mark.parametrize("every", [QUICK, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", CASES)
def test_what_was_published_elsewhere(yoga: Fleet, tmp_path: Path, kind: str, every: int) -> None:
    root, plain = yoga.mount(), tmp_path / "plain"
    plain.mkdir()
    wrong = []
    cases = islice(CASES[kind](), 0, None, every)
    number = 0
    while some := list(islice(cases, 200)):
        for place, case in enumerate(some, number):
            published(yoga, str(place), case)
        yoga.hint()
        for case in some:
            oracle.furnish(plain / str(number), case)
            right, got = (oracle.answers(side / str(number), case) for side in (plain, root))
            wrong.append(oracle.difference(case, right, got))
            number += 1
    found = [line for line in wrong if line]
    assert not found, "\n".join([f"{len(found)} of {len(wrong)}", *found[:20]])
    assert "Traceback" not in yoga.log()
