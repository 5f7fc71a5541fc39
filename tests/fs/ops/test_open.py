"""Opening through the operations: what was told before is not told any more."""

import os

from treekit import Machine

from fs.ops import directory
from fs.ops import open as open_ops
from fs.ops.attr import getattr_of
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
