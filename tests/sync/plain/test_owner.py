"""A plain folder says nothing of owners: what has one keeps it, whatever is pushed over it."""

import os

from ownerkit import chown
from workerkit import Fleet, Machine, run


def owner(machine: Machine, path: str) -> tuple[str, str]:
    row = machine.db.view.resolve_path(path)
    assert row is not None
    return row.owner, row.group


def test_a_push_keeps_the_owner(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("d/f", b"one")
    (yoga.home / "d/l").symlink_to("f")
    paths = ("d", "d/f", "d/l")

    async def go() -> None:
        await yoga.push("d")
        for path in paths:
            await chown(yoga.publisher, yoga.db, path, "ada", "staff")
        assert (await yoga.push("d")).unchanged == 2
        yoga.write("d/f", b"two")
        (yoga.home / "d").chmod(0o700)
        (yoga.home / "d/l").unlink()
        (yoga.home / "d/l").symlink_to("g")
        assert (await yoga.push("d")).error() is None
        assert {owner(yoga, path) for path in paths} == {("ada", "staff")}
        (yoga.home / "d/f").chmod(0o600)
        await yoga.push("d")

    run(go(), fleet.clock)
    assert {owner(yoga, path) for path in paths} == {("ada", "staff")}


def test_a_forced_push_keeps_the_owner(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", b"one")
    bates.write("f", b"two")

    async def go() -> None:
        await yoga.push("f")
        await chown(yoga.publisher, yoga.db, "f", "ada", "staff")
        assert (await bates.push("f", force=True)).error() is None

    run(go(), fleet.clock)
    (head,) = bates.db.heads("f")
    assert (head.manifest.file_size, head.manifest.owner, head.manifest.group) == (3, "ada", "staff")


def test_a_chown_elsewhere_is_not_undone_by_a_push(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    bates.write("f", b"one")

    async def go() -> None:
        await bates.push("f")
        await yoga.learner.learn()
        await chown(yoga.publisher, yoga.db, "f", "ada", "staff")
        bates.write("f", b"two")
        assert (await bates.push("f")).error() is None
        assert (await bates.push("f")).error() is None

    run(go(), fleet.clock)
    assert owner(bates, "f") == ("ada", "staff")
    assert len(bates.db.heads("f")) == 2


def test_a_plain_folder_belongs_to_who_pulls(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("f", b"one")

    async def go() -> None:
        await yoga.push("f")
        await chown(yoga.publisher, yoga.db, "f", "daemon", "daemon")
        await yoga.pull("f", "pulled")
        await yoga.push("f")

    run(go(), fleet.clock)
    assert (yoga.home / "pulled").stat().st_uid == os.geteuid()
    yoga.write("other", b"two")
    run(yoga.push("other"), fleet.clock)
    assert (owner(yoga, "f"), owner(yoga, "other")) == (("daemon", "daemon"), ("", ""))
