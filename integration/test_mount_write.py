"""A real mount that is written to, without an engine: what programs do, what survives a kill, what is sealed."""

import errno
import fcntl
import itertools
import mmap
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mountkit import CHUNK, HAS_FUSE, Fleet, fleet, wait_for

from sync.ipc import frames
from sync.state.tree.reader import TreeReader

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened")

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def sealed(yoga: Fleet) -> dict[str, str]:
    """path -> op of all that is sealed."""
    reader = TreeReader(yoga.env, yoga.paths.tree_db)
    try:
        return {seal.path: seal.op for seal in reader.seals(frozenset())}
    finally:
        reader.close()


def refused(number: int, call: object, *args: object, **more: object) -> None:
    with pytest.raises(OSError) as caught:
        call(*args, **more)  # type: ignore[operator]
    assert caught.value.errno == number


def test_a_file_is_written_and_read_back(yoga: Fleet) -> None:
    root = yoga.mount()
    (root / "a").write_bytes(b"hello")
    assert (root / "a").read_bytes() == b"hello"
    assert os.stat(root / "a").st_size == 5
    assert os.listdir(root) == ["a"]
    with open(root / "a", "r+b") as file:
        file.seek(3)
        file.write(b"p me")
        file.flush()
        assert (root / "a").read_bytes() == b"help me"
        file.truncate(2)
        assert (root / "a").read_bytes() == b"he"
        file.seek(4)
        file.write(b"!")
    assert (root / "a").read_bytes() == b"he\0\0!"
    with open(root / "a", "ab") as file:
        file.write(b"?")
    assert (root / "a").read_bytes() == b"he\0\0!?"
    with open(root / "a", "wb"):
        pass
    assert (root / "a").read_bytes() == b""


def test_what_was_closed_survives_kill(yoga: Fleet) -> None:
    root = yoga.mount()
    os.makedirs(root / "d/e")
    for n in range(50):
        (root / f"d/e/f{n}").write_bytes(b"%d" % n * 1000)
    yoga.kill()
    yoga.mount()
    assert sorted(os.listdir(root / "d/e")) == sorted(f"f{n}" for n in range(50))
    assert all((root / f"d/e/f{n}").read_bytes() == b"%d" % n * 1000 for n in range(50))


def test_closed_files_are_sealed_soon_and_the_engine_is_told(yoga: Fleet) -> None:
    engine = yoga.serve()
    root = yoga.mount()
    engine.wait_for(frames.Sealed)
    engine.heard.clear()
    (root / "a").write_bytes(b"x")
    os.mkdir(root / "d")
    os.symlink("a", root / "l")
    engine.wait_for(frames.Sealed)
    wait_for(lambda: sealed(yoga).keys() >= {"a", "d", "l"}, 2)


def test_all_that_is_closed_is_sealed_at_unmount(yoga: Fleet) -> None:
    root = yoga.mount()
    for n in range(30):
        (root / f"f{n}").write_bytes(b"x")
    assert yoga.unmount() == 0
    assert sealed(yoga).keys() == {f"f{n}" for n in range(30)}


def test_sealing_on_request_names_what_is_busy(yoga: Fleet) -> None:
    engine = yoga.serve()
    root = yoga.mount()
    engine.wait_for(frames.Hello)
    with open(root / "open", "wb") as file:
        file.write(b"half")
        file.flush()
        (root / "closed").write_bytes(b"x")
        engine.say(frames.SealNow(1, None, "wait"))
        result = engine.wait_for(frames.SealResult)
        assert result.busy == ["open"]
        assert "closed" in sealed(yoga) and "open" not in sealed(yoga)
        engine.heard.clear()
        engine.say(frames.SealNow(2, ["open", "absent"], "push"))
        result = engine.wait_for(frames.SealResult)
        assert (result.busy, result.missing) == ([], ["absent"])
        assert "open" in sealed(yoga)


def test_one_byte_in_a_placeholder_needs_no_content(yoga: Fleet) -> None:
    yoga.learn("big", b"0" * (3 * CHUNK), cached=False)
    root = yoga.mount()
    with open(root / "big", "r+b") as file:
        file.seek(CHUNK + 5)
        file.write(b"1")
        os.fsync(file.fileno())
    assert os.stat(root / "big").st_size == 3 * CHUNK
    wait_for(lambda: "big" in sealed(yoga), 2)
    yoga.cache(b"0" * CHUNK)
    assert (root / "big").read_bytes() == b"0" * (CHUNK + 5) + b"1" + b"0" * (2 * CHUNK - 6)


def test_removing_and_renaming(yoga: Fleet) -> None:
    yoga.learn("shown/a", b"a")
    yoga.learn("shown/sub/b", b"b")
    root = yoga.mount()
    os.rename(root / "shown", root / "moved")
    assert (root / "moved/sub/b").read_bytes() == b"b"
    assert not (root / "shown").exists()
    os.rename(root / "moved/a", root / "top")
    assert (root / "top").read_bytes() == b"a"
    (root / "own").write_bytes(b"own")
    os.replace(root / "own", root / "top")
    assert (root / "top").read_bytes() == b"own"
    refused(errno.ENOTEMPTY, os.rmdir, root / "moved")
    refused(errno.EISDIR, os.unlink, root / "moved")
    refused(errno.ENOTDIR, os.rmdir, root / "top")
    os.unlink(root / "moved/sub/b")
    os.rmdir(root / "moved/sub")
    os.rmdir(root / "moved")
    assert os.listdir(root) == ["top"]
    refused(errno.ENOENT, os.unlink, root / "gone")


def test_flags_of_rename(yoga: Fleet) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    root = yoga.mount()
    (root / "a").write_bytes(b"a")
    (root / "b").write_bytes(b"b")

    def renameat2(flags: int) -> int:
        done = libc.renameat2(-100, bytes(root / "a"), -100, bytes(root / "b"), flags)
        return 0 if done == 0 else ctypes.get_errno()

    assert renameat2(RENAME_NOREPLACE) == errno.EEXIST
    assert renameat2(RENAME_EXCHANGE) == 0
    assert ((root / "a").read_bytes(), (root / "b").read_bytes()) == (b"b", b"a")
    os.unlink(root / "b")
    assert renameat2(RENAME_NOREPLACE) == 0


def test_an_unlinked_open_file_lives_on(yoga: Fleet) -> None:
    yoga.learn("shown", b"shown")
    root = yoga.mount()
    with open(root / "own", "w+b") as own, open(root / "shown", "rb") as shown:
        own.write(b"own")
        own.flush()
        os.unlink(root / "own")
        os.unlink(root / "shown")
        assert os.listdir(root) == []
        own.write(b" more")
        own.flush()
        assert os.pread(own.fileno(), 100, 0) == b"own more"
        assert os.fstat(own.fileno()).st_nlink == 0
        assert shown.read() == b"shown"
    assert os.listdir(root) == []


def test_attributes(yoga: Fleet) -> None:
    yoga.learn("shown", b"shown")
    root = yoga.mount()
    (root / "own").touch()
    for name in ("shown", "own"):
        os.chmod(root / name, 0o600)
        os.utime(root / name, ns=(10**18, 2 * 10**18 + 7))
        info = os.stat(root / name)
        assert stat.S_IMODE(info.st_mode) == 0o600
        assert info.st_mtime_ns == 2 * 10**18 + 7
    os.truncate(root / "shown", 2)
    assert (root / "shown").read_bytes() == b"sh"
    if os.geteuid() == 0:
        os.chown(root / "own", 1234, 4321)
        assert (os.stat(root / "own").st_uid, os.stat(root / "own").st_gid) == (1234, 4321)


def test_set_group_id_is_inherited(yoga: Fleet) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder to another group")
    root = yoga.mount()
    os.mkdir(root / "d")
    os.chown(root / "d", 0, 4321)
    os.chmod(root / "d", 0o2775)
    (root / "d/f").touch()
    os.mkdir(root / "d/sub")
    assert os.stat(root / "d/f").st_gid == 4321
    assert os.stat(root / "d/sub").st_gid == 4321
    assert os.stat(root / "d/sub").st_mode & stat.S_ISGID


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (1000, 1000), (1001, 1000), (1002, 1002)])
def test_emptying_takes_privileges_as_on_ext4(yoga: Fleet, tmp_path: Path, uid: int, gid: int) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    found = []
    for folder in (yoga.mount(), plain):
        os.chmod(folder, 0o777)
        for n, (mode, content) in enumerate(itertools.product((0o6777, 0o2666, 0o6766, 0o4777), (b"abc", b""))):
            file = folder / str(n)
            file.write_bytes(content)
            os.chown(file, 1000, 1000)
            os.chmod(file, mode)
            os.stat(file)  # the kernel knows the bits
            empty = ["sh", "-c", f": > {n}"]
            subprocess.run(empty, cwd=folder, user=uid, group=gid, extra_groups=[], check=True)
            found.append((n, oct(os.stat(file).st_mode)))
    assert found[:8] == found[8:]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities")
def test_emptying_takes_capabilities(yoga: Fleet) -> None:
    """From whoever it comes."""
    file = yoga.mount() / "a"
    for content in (b"abc", b""):
        file.write_bytes(content)
        os.setxattr(file, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        os.close(os.open(file, os.O_WRONLY | os.O_TRUNC))
        refused(errno.ENODATA, os.getxattr, file, "security.capability")


def test_extended_attributes(yoga: Fleet) -> None:
    yoga.learn("shown", b"shown")
    root = yoga.mount()
    for name in ("shown", "own"):
        (root / name).touch()
        os.setxattr(root / name, "user.colour", b"blue")
        assert os.getxattr(root / name, "user.colour") == b"blue"
        assert os.listxattr(root / name) == ["user.colour"]
        refused(errno.EEXIST, os.setxattr, root / name, "user.colour", b"x", os.XATTR_CREATE)
        refused(errno.ENODATA, os.getxattr, root / name, "user.other")
        refused(errno.ENODATA, os.getxattr, root / name, "security.capability")
        refused(errno.EOPNOTSUPP, os.setxattr, root / name, "system.x", b"x")
        os.removexattr(root / name, "user.colour")
        assert os.listxattr(root / name) == []


def test_an_attribute_that_is_set_again_moves_no_time(yoga: Fleet) -> None:
    yoga.learn("shown", b"shown")
    root = yoga.mount()
    (root / "own").touch()
    for name in ("shown", "own"):
        os.setxattr(root / name, "user.colour", b"blue")
        before_ns = os.stat(root / name).st_ctime_ns
        wait_for(lambda before_ns=before_ns: yoga.env.file_time_ns() > before_ns, what="the clock goes on")
        os.setxattr(root / name, "user.colour", b"blue")
        assert os.stat(root / name).st_ctime_ns == before_ns
        os.setxattr(root / name, "user.colour", b"red")
        assert os.stat(root / name).st_ctime_ns > before_ns


def test_what_is_refused(yoga: Fleet) -> None:
    root = yoga.mount()
    (root / "a").touch()
    refused(errno.EPERM, os.link, root, root / "b")
    refused(errno.ENAMETOOLONG, os.mkdir, root / ("n" * 256))
    os.mkdir(root / ("n" * 255))
    refused(errno.EILSEQ, os.mkdir, os.fsencode(root) + b"/\xff\xfe")
    os.mkdir(root / "ümlaut")
    refused(errno.ENOTDIR, os.listdir, root / "a")


def test_locks_and_shared_mappings(yoga: Fleet) -> None:
    root = yoga.mount()
    (root / "a").write_bytes(b"0" * 8192)
    with open(root / "a", "r+b") as one, open(root / "a", "rb") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with mmap.mmap(one.fileno(), 8192) as mapped:
            mapped[4096:4100] = b"1234"
            mapped.flush()
        assert os.pread(two.fileno(), 4, 4096) == b"1234"
    assert (root / "a").read_bytes()[4096:4100] == b"1234"


def test_cp_tar_and_rm_of_a_tree(yoga: Fleet, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for n in range(300):
        folder = source / f"d{n % 17}" / f"e{n % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{n}").write_bytes(os.urandom(n * 37))
        os.chmod(folder / f"f{n}", 0o644 if n % 3 else 0o755)
    os.symlink("d1/e1", source / "link")
    root = yoga.mount()
    subprocess.run(["cp", "-a", str(source), str(root / "copy")], check=True)
    subprocess.run(["diff", "-r", "--no-dereference", str(source), str(root / "copy")], check=True)
    for path in source.rglob("*"):
        copied = root / "copy" / path.relative_to(source)
        ours, theirs = os.lstat(copied), os.lstat(path)
        assert (ours.st_mode, ours.st_mtime_ns, ours.st_size if path.is_file() else 0) == (
            (theirs.st_mode, theirs.st_mtime_ns, theirs.st_size if path.is_file() else 0)
        ), path
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        archive.add(root / "copy", "copy")
    (root / "untar").mkdir()
    subprocess.run(["tar", "-xf", str(tmp_path / "t.tar"), "-C", str(root / "untar")], check=True)
    subprocess.run(["diff", "-r", "--no-dereference", str(source), str(root / "untar/copy")], check=True)
    shutil.rmtree(root / "copy")
    subprocess.run(["rm", "-r", str(root / "untar")], check=True)
    assert os.listdir(root) == []


def test_a_missing_folder_ends_nothing(yoga: Fleet) -> None:
    """Odd requests get an error, and the mount lives on."""
    root = yoga.mount()
    refused(errno.ENOENT, os.listdir, root / "absent")
    refused(errno.ENOENT, (root / "absent/x").write_bytes, b"")
    os.mkdir(root / "d")
    refused(errno.EINVAL, os.rename, root / "d", root / "d/below")
    assert os.listdir(root) == ["d"]
    assert "Traceback" not in yoga.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="other users reach the mounts of root only")
@pytest.mark.parametrize("flags", ["os.O_RDONLY | os.O_CREAT", "os.O_WRONLY | os.O_CREAT | os.O_TRUNC"])
def test_a_file_that_has_just_come_is_no_new_one(yoga: Fleet, flags: str) -> None:
    """The kernel believes that it makes it, and checks no permissions. Nobody tells the mount: it looks each second."""
    yoga.learn_dir("d", mode=0o777)
    root = yoga.mount()
    program = f"""
import os, sys
folder = os.open({str(root / "d")!r}, os.O_RDONLY)
os.setuid(65534)
for name in sys.stdin:
    try:
        os.close(os.open(name.strip(), {flags}, 0o644, dir_fd=folder))
        print("opened", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
    command = [sys.executable, "-P", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as other:
        assert other.stdin is not None and other.stdout is not None

        def tries(name: str) -> str:
            assert other.stdin is not None and other.stdout is not None
            print(name, file=other.stdin, flush=True)
            return other.stdout.readline().strip()

        assert tries("own") == "opened"
        for number, (mode, answer) in enumerate([(0o600, str(errno.EACCES)), (0o666, "opened")] * 3):
            name = f"f{number}"
            assert not (root / "d" / name).exists()
            yoga.learn(f"d/{name}", b"kept", mode=mode)
            assert tries(name) == answer
            if mode == 0o600:
                assert (root / "d" / name).read_bytes() == b"kept"
        other.stdin.close()
    assert "Traceback" not in yoga.log()


def test_a_removed_folder_that_is_open_is_empty(yoga: Fleet) -> None:
    yoga.learn_dir("shown")
    root = yoga.mount()
    (root / "new").mkdir()
    for name in ("shown", "new"):
        folder = os.open(root / name, os.O_RDONLY)
        (root / name).rmdir()
        assert os.fstat(folder).st_nlink == 0
        assert os.listdir(folder) == []
        refused(errno.ENOENT, os.open, "f", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
        refused(errno.ENOENT, os.mkdir, "d", 0o755, dir_fd=folder)
        os.close(folder)
        assert not (root / name).exists()


def test_listings_have_dots(yoga: Fleet) -> None:
    root = yoga.mount()
    (root / "d").mkdir()
    (root / "d" / "f").touch()
    for folder, names in ((root, {".", "..", "d"}), (root / "d", {".", "..", "f"})):
        listed = subprocess.run(["ls", "-aif", str(folder)], capture_output=True, text=True, check=True).stdout.split()
        numbers = dict(zip(listed[1::2], map(int, listed[::2]), strict=True))
        assert set(numbers) == names
        assert numbers["."] == os.stat(folder).st_ino
    assert numbers[".."] == os.stat(root).st_ino


@pytest.mark.parametrize("when", ["2300-01-01", "1600-01-01"])
def test_times_of_any_year_stop_nothing(yoga: Fleet, when: str) -> None:
    root = yoga.mount()
    subprocess.run(["touch", "-d", when, str(root / "f")], check=True)
    (root / "after").mkdir()
    (root / "after" / "file").write_text("saved\n")
    assert (2262 if when > "2" else 1677) == datetime.fromtimestamp(os.stat(root / "f").st_mtime, UTC).year
    yoga.kill()
    yoga.mount()
    assert (root / "after" / "file").read_text() == "saved\n"
    assert (root / "f").exists()
    assert "Traceback" not in yoga.log()
