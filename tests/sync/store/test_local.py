import asyncio
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_conformance import FLEET, StoreConformance, listed

from sync.core.errors import (
    BadInput,
    Integrity,
    NoSpace,
    NotAuthorised,
    ObjectMissing,
    ReadOnly,
    RequestFailed,
    StoreAway,
)
from sync.env import Crash, FakeEnv, RealEnv
from sync.store.base import FLEET_OBJECT, ObjectInfo, Store
from sync.store.local import FIRST_PAGE, PAGE, LocalStore
from sync.store.open import open_store, store_folder, store_url


class TestLocal(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        (tmp_path / FLEET_OBJECT).write_bytes(FLEET)
        return LocalStore(FakeEnv(), tmp_path)


class TestLocalInThreads(StoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        env = RealEnv({})
        (tmp_path / FLEET_OBJECT).write_bytes(FLEET)
        yield open_store(tmp_path.as_uri(), env)
        env.close()


@pytest.fixture
def env() -> FakeEnv:
    return FakeEnv()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    root.mkdir()
    (root / FLEET_OBJECT).write_bytes(FLEET)
    return root


@pytest.fixture
def store(env: FakeEnv, root: Path) -> LocalStore:
    return LocalStore(env, root)


def run(awaitable):
    async def main():
        return await awaitable

    return asyncio.run(main())


REQUESTS = {
    "get": lambda store: store.get("a/k"),
    "put": lambda store: store.put("a/new", b"x"),
    "put of fleet.json": lambda store: store.put(FLEET_OBJECT, b"x"),
    "put_if_absent": lambda store: store.put_if_absent("a/new", b"x"),
    "list": lambda store: listed(store),
    "list below": lambda store: listed(store, "a/"),
    "delete": lambda store: store.delete("a/k"),
    "stat": lambda store: store.stat("a/k"),
    "check": lambda store: store.check(),
}


# A store that is away


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_root_that_vanished_is_away_and_never_made_again(store: LocalStore, root: Path, request_):
    run(store.put("a/k", b"x"))
    shutil.rmtree(root)
    with pytest.raises(StoreAway):
        run(request_(store))
    assert not root.exists()


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_empty_mount_point_is_away_and_stays_empty(store: LocalStore, root: Path, request_):
    run(store.put("a/k", b"x"))
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(StoreAway):
        run(request_(store))
    assert [] == list(root.iterdir())


def test_another_fleets_store_in_this_place_is_away(store: LocalStore, root: Path):
    run(store.check())
    (root / FLEET_OBJECT).write_bytes(b'{"format":1,"other":true}')
    for request in (store.check(), store.put("k", b"x")):
        with pytest.raises(StoreAway, match="another fleet"):
            run(request)
    (root / FLEET_OBJECT).write_bytes(FLEET)
    run(store.put("k", b"x"))


def test_a_store_that_comes_back_is_there(store: LocalStore, root: Path):
    run(store.put("k", b"x"))
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(StoreAway):
        run(store.get("k"))
    root.with_name("elsewhere").rename(root)
    assert b"x" == run(store.get("k"))


def test_packs_moved_away_are_missing_objects_of_a_store_that_is_there(store: LocalStore, root: Path):
    run(store.put("packs/m/00/p", b"x"))
    (root / "packs").rename(root.with_name("packs"))
    with pytest.raises(ObjectMissing):
        run(store.get("packs/m/00/p"))
    run(store.check())
    assert [] == run(listed(store, "packs/"))


def test_a_store_that_vanishes_while_it_is_listed_gives_no_short_list(store: LocalStore, root: Path):
    for key in ("a/k", "b/k", "c/k"):
        run(store.put(key, b""))

    async def main() -> None:
        seen = []
        with pytest.raises(StoreAway):
            async for info in store.list():
                seen.append(info.key)
                shutil.rmtree(root, ignore_errors=True)
        assert ["a/k"] == seen

    run(main())


def test_a_large_folder_is_looked_at_a_page_at_a_time(store: LocalStore, root: Path):
    """What is changed once the first key was listed, far behind it, is listed as it is then."""
    (root / "l").mkdir()
    names = [f"{number:04d}" for number in range(FIRST_PAGE + PAGE + 50)]
    for name in names:
        (root / "l" / name).write_bytes(b"1")

    async def main() -> list[ObjectInfo]:
        listing = store.list("l/")
        infos = [await anext(listing)]
        (root / "l" / names[-1]).write_bytes(b"22")
        (root / "l" / names[-2]).unlink()
        return infos + [info async for info in listing]

    infos = run(main())
    assert [f"l/{name}" for name in names if name != names[-2]] == [info.key for info in infos]
    assert [1, 2] == [info.size for info in infos[-2:]]


@pytest.mark.parametrize("gone", ["", "l"])
def test_a_store_that_vanishes_between_two_pages_gives_no_short_list(store: LocalStore, root: Path, gone: str):
    """A folder of it that vanishes does: it was deleted."""
    (root / "l").mkdir()
    for number in range(FIRST_PAGE + 1):
        (root / "l" / f"{number:04d}").write_bytes(b"")

    async def main() -> int:
        seen = 0
        async for _ in store.list("l/"):
            seen += 1
            shutil.rmtree(root / gone, ignore_errors=True)
        return seen

    if gone:
        assert FIRST_PAGE == run(main())
    else:
        with pytest.raises(StoreAway):
            run(main())


def test_a_root_that_is_a_file_is_away(env: FakeEnv, tmp_path: Path):
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StoreAway):
        run(LocalStore(env, tmp_path / "f").check())


def test_an_away_store_is_not_retried(env: FakeEnv, tmp_path: Path):
    with pytest.raises(StoreAway):
        run(open_store(str(tmp_path / "none"), env).check())
    assert 0 == env.monotonic()


# A new fleet


def test_create_root_makes_the_root_for_fleet_json_only(env: FakeEnv, tmp_path: Path):
    root = tmp_path / "deep" / "store"
    store = LocalStore(env, root, create_root=True)
    for request in (store.put("machines/m", b"x"), store.check(), store.get("machines/m")):
        with pytest.raises(StoreAway):
            run(request)
    assert not root.exists()
    assert run(store.put_if_absent(FLEET_OBJECT, FLEET)) is True
    assert run(store.put_if_absent(FLEET_OBJECT, b"other")) is False
    run(store.put("machines/m", b"x"))
    assert [FLEET_OBJECT, "machines/m"] == run(listed(store))


# What does not belong to us


def test_foreign_files_and_folders_are_not_listed(store: LocalStore, root: Path):
    for name in (".DS_Store", "lost+found/x", "a/.nfs0001", "a/b c", "ä"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    os.mkfifo(root / "a" / "pipe")
    run(store.put("a/k", b"x"))
    assert ["a/k", FLEET_OBJECT] == run(listed(store))


# Crashes


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("point", ["store.before_sync", "store.before_rename"])
def test_a_crash_before_the_name_leaves_nothing_but_a_temp_file(root: Path, point: str, exclusive: bool):
    env = FakeEnv()
    env.arm(point)
    store = LocalStore(env, root)
    with pytest.raises(Crash):
        run(store.put_if_absent("a/k", b"x") if exclusive else store.put("a/k", b"x"))
    later = LocalStore(FakeEnv(1), root)
    assert [FLEET_OBJECT] == run(listed(later))
    assert 1 == len(list((root / ".tmp").iterdir()))
    assert run(later.put_if_absent("a/k", b"again")) is True
    assert b"again" == run(later.get("a/k"))


@pytest.mark.parametrize("point", ["store.before_dir_sync", "store.after_put"])
def test_a_crash_after_the_name_leaves_the_whole_object(root: Path, point: str):
    env = FakeEnv()
    env.arm(point)
    with pytest.raises(Crash):
        run(LocalStore(env, root).put_if_absent("a/k", b"x"))
    later = LocalStore(FakeEnv(1), root)
    assert run(later.put_if_absent("a/k", b"other")) is False
    assert b"x" == run(later.get("a/k"))
    assert [] == list((root / ".tmp").iterdir())


def test_old_leftovers_are_removed_and_young_ones_are_not(root: Path):
    temps = root / ".tmp"
    temps.mkdir()
    for name, age in (("old", 4000), ("young", 1000)):
        (temps / name).write_bytes(b"x")
        then = (root / FLEET_OBJECT).stat().st_mtime - age
        os.utime(temps / name, (then, then))
    run(LocalStore(FakeEnv(), root).put("k", b"x"))
    assert ["young"] == [entry.name for entry in temps.iterdir()]


def test_nothing_is_left_over_after_ordinary_puts(store: LocalStore, root: Path):
    run(store.put("a/k", b"x"))
    run(store.put("a/k", b"y"))
    run(store.put_if_absent("a/k", b"z"))
    run(store.put_if_absent("a/l", b"z"))
    assert [] == list((root / ".tmp").iterdir())


def test_synced_in_the_order_bytes_name_folder(root: Path, monkeypatch: pytest.MonkeyPatch):
    steps = []

    def record(name: str):
        real = getattr(os, name)

        def call(*args, **kwargs):
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            steps.append("sync folder" if is_folder else name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    store = LocalStore(FakeEnv(), root)
    run(store.put("a/first", b""))
    for name in ("writev", "fdatasync", "fsync", "link", "rename", "mkdir"):
        record(name)
    run(store.put("a/k", b"x"))
    assert ["writev", "fdatasync", "rename", "sync folder"] == steps
    steps.clear()
    run(store.put_if_absent("a/l", b"x"))
    assert ["writev", "fdatasync", "link", "sync folder"] == steps
    steps.clear()
    run(store.put_if_absent("a/l", b"x"))
    assert ["sync folder"] == steps
    steps.clear()
    run(store.put("b/k", b"x"))
    assert ["mkdir", "sync folder", "writev", "fdatasync", "rename", "sync folder"] == steps


# Disks that are full, closed, broken


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)


WRITE_FAILURES = [
    ("writev", errno.ENOSPC, NoSpace),
    ("fdatasync", errno.EDQUOT, NoSpace),
    ("fdatasync", errno.EIO, RequestFailed),
    ("rename", errno.EROFS, ReadOnly),
    ("rename", errno.EACCES, ReadOnly),
    ("fsync", errno.ESTALE, StoreAway),
    ("fsync", errno.ENOSPC, NoSpace),
]


@pytest.mark.parametrize(("call", "number", "expected"), WRITE_FAILURES)
def test_a_put_that_fails_is_named_and_leaves_no_temp_file(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: type
):
    run(store.put("a/k", b"old"))
    with monkeypatch.context() as patch:
        failing(patch, call, number)
        with pytest.raises(expected, match="a/k") as caught:
            run(store.put("a/k", b"new"))
    assert expected is type(caught.value)
    assert [] == list((root / ".tmp").iterdir())
    assert run(store.get("a/k")) in ([b"old"] if call != "fsync" else [b"old", b"new"])


@pytest.mark.parametrize(("number", "expected"), [(errno.EIO, Integrity), (errno.EACCES, NotAuthorised)])
def test_a_get_that_fails_is_named(store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, expected: type):
    run(store.put("a/k", b"x"))
    with monkeypatch.context() as patch:
        failing(patch, "pread", number)
        with pytest.raises(expected, match="a/k"):
            run(store.get("a/k"))


def test_partial_writes_go_on(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    real = os.writev

    def three_bytes(file: int, parts: list) -> int:
        return real(file, [b"".join(parts)[:3]])

    monkeypatch.setattr(os, "writev", three_bytes)
    run(store.put("k", [b"0123", b"", b"4", b"56789" * 3]))
    assert b"01234" + b"56789" * 3 == run(store.get("k"))


def test_a_file_system_without_links_is_used_and_said(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    assert store.is_exclusive
    failing(monkeypatch, "link", errno.EPERM)
    assert run(store.put_if_absent("a/k", b"x")) is True
    assert run(store.put_if_absent("a/k", b"y")) is False
    assert b"x" == run(store.get("a/k"))
    assert not store.is_exclusive


@pytest.fixture
def seen_by_nobody() -> Iterator[LocalStore]:
    """A store with an object a/k, used by somebody who may read it all and write nothing of it."""
    with tempfile.TemporaryDirectory() as above:
        root = Path(above, "store")
        run(LocalStore(FakeEnv(), root, create_root=True).put(FLEET_OBJECT, FLEET))
        run(LocalStore(FakeEnv(), root).put("a/k", b"x"))
        for folder in (Path(above), root, root / "a"):
            folder.chmod(0o555)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield LocalStore(FakeEnv(), root)
        finally:
            os.seteuid(was)
            for folder in (Path(above), root, root / "a"):
                folder.chmod(0o755)


def test_a_store_we_may_only_read(seen_by_nobody: LocalStore):
    store = seen_by_nobody
    assert b"x" == run(store.get("a/k"))
    assert ["a/k", FLEET_OBJECT] == run(listed(store))
    for request in (store.put("a/k", b"y"), store.put_if_absent("b/k", b"y"), store.delete("a/k")):
        with pytest.raises(ReadOnly):
            run(request)


def test_a_store_we_may_not_read(seen_by_nobody: LocalStore):
    store = seen_by_nobody
    was = os.geteuid()
    os.seteuid(os.getuid())
    store_folder(store.url).chmod(0)
    os.seteuid(was)
    for request in (store.get("a/k"), store.put("a/k", b"y"), listed(store), store.check()):
        with pytest.raises(NotAuthorised):
            run(request)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o700])
def test_who_may_use_the_root_may_use_what_is_put(store: LocalStore, root: Path, mode: int):
    """Members may be different users, and a daemon lets nobody into what it makes elsewhere."""
    root.chmod(mode)
    was = os.umask(0o077)
    try:
        run(store.put("packs/m/aa/p", b"x"))
        run(store.put_if_absent("journal/m/1", b"x"))
    finally:
        os.umask(was)
    folders = [root / name for name in ("packs", "packs/m/aa", "journal/m", ".tmp")]
    assert {mode} == {stat.S_IMODE(folder.stat().st_mode) for folder in folders}
    assert {mode & 0o666} == {stat.S_IMODE((root / key).stat().st_mode) for key in ("packs/m/aa/p", "journal/m/1")}


# URLs


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("/srv/store", "/srv/store"),
        ("/srv/../srv/store/", "/srv/store"),
        ("file:///srv/my%20store", "/srv/my store"),
        ("file:/srv/store", "/srv/store"),
        ("file://localhost/srv", "/srv"),
        ("/srv/100%23", "/srv/100%23"),
    ],
)
def test_store_urls(text: str, folder: str):
    assert Path(folder) == store_folder(text)
    assert Path(folder) == store_folder(store_url(text))


def test_relative_paths_and_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/u")
    assert (tmp_path / "s").as_uri() == store_url("s")
    assert "file:///home/u/s" == store_url("~/s")


@pytest.mark.parametrize(
    "text", ["", "s3://bucket", "file://host/x", "file:relative", "file:///a?b", "file:///a#b", "http://x"]
)
def test_urls_of_no_store(text: str):
    with pytest.raises(BadInput):
        store_folder(text)
