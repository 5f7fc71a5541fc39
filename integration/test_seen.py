"""What a real mount tells of a file by its made-up attributes, and that nothing that copies attributes takes them."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetkit import fleet as machines
from fleetkit import poll
from mountkit import HAS_FUSE, Fleet, fleet

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened")


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def attributes(path: Path) -> dict[str, str]:
    names = ("state", "pin", "version", "written_by", "hash")
    return {name: os.getxattr(path, f"user.tcfs.{name}").decode() for name in names}


def test_a_file_tells_its_state(yoga: Fleet) -> None:
    near = yoga.learn("near", b"local bytes")
    yoga.learn("far", b"far away", cached=False)
    yoga.learn_dir("folder")
    root = yoga.mount()
    assert attributes(root / "near") == {
        "state": "local",
        "pin": "0",
        "version": f"bates:{near.manifest.seq}",
        "written_by": "bates",
        "hash": near.manifest.content_id,
    }
    assert os.getxattr(root / "far", "user.tcfs.state") == b"online-only"
    assert os.getxattr(root / "far", "user.openvfs.state") == b"virtual"
    assert os.getxattr(root / "folder", "user.tcfs.state") == b"local"
    assert os.getxattr(root, "user.tcfs.state") == b"local"
    (root / "new").write_bytes(b"x")
    (root / ".new.swp").write_bytes(b"x")
    assert os.getxattr(root / "new", "user.tcfs.state") == b"dirty"
    assert os.getxattr(root / ".new.swp", "user.tcfs.state") == b"excluded"
    with open(root / "near", "rb") as file:
        assert os.getxattr(file.fileno(), "user.tcfs.state") == b"local"
    with pytest.raises(OSError) as caught:
        os.setxattr(root / "near", "user.tcfs.state", b"dirty")
    assert caught.value.errno == errno.EOPNOTSUPP
    with pytest.raises(OSError) as caught:
        os.getxattr(root / "new", "user.tcfs.version")
    assert caught.value.errno == errno.ENODATA


def test_nothing_that_copies_attributes_takes_them(yoga: Fleet, tmp_path: Path) -> None:
    yoga.learn("near", b"local bytes")
    root = yoga.mount()
    os.setxattr(root / "near", "user.real", b"1")
    assert os.listxattr(root / "near") == ["user.real"]
    plain = tmp_path / "plain"
    plain.mkdir()
    subprocess.run(["cp", "-a", root / "near", plain / "cp"], check=True)
    subprocess.run(["rsync", "-aX", root / "near", plain / "rsync"], check=True)
    subprocess.run(["tar", "--xattrs", "-cf", tmp_path / "t.tar", "-C", root, "near"], check=True)
    subprocess.run(["tar", "--xattrs", "-xf", tmp_path / "t.tar", "-C", plain], check=True)
    for name in ("cp", "rsync", "near"):
        assert os.listxattr(plain / name) == ["user.real"], name


def test_attributes_of_another_cloud_folder_are_passed_over(yoga: Fleet, tmp_path: Path) -> None:
    root = yoga.mount()
    source = tmp_path / "source"
    source.write_bytes(b"x")
    os.setxattr(source, "user.openvfs.state", b"virtual")
    os.setxattr(source, "user.real", b"1")
    copied = subprocess.run(["cp", "-a", source, root / "copy"], check=True, capture_output=True, text=True)
    assert copied.stderr == ""
    assert os.listxattr(root / "copy") == ["user.real"]
    assert os.getxattr(root / "copy", "user.openvfs.state") == b"hydrated"


def test_a_pin_is_set_like_any_attribute(tmp_path: Path) -> None:
    with machines(tmp_path, "yoga", "bates") as (yoga, bates):
        folder = bates.mountpoint / "d"
        (yoga.mountpoint / "d").mkdir()
        (yoga.mountpoint / "d/a").write_bytes(b"x" * 10_000)
        yoga.run("wait")
        poll(lambda: (folder / "a").exists(), 10, "d/a")
        assert os.getxattr(folder / "a", "user.tcfs.state") == b"online-only"
        os.setxattr(folder, "user.tcfs.pin", b"1")
        assert os.getxattr(folder / "a", "user.tcfs.pin") == b"1"
        poll(lambda: os.getxattr(folder / "a", "user.tcfs.state") == b"pinned", 10, "what is pinned comes")
        assert bates.run("status", "-s").stdout == "+ d/a\n"
        os.removexattr(folder, "user.tcfs.pin")
        assert os.getxattr(folder / "a", "user.tcfs.state") == b"local"
        assert bates.data("policy")["policies"] == []
