"""push on one machine, learn and pull on another."""

import os
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from workerkit import Fleet, Machine, run

import sync.plain.report as report_of
from sync.core.errors import Conflict, Integrity, NotFound, StoreAway, TcfsError
from sync.plain.report import TransferReport
from sync.plain.target import TargetDir
from sync.worker.content import FileStat


def big(size: int, seed: int = 1) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


def tree_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[name] = oct(path.stat().st_mode & 0o7777)
        else:
            found[name] = (path.read_bytes(), oct(path.stat().st_mode & 0o7777), path.stat().st_mtime_ns)
    return found


def test_a_folder_arrives_as_it_is(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("docs/a.txt", "hello")
    yoga.write("docs/empty", b"")
    yoga.write("docs/deep/er/large.bin", big(300_000))
    (yoga.home / "docs/run").write_bytes(b"#!/bin/sh\n")
    (yoga.home / "docs/run").chmod(0o755)
    (yoga.home / "docs/link").symlink_to("deep//er/")
    (yoga.home / "docs/none").mkdir(mode=0o700)
    os.utime(yoga.home / "docs/none", ns=(5, 5))

    async def go() -> None:
        report = await yoga.push("docs")
        assert report.error() is None
        assert (report.files, report.unchanged) == (5, 0)
        assert (await bates.pull("docs", "docs")).error() is None

    run(go(), fleet.clock)
    assert tree_of(bates.home / "docs") == tree_of(yoga.home / "docs")
    assert (bates.home / "docs/link").readlink().as_posix() == "deep/er"
    assert os.readlink(bates.home / "docs/link") == "deep//er/"


def test_many_files_in_many_folders(fleet: Fleet) -> None:
    """More than one group of everything: items examined, files of a slice, rows of a page."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    for number in range(700):
        yoga.write(f"d/{number % 30}/{number}", f"{number}")
    for number in range(450):
        yoga.write(f"d/full/{number}", b"")

    async def go() -> None:
        assert (await yoga.push("d")).files == 700 + 450
        assert (await bates.pull("d", "d")).files == 700 + 450
        assert (await bates.pull("d", "d")).unchanged == 700 + 450

    run(go(), fleet.clock)
    assert tree_of(bates.home / "d") == tree_of(yoga.home / "d")


def test_a_report_of_very_many_files_fits_into_a_message(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grew with the number of files: of half a million the daemon could not tell the end of a push."""
    monkeypatch.setattr(report_of, "VERSIONS_MAX", 3)
    yoga = fleet.machine("yoga")
    for number in range(5):
        yoga.write(f"many/{number}", str(number))
    report = run(yoga.push("many"), fleet.clock)
    assert (report.files, len(report.versions), report.versions_left_out) == (5, 3, 3)  # the folder has one, too


def test_what_did_not_change_is_neither_read_nor_published(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("d/a", big(50_000))

    async def go() -> None:
        await yoga.push("d")
        before = set(fleet.memory.objects)
        again = await yoga.push("d")
        assert (again.files, again.unchanged, again.moved_bytes) == (0, 1, 0)
        assert set(fleet.memory.objects) == before

    run(go(), fleet.clock)


def test_a_mode_alone_is_published_without_a_pack(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    file = yoga.write("a", "x")

    async def go() -> None:
        await yoga.push("a")
        file.chmod(0o600)
        packs = yoga.db.packs.ids(yoga.db.machine_id)
        assert (await yoga.push("a")).files == 1
        assert yoga.db.packs.ids(yoga.db.machine_id) == packs
        await bates.pull("a", "a")

    run(go(), fleet.clock)
    assert (bates.home / "a").stat().st_mode & 0o7777 == 0o600


def test_both_push_without_pulling(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "of yoga")
    bates.write("f", "of bates")

    async def go() -> None:
        assert (await yoga.push("f")).error() is None
        error = (await bates.push("f")).error()
        assert isinstance(error, Conflict)
        assert error.path == "f"
        assert await bates.content("f") == b"of bates"
        assert await bates.content("f.yoga.conflict") == b"of yoga"
        await yoga.learner.poll()
        assert await yoga.content("f") == b"of yoga"
        assert await yoga.content("f.bates.conflict") == b"of bates"
        # The conflict was told; the same again is no news.
        assert (await bates.push("f")).error() is None
        bates.write("f", "merged")
        assert (await bates.push("f", force=True)).error() is None
        await yoga.learner.poll()
        assert list(yoga.shown()) == ["f"]
        assert await yoga.content("f") == b"merged"

    run(go(), fleet.clock)


def test_what_was_pushed_beside_another_is_forced_over_it(fleet: Fleet) -> None:
    """As the hint of the conflict says, with nothing changed since."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "of yoga")
    bates.write("f", "of bates")

    async def go() -> None:
        assert (await yoga.push("f")).error() is None
        assert isinstance((await bates.push("f")).error(), Conflict)
        forced = await bates.push("f", force=True)
        assert (forced.error(), forced.files, forced.moved_bytes) == (None, 1, 0)
        assert list(bates.shown()) == ["f"]
        assert (await bates.push("f", force=True)).unchanged == 1
        # Nor does the other one's file have to change to win again.
        assert (await yoga.push("f", force=True)).files == 1
        await bates.learner.poll()
        assert list(bates.shown()) == ["f"]
        assert await bates.content("f") == b"of yoga"

    run(go(), fleet.clock)


def changed_behind_its_time(path: Path, data: bytes) -> None:
    """As an editor, an archiver or `touch -r` does it: the size and the time are what they were."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("size", [5, 50_000])
def test_a_change_that_keeps_the_time_is_pushed(fleet: Fleet, size: int) -> None:
    yoga = fleet.machine("yoga")
    path = yoga.write("f", b"a" * size)

    async def go() -> None:
        await yoga.push("f")
        assert (await yoga.push("f")).moved_bytes == 0
        changed_behind_its_time(path, b"b")
        assert (await yoga.push("f")).files == 1
        assert await yoga.content("f") == b"b" + b"a" * (size - 1)
        # What only moves the change time is looked at, and remembered.
        path.chmod(path.stat().st_mode)
        report = await yoga.push("f")
        assert (report.unchanged, report.moved_bytes) == (1, size)
        assert (await yoga.push("f")).moved_bytes == 0

    run(go(), fleet.clock)


def test_a_change_that_keeps_the_time_is_not_pulled_over(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "one")
    yoga.write("g", "one")

    async def go() -> None:
        await yoga.push("f", "g")
        for name in ("f", "g"):
            await bates.pull(name, name)
            yoga.write(name, "two")
        await yoga.push("f", "g")
        changed_behind_its_time(bates.home / "f", b"own")
        (bates.home / "g").chmod(0o600)
        os.link(bates.home / "g", bates.home / "backup")
        assert isinstance((await bates.pull("f", "f")).error(), Conflict)
        assert (bates.home / "f").read_bytes() == b"own"
        # A link or another mode is no change of the content.
        assert (await bates.pull("g", "g")).error() is None
        assert ((bates.home / "g").read_bytes(), (bates.home / "backup").read_bytes()) == (b"two", b"one")

    run(go(), fleet.clock)


def test_what_an_older_program_remembers_is_not_doubted(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    path = yoga.write("f", "one")

    async def go() -> None:
        await yoga.push("f")
        known = yoga.db.plain(str(path), "f")
        assert known is not None and known.ctime_ns == path.stat().st_ctime_ns
        with yoga.db.transaction() as txn:
            txn.set_plain([known._replace(ctime_ns=0)])
        path.chmod(path.stat().st_mode)
        assert (await yoga.push("f")).moved_bytes == 0

    run(go(), fleet.clock)


def test_equal_content_is_no_conflict(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "same")
    bates.write("f", "same")

    async def go() -> None:
        await yoga.push("f")
        report = await bates.push("f")
        assert report.error() is None
        assert (report.files, report.unchanged) == (0, 1)
        # It counts as seen from now on.
        bates.write("f", "more of it")
        assert (await bates.push("f")).error() is None
        assert list(bates.shown()) == ["f"]

    run(go(), fleet.clock)


def test_pull_keeps_what_was_not_published(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "one")

    async def go() -> None:
        await yoga.push("f")
        assert (await bates.pull("f", "f")).error() is None
        bates.write("f", "my own")
        error = (await bates.pull("f", "f")).error()
        assert isinstance(error, Conflict)
        assert (bates.home / "f").read_bytes() == b"my own"
        yoga.write("f", "two, longer")
        await yoga.push("f")
        assert isinstance((await bates.pull("f", "f")).error(), Conflict)
        assert (bates.home / "f").read_bytes() == b"my own"
        assert (await bates.pull("f", "f", force=True)).error() is None
        assert (bates.home / "f").read_bytes() == b"two, longer"

    run(go(), fleet.clock)


def test_a_pulled_file_may_be_replaced_by_the_next_pull(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("d/f", "one")

    async def go() -> None:
        await yoga.push("d")
        await bates.pull("d", "d")
        yoga.write("d/f", "two, longer")
        yoga.write("d/g", "new")
        await yoga.push("d")
        report = await bates.pull("d", "d")
        assert report.error() is None

    run(go(), fleet.clock)
    assert tree_of(bates.home / "d") == tree_of(yoga.home / "d")


def test_pull_follows_no_symlink_below_its_target(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("d/sub/f", "new")
    outside = bates.write("outside/f", "old")
    (bates.home / "d").mkdir()
    (bates.home / "d/sub").symlink_to(outside.parent)

    async def go() -> None:
        await yoga.push("d")
        assert isinstance((await bates.pull("d", ".")).error(), Conflict)

    run(go(), fleet.clock)
    assert outside.read_bytes() == b"old"


def test_a_damaged_pack_spoils_only_its_files(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("d/bad", big(100_000, 1))
    yoga.write("d/good", big(100_000, 2))

    async def go() -> None:
        await yoga.push("d/bad", to="d")
        packs = [key for key in fleet.memory.objects if key.startswith("packs/")]
        await yoga.push("d/good", to="d")
        data = bytearray(fleet.memory.objects[packs[0]])
        data[len(data) // 2] ^= 1
        fleet.memory.objects[packs[0]] = bytes(data)
        error = (await bates.pull("d", "d")).error()
        assert isinstance(error, Integrity)
        assert packs[0] in error.message and "d/bad" in error.message

    run(go(), fleet.clock)
    assert sorted(path.name for path in (bates.home / "d").iterdir()) == ["good"]


def test_what_is_not_there(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")

    async def go() -> None:
        with pytest.raises(NotFound):
            await yoga.push("missing")
        with pytest.raises(NotFound):
            await yoga.pull("missing", "x")
        yoga.write("f", "x")
        fleet.memory.is_away = True
        with pytest.raises(StoreAway):
            await yoga.push("f")
        assert yoga.db.outbox() == []

    run(go(), fleet.clock)


def test_a_socket_and_a_mount_are_left_out(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("d/f", "x")
    yoga.write("d/.f.swp", "x")
    yoga.write("d/fleet/inside", "x")
    os.mkfifo(yoga.home / "d/pipe")
    yoga.pusher._left_out = {str(yoga.home / "d/fleet"): "is a mount of a fleet"}

    async def go() -> None:
        report = await yoga.push("d")
        assert sorted(path.rpartition("/")[2] for path, _ in report.skipped) == ["fleet", "pipe"]
        assert list(yoga.shown()) == ["d", "d/f"]

    run(go(), fleet.clock)


def test_what_is_ignored_is_told(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an ignored folder itself, not what is in it; and of very many not all."""
    yoga = fleet.machine("yoga")
    for path in ("d/f", "d/.f.swp", "d/.git/HEAD", "d/sub/4913"):
        yoga.write(path, "x")

    def told(report: TransferReport) -> list[str]:
        return [path.removeprefix(f"{yoga.home}/") for path in report.ignored]

    async def go() -> None:
        report = await yoga.push("d")
        assert (told(report), report.ignored_left_out) == (["d/.f.swp", "d/.git", "d/sub/4913"], 0)
        assert (report.files, report.skipped, report.error()) == (1, [], None)
        monkeypatch.setattr(report_of, "IGNORED_MAX", 1)
        report = await yoga.push("d")
        assert (told(report), report.ignored_left_out) == (["d/.f.swp"], 2)

    run(go(), fleet.clock)


def test_an_ignored_folder_that_is_asked_for_is_named(fleet: Fleet) -> None:
    """Nothing of it was published but an empty folder, and nobody was told."""
    yoga = fleet.machine("yoga")
    yoga.write("d/.git/objects/a", "x")

    async def go() -> None:
        for path, to in (("d/.git", "t"), ("d/.git/objects", "t/.git")):
            report = await yoga.push(path, to=to)
            assert report.skipped == [(str(yoga.home / path), "stays on this machine by its name")]
            assert (report.files, report.ignored, report.error()) == (0, [], None)
        report = await yoga.pusher.run([(yoga.home / "d/.git", "")], "t/.git")
        assert [path for path, _ in report.skipped] == [str(yoga.home / "d/.git")]
        assert yoga.shown() == {}

    run(go(), fleet.clock)


def test_a_file_that_is_asked_for_is_pushed_whatever_its_name(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("a.swp", "x")
    report = run(yoga.push("a.swp"), fleet.clock)
    assert (report.files, report.skipped, report.ignored) == (1, [], [])


@pytest.mark.parametrize(
    ("kind", "name"), [(stat.S_IFIFO, "pipe"), (stat.S_IFSOCK, "socket"), (stat.S_IFCHR, "character device")]
)
def test_no_pull_replaces_what_is_no_file(fleet: Fleet, kind: int, name: str) -> None:
    """--force made a regular file of /dev/null."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "x")
    try:
        os.mknod(bates.home / "f", kind | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")

    async def go() -> None:
        await yoga.push("f")
        for force in (False, True):
            error = (await bates.pull("f", "f", force=force)).error()
            assert isinstance(error, Conflict)
            assert error.message == f"{bates.home}/f is a {name} here and a file in the fleet"
            assert stat.S_IFMT((bates.home / "f").lstat().st_mode) == kind

    run(go(), fleet.clock)


def test_force_brings_mode_time_and_attributes_back(fleet: Fleet) -> None:
    """What only they differ in is not read from the store again. Without --force they are left alone."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("d/f", "x")
    yoga.write("d/g", "y")
    os.link(yoga.home / "d/g", yoga.home / "d/h")
    os.setxattr(yoga.home / "d/f", "user.a", b"of the fleet")
    (yoga.home / "d/s").symlink_to("f")

    def change() -> None:
        for name in ("d/f", "d/g"):
            (bates.home / name).chmod(0o601)
            os.utime(bates.home / name, ns=(5, 5))
            os.setxattr(bates.home / name, "user.b", b"own")
        os.setxattr(bates.home / "d/f", "user.a", b"own")
        os.utime(bates.home / "d/s", ns=(5, 5), follow_symlinks=False)

    async def go() -> None:
        await yoga.push("d")
        await bates.pull("d", "d")
        change()
        changed = tree_of(bates.home / "d")
        assert (await bates.pull("d", "d")).unchanged == 4
        assert tree_of(bates.home / "d") == changed
        report = await bates.pull("d", "d", force=True)
        assert (report.error(), report.files, report.moved_bytes) == (None, 4, 0)
        assert tree_of(bates.home / "d") == tree_of(yoga.home / "d")
        assert (bates.home / "d/s").lstat().st_mtime_ns == (yoga.home / "d/s").lstat().st_mtime_ns
        assert os.getxattr(bates.home / "d/f", "user.a") == b"of the fleet"
        for name in ("f", "g", "h"):
            assert "user.b" not in os.listxattr(bates.home / "d" / name)
        assert (bates.home / "d/g").samefile(bates.home / "d/h")
        assert (await bates.pull("d", "d", force=True)).unchanged == 4
        assert (await bates.push("d")).files == 0

    run(go(), fleet.clock)


def test_the_mode_of_a_folder_that_was_changed_here_stays(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("d/sub/f", "x")
    here, there = bates.home / "d/sub", yoga.home / "d/sub"
    there.chmod(0o755)

    def mode() -> int:
        return here.stat().st_mode & 0o7777

    async def go() -> None:
        await yoga.push("d")
        await bates.pull("d", "d")
        there.chmod(0o750)
        await yoga.push("d")
        await bates.pull("d", "d")
        assert mode() == 0o750  # nobody has changed it here
        here.chmod(0o700)
        for of_the_fleet in (0o750, 0o755):
            there.chmod(of_the_fleet)
            await yoga.push("d")
            assert (await bates.pull("d", "d")).error() is None
            assert mode() == 0o700
        await bates.pull("d", "d", force=True)
        assert mode() == 0o755

    run(go(), fleet.clock)


def test_removed_by_another_and_pushed_again(fleet: Fleet) -> None:
    """A tombstone that the folder has not seen stands beside what it still has: the file lives."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "one")

    async def remove(machine: Machine, path: str) -> None:
        from sync.core.manifest import Kind
        from sync.worker.change import Change

        heads = frozenset(head.id for head in machine.db.heads(path))
        last = machine.db.heads(path)[0].id
        await machine.publisher.publish([[Change(path, Kind.TOMBSTONE, seen=heads, last=last)]])

    async def go() -> None:
        await yoga.push("f")
        await bates.learner.poll()
        await remove(bates, "f")
        yoga.write("f", "two, longer")
        assert (await yoga.push("f")).error() is None
        assert await yoga.content("f") == b"two, longer"
        await remove(yoga, "f")
        assert yoga.shown() == {}
        yoga.write("f", "three")
        await yoga.push("f")
        assert list(yoga.shown()) == ["f"]

    run(go(), fleet.clock)


def test_names_as_cp_gives_them(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("a/b/f", "x")

    async def go() -> None:
        await yoga.pusher.run([(yoga.home / "a/b", "b")])
        await yoga.pusher.run([(yoga.home / "a/b/f", "f")], "to/here")
        await yoga.pusher.run([(yoga.home / "a", "")], "dot")
        await yoga.pusher.run([(yoga.home / "a", "")], "up")
        files = [path for path, kind in yoga.shown().items() if kind != "dir"]
        assert files == ["b/f", "dot/b/f", "to/here/f", "up/b/f"]
        bates = fleet.machine("bates")
        (bates.home / "there").mkdir()
        await bates.pull("dot/b", "there")
        await bates.pull("dot/b", "new")
        await bates.pull("dot/b/f", "g")
        await bates.pull("", ".")
        found = sorted(str(path.relative_to(bates.home)) for path in bates.home.rglob("*") if path.is_file())
        assert found == ["b/f", "dot/b/f", "g", "new/f", "there/b/f", "to/here/f", "up/b/f"]

    run(go(), fleet.clock)


def test_a_file_where_the_fleet_has_a_folder(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "inside")
    bates.write("n", "a file")

    async def go() -> None:
        await yoga.push("f", to="n")
        assert isinstance((await bates.push("n")).error(), Conflict)
        assert await bates.content("n/f") == b"inside"
        assert b"a file" in [await bates.content(path) for path in bates.shown() if path != "n"]
        (yoga.home / "n").write_bytes(b"local")
        error = (await yoga.pull("n", "n2")).error()
        assert error is None
        with pytest.raises(TcfsError, match="Not a directory"):
            await yoga.pull("n/f", "n2/f/f")

    run(go(), fleet.clock)


def test_a_version_without_a_hash_is_compared_by_its_chunks(fleet: Fleet) -> None:
    from workerkit import Mount

    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    mount = Mount(yoga)
    old = big(60_000)
    new = old[:30_000] + b"!" + old[30_001:]

    async def go() -> None:
        with mount.round():
            mount.put_file("f", old, node=3)
        await yoga.sealer.run_once()
        mount.note()
        base = yoga.db.heads("f")[0].id
        layer = mount.layer([(30_000, b"!")])
        with mount.round():
            mount.seal("put", "f", kind=1, mode=0o644, size=len(new), mtime_ns=2, base=base, layer=layer,
                       limit_below=len(new), seen=[base], last=base)  # fmt: skip
        await yoga.sealer.run_once()
        bates.write("f", new)
        assert (await bates.pull("f", "f")).unchanged == 1
        bates.write("g", old)
        assert isinstance((await bates.pull("f", "g")).error(), Conflict)
        assert (await bates.pull("f", "h")).error() is None
        assert (bates.home / "h").read_bytes() == new

    run(go(), fleet.clock)
    mount.close()


def test_chunks_of_a_condemned_pack_are_packed_again(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    file = yoga.write("f", big(20_000))

    async def go() -> None:
        await yoga.push("f")
        (pack,) = yoga.db.packs.ids(yoga.db.machine_id)
        with yoga.db.transaction() as txn:
            txn.condemn(yoga.db.machine_id, pack)
        with yoga.db.transaction() as txn:
            plain = yoga.db.plain(str(file), "f")
            assert plain is not None
            txn.set_plain([plain._replace(ctime_ns=0)])
        file.chmod(0o600)
        report = await yoga.push("f")
        assert (report.files, report.moved_bytes) == (1, 0)  # no byte of the file was read for it
        packs = yoga.db.packs.ids(yoga.db.machine_id) - {pack}
        assert len(packs) == 1
        del fleet.memory.objects[f"packs/{yoga.db.machine_id}/{pack[:2]}/{pack}"]
        assert (await bates.pull("f", "f")).error() is None

    run(go(), fleet.clock)
    assert (bates.home / "f").read_bytes() == file.read_bytes()


def test_the_store_goes_away_behind_the_outbox(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "x")
    original = fleet.memory.put_if_absent

    async def away(key: str, data: object) -> bool:
        raise StoreAway("gone")

    async def go() -> None:
        fleet.memory.put_if_absent = away  # type: ignore[method-assign]
        with pytest.raises(StoreAway, match="queued"):
            await yoga.push("f")
        assert len(yoga.db.outbox()) == 1
        fleet.memory.put_if_absent = original  # type: ignore[method-assign]
        await yoga.publisher.drain()
        await bates.learner.poll()
        assert list(bates.shown()) == ["f"]
        assert (await yoga.push("f")).unchanged == 1

    run(go(), fleet.clock)


def test_a_symlink_does_not_replace_what_came_meanwhile(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the target and the writing somebody makes a file of that name."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    (yoga.home / "link").symlink_to("somewhere")
    real = TargetDir.symlink

    def late(folder: TargetDir, name: str, *rest: Any) -> None:
        bates.write("link", "written just now")
        real(folder, name, *rest)

    async def go() -> None:
        await yoga.push("link")
        monkeypatch.setattr(TargetDir, "symlink", late)
        report = await bates.pull("link", "link")
        assert isinstance(report.error(), Conflict)
        assert (bates.home / "link").read_text() == "written just now"
        assert [path.name for path in bates.home.iterdir()] == ["link"]

    run(go(), fleet.clock)


def test_a_time_that_no_database_can_hold(fleet: Fleet) -> None:
    """tmpfs and XFS know years beyond 2262."""
    yoga = fleet.machine("yoga")
    file = yoga.write("f", "hello")
    about = file.stat()

    class Late:
        st_size, st_ino, st_mode = about.st_size, about.st_ino, about.st_mode
        st_mtime_ns = st_ctime_ns = 99_999_999_999 * 10**9

    assert FileStat.of(cast(os.stat_result, Late())).mtime_ns == 2**63 - 1
    assert FileStat.of(about).mtime_ns == about.st_mtime_ns
