"""A real mount over what another machine wrote: listing, reading, hydrating, and changes that arrive meanwhile."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from homekit import is_mounted
from made_versions import MTIME_NS
from mountkit import CHUNK, HAS_FUSE, Fleet, fleet, wait_for

from sync.core.filekey import FileKey
from sync.ipc import frames
from sync.state.rows import value_number

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened")


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def pattern(size: int, seed: int = 1) -> bytes:
    return (b"%08d" % seed * (size // 8 + 1))[:size]


def test_an_empty_fleet_is_an_empty_folder(yoga: Fleet) -> None:
    root = yoga.mount()
    assert os.listdir(root) == []
    assert os.statvfs(root).f_blocks > 0
    assert yoga.unmount() == 0
    assert not os.path.ismount(root)


def test_the_tree_is_there_with_sizes_times_and_modes(yoga: Fleet) -> None:
    yoga.learn("docs/a.txt", b"hello", mode=0o640)
    yoga.learn("docs/sub/b.bin", pattern(3 * CHUNK), cached=False)
    yoga.learn_dir("empty", mode=0o700)
    yoga.learn_symlink("link", "docs/a.txt")
    root = yoga.mount()
    assert sorted(os.listdir(root)) == ["docs", "empty", "link"]
    info = os.stat(root / "docs/a.txt")
    assert (info.st_size, info.st_mtime_ns, stat.S_IMODE(info.st_mode)) == (5, MTIME_NS, 0o640)
    assert (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid())
    assert os.stat(root / "docs/sub/b.bin").st_size == 3 * CHUNK
    assert stat.S_IMODE(os.stat(root / "empty").st_mode) == 0o700
    assert os.readlink(root / "link") == "docs/a.txt"
    assert (root / "link").read_bytes() == b"hello"
    with pytest.raises(FileNotFoundError):
        os.stat(root / "absent")


def test_a_large_folder_is_listed_once_each(yoga: Fleet) -> None:
    from made_versions import put

    names = {f"file-{n:05d}" for n in range(3000)}
    put(yoga.db, *(yoga.other.write(f"many/{name}", "x") for name in sorted(names)))
    root = yoga.mount()
    listed = os.listdir(root / "many")
    assert len(listed) == len(set(listed)) == 3000
    assert set(listed) == names
    with os.scandir(root / "many") as entries:
        assert all(entry.stat().st_size == 1 for entry in entries)


def test_cached_content_is_read_without_an_engine(yoga: Fleet) -> None:
    content = pattern(5 * CHUNK + 1234)
    yoga.learn("big", content)
    root = yoga.mount()
    assert (root / "big").read_bytes() == content
    with open(root / "big", "rb") as file:
        file.seek(2 * CHUNK - 10)
        assert file.read(20) == content[2 * CHUNK - 10 : 2 * CHUNK + 10]


def test_without_an_engine_absent_bytes_are_unreachable_after_three_seconds(yoga: Fleet) -> None:
    yoga.learn("far", b"far away", cached=False)
    root = yoga.mount()
    start = time.monotonic()
    with pytest.raises(OSError) as caught:
        (root / "far").read_bytes()
    assert caught.value.errno == errno.ENETUNREACH
    assert 2 < time.monotonic() - start < 6
    assert os.listdir(root) == ["far"]


def test_a_read_fetches_the_chunks_it_needs_and_little_more(yoga: Fleet) -> None:
    content = b"".join(pattern(CHUNK, seed) for seed in range(40))
    yoga.learn("big", content, cached=False)

    def fetch(request: frames.Fetch) -> frames.Message:
        for index in request.indexes:
            yoga.cache(content[index * CHUNK : (index + 1) * CHUNK])
        return frames.FetchDone(request.id)

    engine = yoga.serve(fetch)
    root = yoga.mount()
    fd = os.open(root / "big", os.O_RDONLY)
    assert os.pread(fd, 4096, 20 * CHUNK + 5000) == content[20 * CHUNK + 5000 : 20 * CHUNK + 9096]
    os.close(fd)
    assert {index for request in engine.fetches for index in request.indexes} <= {20, 21}
    assert (root / "big").read_bytes() == content
    wanted = [index for request in engine.fetches for index in request.indexes]
    assert set(wanted) == set(range(40))
    assert any(len(request.indexes) >= 8 for request in engine.fetches), "nothing was read ahead"


def test_blocks_tell_what_is_local(yoga: Fleet) -> None:
    content = pattern(3 * CHUNK)
    yoga.learn("near", content)
    away = yoga.learn("far", pattern(5000, 2), cached=False)
    copy = yoga.learn("copy", pattern(5000, 2), cached=False)
    yoga.learn("empty", b"")

    def fetch(request: frames.Fetch) -> frames.Message:
        yoga.cache(pattern(5000, 2))
        return frames.FetchDone(request.id)

    engine = yoga.serve(fetch)
    root = yoga.mount()
    assert [os.stat(root / name).st_blocks for name in ("near", "far", "empty")] == [3 * CHUNK // 512, 1, 0]
    (root / "far").read_bytes()
    wait_for(lambda: os.stat(root / "far").st_blocks == 10, 3)
    assert os.stat(root / "copy").st_blocks == 10
    yoga.chunk_path(bytes.fromhex(away.manifest.chunks[0])).unlink()
    value = value_number(away.manifest)
    assert value == value_number(copy.manifest)
    engine.say(frames.ContentMoved([value], dropped=True))
    for name in ("far", "copy"):
        wait_for(lambda name=name: os.stat(root / name).st_blocks == 1, 3)
    assert len(engine.fetches) == 1
    yoga.cache(pattern(5000, 2))
    engine.say(frames.ContentMoved([value]))
    for name in ("far", "copy"):
        wait_for(lambda name=name: os.stat(root / name).st_blocks == 10, 3)
    yoga.chunk_path(bytes.fromhex(away.manifest.chunks[0])).unlink()
    engine.say(frames.ContentMoved([], dropped=True))
    for name in ("far", "copy"):
        wait_for(lambda name=name: os.stat(root / name).st_blocks == 1, 3)


def test_chunks_that_the_cache_cannot_take_come_inline(yoga: Fleet) -> None:
    yoga.learn("f", b"inline bytes", cached=False)
    yoga.serve(lambda request: frames.FetchDone(request.id, {0: b"inline bytes"}))
    assert (yoga.mount() / "f").read_bytes() == b"inline bytes"


def test_wrong_bytes_are_never_read(yoga: Fleet) -> None:
    yoga.learn("f", b"inline bytes", cached=False)
    yoga.serve(lambda request: frames.FetchDone(request.id, {0: b"INLINE BYTES"}))
    root = yoga.mount()
    with pytest.raises(OSError) as caught:
        (root / "f").read_bytes()
    assert caught.value.errno == errno.EIO


def test_a_file_that_was_changed_after_the_engine_wrote_it_is_fetched_again(yoga: Fleet) -> None:
    """The engine's word for a file counts for that file as it was, and for no other."""
    right, wrong = pattern(CHUNK), pattern(CHUNK, 2)
    version = yoga.learn("f", right, cached=False)
    chunk = bytes.fromhex(version.manifest.chunks[0])

    def fetch(request: frames.Fetch) -> frames.Message:
        yoga.cache(right)
        written = FileKey.of(yoga.chunk_path(chunk).stat())
        if len(engine.fetches) == 1:
            yoga.chunk_path(chunk).write_bytes(wrong)
        return frames.FetchDone(request.id, written={chunk: written})

    engine = yoga.serve(fetch)
    assert (yoga.mount() / "f").read_bytes() == right
    assert len(engine.fetches) == 2
    assert "damaged" in yoga.log()


def test_a_damaged_cache_file_is_fetched_again(yoga: Fleet) -> None:
    version = yoga.learn("f", b"right bytes")
    chunk = bytes.fromhex(version.manifest.chunks[0])
    yoga.chunk_path(chunk).write_bytes(b"wrong bytes")

    def fetch(request: frames.Fetch) -> frames.Message:
        yoga.cache(b"right bytes")
        return frames.FetchDone(request.id)

    yoga.serve(fetch)
    assert (yoga.mount() / "f").read_bytes() == b"right bytes"
    assert "damaged" in yoga.log()


@pytest.mark.parametrize(
    "code, number",
    [("store-away", errno.ENETUNREACH), ("object-missing", errno.EIO), ("timed-out", errno.ETIMEDOUT)],
)
def test_what_the_engine_reports_is_what_the_program_sees(yoga: Fleet, code: str, number: int) -> None:
    yoga.learn("f", b"far", cached=False)
    yoga.serve(lambda request: frames.Failed(request.id, code, "no", path="f"))
    root = yoga.mount()
    with pytest.raises(OSError) as caught:
        (root / "f").read_bytes()
    assert caught.value.errno == number
    assert "read(" in yoga.log() and "'f'" in yoga.log()


def test_while_a_read_waits_everything_else_goes_on(yoga: Fleet) -> None:
    yoga.learn("dir/slow", b"slow", cached=False)
    yoga.learn("dir/other", b"other")
    answer = threading.Event()

    def fetch(request: frames.Fetch) -> frames.Message:
        answer.wait(10)
        return frames.FetchDone(request.id, {0: b"slow"})

    yoga.serve(fetch)
    root = yoga.mount()
    result: list[bytes] = []
    reader = threading.Thread(target=lambda: result.append((root / "dir/slow").read_bytes()))
    reader.start()
    wait_for(lambda: yoga.engine and yoga.engine.fetches)
    start = time.monotonic()
    assert (root / "dir/other").read_bytes() == b"other"
    assert sorted(os.listdir(root / "dir")) == ["other", "slow"]
    (root / "dir/new").write_bytes(b"new")
    assert time.monotonic() - start < 2
    assert not result
    answer.set()
    reader.join(10)
    assert result == [b"slow"]


def test_changes_from_elsewhere_are_seen(yoga: Fleet) -> None:
    first = yoga.learn("a", b"one")
    yoga.serve()
    root = yoga.mount()
    wait_for(lambda: yoga.engine and yoga.engine.heard)
    assert (root / "a").read_bytes() == b"one"
    assert os.listdir(root) == ["a"]
    with pytest.raises(FileNotFoundError):
        os.stat(root / "b")
    yoga.learn("b", b"new")
    wait_for((root / "b").exists, 2)
    second = yoga.learn("a", b"two", seen=[first])  # same size and mtime as before
    wait_for(lambda: (root / "a").read_bytes() == b"two", 2)
    yoga.learn("a", None, seen=[second])
    wait_for(lambda: not (root / "a").exists(), 2)
    assert os.listdir(root) == ["b"]


def test_an_open_before_the_hint_sees_the_new_content(yoga: Fleet) -> None:
    first = yoga.learn("a", b"one")
    root = yoga.mount()  # no engine: nobody says that the feed moved
    for _ in range(20):
        assert (root / "a").read_bytes() in (b"one", b"two")
    yoga.learn("a", b"two", seen=[first])
    assert (root / "a").read_bytes() == b"two"


def test_an_open_file_keeps_what_it_opened(yoga: Fleet) -> None:
    first = yoga.learn("a", b"one")
    yoga.serve()
    root = yoga.mount()
    fd = os.open(root / "a", os.O_RDONLY)
    assert os.pread(fd, 10, 0) == b"one"
    before = os.fstat(fd).st_ino
    yoga.learn("a", b"twofold", seen=[first])
    wait_for(lambda: (root / "a").read_bytes() == b"twofold", 2)
    assert os.pread(fd, 10, 0) == b"one"
    assert os.fstat(fd).st_size == 3
    assert os.fstat(fd).st_ino == before != os.stat(root / "a").st_ino
    os.close(fd)
    assert (root / "a").read_bytes() == b"twofold"


def test_a_dead_mount_point_is_cleaned_at_the_start(yoga: Fleet) -> None:
    yoga.learn("a", b"one")
    root = yoga.mount()
    # Without its helper a killed mount leaves a dead mount point behind.
    helpers = subprocess.run(
        ["pgrep", "-f", f"fusermount3.*{root}"], capture_output=True, text=True, check=False
    ).stdout.split()
    for pid in helpers:
        os.kill(int(pid), 9)
    yoga.kill()
    assert os.path.ismount(yoga.mount())
    assert (root / "a").read_bytes() == b"one"


def test_a_second_mount_of_the_fleet_is_refused(yoga: Fleet) -> None:
    root = yoga.mount()
    second = subprocess.run(
        [sys.executable, "-P", "-m", "fs.mount"],
        cwd="/",
        env={**os.environ, "TCFS_HOME": str(yoga.home.root), "TCFS_START_DAEMON": "0"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 4
    assert "running already" in second.stderr
    assert os.listdir(root) == []


def test_somebody_else_may_unmount_it(yoga: Fleet) -> None:
    root = yoga.mount()
    assert yoga.process is not None
    subprocess.run(["umount", str(root)], check=True)
    assert yoga.process.wait(10) == 0


def test_the_process_holds_nothing_of_its_starter(yoga: Fleet) -> None:
    yoga.mount()
    assert yoga.process is not None
    pid = yoga.process.pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)} == {str(yoga.paths.log_dir / "mount.log")}
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert b"tcfsd" not in command and b"sock" not in command


def test_a_mount_that_is_ended_while_it_starts_leaves_no_dead_mount_point(yoga: Fleet) -> None:
    for _ in range(3):
        process = yoga.start()
        wait_for(lambda: is_mounted(yoga.mountpoint), 30, "the mount", pause=0)
        process.terminate()
        assert process.wait(20) == 0
        assert not is_mounted(yoga.mountpoint)
