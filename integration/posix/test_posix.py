"""Single operations on a mount do what they do on ext4: the same steps on both, compared after each.

With the kernel's caches and without; the long test does every case, the other one of seven.
"""

import os
import subprocess
from collections.abc import Iterator

import pytest
from differences import KNOWN, known
from mountkit import HAS_FUSE, fleet
from posixkit import Side, compare, sides
from situations import GROUPS


def _type_of(place: str) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", place], capture_output=True, text=True, check=False).stdout.strip()


pytestmark = [
    pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened"),
    pytest.mark.skipif(os.geteuid() != 0, reason="other users are needed: run it as root"),
]
SAMPLE = 7

Pair = tuple[Side, Side]


@pytest.fixture(scope="module", params=["cached", "uncached"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    base = tmp_path_factory.mktemp("posix")
    if not _type_of(str(base)).startswith("ext"):
        pytest.skip(f"{base} is not on ext4")
    (base / "plain").mkdir()
    with fleet(base) as made:
        made.serve()
        root = made.mount(TCFS_NO_KERNEL_CACHE="1" if request.param == "uncached" else "0")
        (root / "mount").mkdir()
        with sides(base / "plain", root / "mount") as both:
            yield both


def differences(pair: Pair, group: str, step: int) -> tuple[list[str], set[str]]:
    """Those that nobody knows of, and the names of the known ones that were met."""
    unknown, met = [], set()
    for case in list(GROUPS[group]())[::step]:
        for difference in compare(*pair, case):
            found = known(difference)
            if found is None:
                unknown.append(str(difference)[:500])
            else:
                met.add(found.name)
    return unknown, met


@pytest.mark.parametrize("group", GROUPS)
def test_a_sample(pair: Pair, group: str) -> None:
    assert differences(pair, group, SAMPLE)[0] == []


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", GROUPS)
def test_every_case(pair: Pair, group: str) -> None:
    unknown, met = differences(pair, group, 1)
    assert unknown == []
    assert met >= {each.name for each in KNOWN if each.group == group}, "one of the known differences is none any more"
