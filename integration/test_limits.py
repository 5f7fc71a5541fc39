"""What is larger than calls can say, what cannot be published, and what df shows."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mountkit import HAS_FUSE, Fleet, fleet, wait_for

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened")

LISTED_MAX = 65_536  # XATTR_LIST_MAX of linux/limits.h
ROUGHLY = 0.05  # of a disk: others write to it, too


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def test_df_shows_the_disk_below(yoga: Fleet) -> None:
    root = yoga.mount()

    def is_same() -> bool:
        here, disk = os.statvfs(root), os.statvfs(yoga.paths.state_dir)
        assert (here.f_bsize, here.f_frsize, here.f_blocks) == (disk.f_bsize, disk.f_frsize, disk.f_blocks)
        pairs = [(here.f_bfree, disk.f_bfree), (here.f_bavail, disk.f_bavail)]
        return all(abs(ours - theirs) <= ROUGHLY * disk.f_blocks for ours, theirs in pairs)

    wait_for(is_same, 10, "as much is free as on the disk")
    assert os.statvfs(root).f_namemax == 255


def test_more_names_of_attributes_than_can_be_listed(yoga: Fleet) -> None:
    """64 KiB of them are; one more, and listxattr says E2BIG. Each can still be read and removed."""
    file = yoga.mount() / "a"
    file.touch()
    names = [f"user.{number:03}".ljust(255, "n") for number in range(LISTED_MAX // 256)]  # and a NUL each
    for name in names:
        os.setxattr(file, name, b"")
    assert sorted(os.listxattr(file)) == names
    os.setxattr(file, "user.x", b"one more")
    with pytest.raises(OSError) as caught:
        os.listxattr(file)
    assert caught.value.errno == errno.E2BIG
    assert os.getxattr(file, "user.x") == b"one more"
    os.removexattr(file, names.pop())
    assert sorted(os.listxattr(file)) == [*names, "user.x"]


@pytest.mark.parametrize(
    "call",
    [
        lambda root: os.symlink(b"to\xff", root + b"/l"),
        lambda root: os.setxattr(root + b"/a", b"user.\xff", b"1"),
        lambda root: os.getxattr(root + b"/a", b"user.\xff"),
        lambda root: os.removexattr(root + b"/a", b"user.\xff"),
        lambda root: os.mkdir(root + b"/\xff"),
        lambda root: os.stat(root + b"/\xff"),
    ],
    ids=["target", "setxattr", "getxattr", "removexattr", "mkdir", "stat"],
)
def test_what_is_not_utf8(yoga: Fleet, call: Callable[[bytes], object]) -> None:
    root = yoga.mount()
    (root / "a").touch()
    with pytest.raises(OSError) as caught:
        call(os.fsencode(root))
    assert caught.value.errno == errno.EILSEQ
    assert os.listdir(root) == ["a"] and os.listxattr(root / "a") == []
    os.setxattr(root / "a", b"user.value", b"\xff")  # of values nothing is asked
    assert os.getxattr(root / "a", "user.value") == b"\xff"
