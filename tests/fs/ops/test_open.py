"""Opening through the operations: what was told before is not told any more."""

import os

import pytest
from treekit import Machine

from fs.ops import directory
from fs.ops import open as open_ops
from fs.ops.attr import getattr_of
from fs.ops.privileges import Caller
from fs.ops.volume import Volume


def test_a_file_emptied_by_who_only_reads_is_empty_at_once(volume: Volume, yoga: Machine) -> None:
    yoga.write("a", b"content")
    folder = directory.opendir(volume, 1)
    (listed,) = [entry for entry in directory.read_dir(volume, folder, 0) if entry.name == b"a"]
    directory.listed(volume, listed)
    assert getattr_of(volume, listed.attr.ino).size == 7
    assert volume.recent.attr(listed.attr.ino) is not None
    open_ops.open_file(volume, listed.attr.ino, os.O_RDONLY | os.O_TRUNC)
    assert getattr_of(volume, listed.attr.ino).size == 0


OWNER, MEMBER, OTHER = Caller(1000, 1000), Caller(7, 7, lambda: [1000]), Caller(8, 8)


@pytest.mark.parametrize("content", [b"abc", b""])
@pytest.mark.parametrize(
    ("caller", "mode", "behind"),
    [
        (Caller(0, 0), 0o6777, 0o6777),
        (OWNER, 0o6777, 0o777),
        (OTHER, 0o6777, 0o777),
        (OWNER, 0o6766, 0o2766),
        (MEMBER, 0o6766, 0o2766),
        (OTHER, 0o6766, 0o766),
        (OTHER, 0o1777, 0o1777),
        (None, 0o6777, 0o777),
    ],
)
def test_emptying_takes_privileges(
    volume: Volume, yoga: Machine, content: bytes, caller: Caller | None, mode: int, behind: int
) -> None:
    yoga.write("a", content)
    yoga.cycle()
    ino = yoga.tree.lookup(1, "a").ino
    yoga.tree.setattr(ino, mode=mode)
    open_ops.open_file(volume, ino, os.O_WRONLY, 0, caller)
    assert yoga.attr("a").mode == mode
    open_ops.open_file(volume, ino, os.O_RDONLY | os.O_TRUNC, 0, caller)
    assert yoga.attr("a").mode == behind
    assert len(volume.invalidations) == (mode != behind)
