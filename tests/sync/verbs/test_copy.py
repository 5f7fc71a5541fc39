import asyncio
import os

import pytest
from enginekit import Machine, MountEnd, Tree, call, until
from ownerkit import chown

from sync.core.errors import BadInput, Conflict, NotFound, NotYet, StoreAway
from sync.state.rows import FIFO, FILE
from sync.verbs import copy as copy_verb
from sync.worker.publish import Publication

BIG = bytes(range(256)) * 8000


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    machine.file("d/a", BIG)
    machine.file("d/sub/b", b"b" * 2000)
    (machine.root / "d" / "link").symlink_to("a")
    (machine.root / "d" / "empty").mkdir()
    os.chmod(machine.root / "d" / "sub" / "b", 0o640)
    os.utime(machine.root / "d" / "sub" / "b", ns=(5, 5 * 10**9))
    machine.run(lambda engine: call(engine, "push", paths=[str(machine.root / "d")]))
    yield machine
    machine.close()


def row(engine, path):
    return engine.context.db.view.resolve_path(path)


def store_bytes(root):
    return sum(file.stat().st_size for file in (root / "store" / "packs").rglob("*") if file.is_file())


def test_a_file_that_is_not_local_is_copied_without_its_bytes(yoga, tmp_path):
    async def scenario(engine):
        packs = store_bytes(tmp_path)
        data = await call(engine, "cp", sources=["d/a"], target="d/a2")
        assert (data["files"], data["bytes"], data["targets"]) == (1, len(BIG), ["d/a2"])
        assert (row(engine, "d/a").value, row(engine, "d/a").size) == (row(engine, "d/a2").value, len(BIG))
        assert store_bytes(tmp_path) == packs and engine.cache.usage().chunks == 0
        assert engine.context.db.outbox() == []
        pulled = str(tmp_path / "out")
        await call(engine, "pull", remote="d/a2", local=pulled)
        with open(pulled, "rb") as file:
            assert file.read() == BIG

    yoga.run(scenario)


def test_a_folder_is_copied_with_all_that_is_in_it(yoga):
    async def scenario(engine):
        with pytest.raises(BadInput, match="is a folder"):
            await call(engine, "cp", sources=["d"], target="copy")
        await call(engine, "cp", sources=["d"], target="copy", recursive=True, preserve=True)
        for path in ("a", "sub/b", "link", "empty", "sub"):
            old, new = row(engine, f"d/{path}"), row(engine, f"copy/{path}")
            assert (old.kind, old.value, old.mode, old.mtime_ns) == (new.kind, new.value, new.mode, new.mtime_ns)
        await call(engine, "cp", sources=["d/sub"], target="copy", recursive=True, force=True)
        await call(engine, "cp", sources=["d"], target="copy", recursive=True)
        assert row(engine, "copy/d/sub/b").mtime_ns > 5 * 10**9

    yoga.run(scenario)


def test_what_stays_here_is_left_out_and_told(yoga):
    tree = Tree(yoga)

    async def scenario(engine):
        for name, kind in (("n.swp", FILE), ("fifo", FIFO)):
            tree.dirty(name)
            tree.connection.execute("UPDATE node SET kind = ? WHERE id = (SELECT max(id) FROM node)", (kind,))
            change = "UPDATE entry SET parent = ?, local_only = 1, dirty = 0 WHERE name = ?"
            tree.connection.execute(change, (row(engine, "d/sub").id, name))
        data = await call(engine, "cp", sources=["d"], target="copy", recursive=True)
        assert data["skipped"] == [
            {"path": "d/sub/fifo", "reason": "is a socket, pipe or device"},
            {"path": "d/sub/n.swp", "reason": "stays on this machine by its name"},
        ]
        assert "error" not in data and row(engine, "copy/sub/b") is not None
        assert (await call(engine, "cp", sources=["d/a"], target="copy/a2"))["skipped"] == []

    yoga.run(scenario)
    tree.close()


def test_a_copy_belongs_to_whom_the_original_does(yoga):
    async def scenario(engine):
        await chown(engine.publisher, engine.context.db, "d/a", "ada", "staff")
        await call(engine, "cp", sources=["d"], target="copy", recursive=True)
        await call(engine, "cp", sources=["d/a"], target="copy/sub/b", force=True)
        await call(engine, "cp", sources=["copy/link"], target="copy/a", force=True)
        found = {path: (row(engine, path).owner, row(engine, path).group) for path in ("d/a", "copy/sub/b", "copy/a")}
        assert found == {"d/a": ("ada", "staff"), "copy/sub/b": ("ada", "staff"), "copy/a": ("", "")}

    yoga.run(scenario)


def test_the_others_see_it(yoga, tmp_path):
    yoga.run(lambda engine: call(engine, "cp", sources=["d/a", "d/sub/?"], target="d/empty"))
    bates = Machine(tmp_path, "bates", yoga)

    async def look(engine):
        out = str(tmp_path / "out")
        await call(engine, "pull", remote="d/empty", local=out)
        with open(f"{out}/a", "rb") as file:
            assert file.read() == BIG

    bates.run(look)
    bates.close()


def test_nothing_is_replaced_unless_it_is_said(yoga):
    yoga.file("e/x", b"keep me")
    yoga.file("e/a", b"and me")

    async def scenario(engine):
        await call(engine, "push", paths=[str(yoga.root / "e")])
        before = row(engine, "e/x").value
        with pytest.raises(Conflict, match="is there already"):
            await call(engine, "cp", sources=["d/a"], target="e/x")
        with pytest.raises(Conflict):
            await call(engine, "cp", sources=["d/sub", "d/a"], target="e", recursive=True)
        assert row(engine, "e/sub") is None  # nothing of it, then
        assert row(engine, "e/x").value == before
        await call(engine, "cp", sources=["d/a"], target="e/x", force=True)
        assert row(engine, "e/x").value == row(engine, "d/a").value
        assert len(engine.context.db.heads("e/x")) == 1
        assert len(engine.context.db.history("e/x")) == 2
        with pytest.raises(Conflict):  # a file is not replaced by a folder
            await call(engine, "cp", sources=["d/sub"], target="e/x", recursive=True, force=True)

    yoga.run(scenario)


def test_what_comes_there_meanwhile_is_not_replaced(yoga, monkeypatch):
    monkeypatch.setattr(copy_verb, "CHANGES_AT_ONCE", 1)
    theirs = [yoga.file(f"new/{name}", b"came while it was copied") for name in ("a", "sub/b")]
    pushed = []

    async def scenario(engine):
        async def commit(publication, *args):
            published = await real(publication, *args)
            if not pushed:
                pushed.extend(theirs)
                await call(engine, "push", paths=[str(yoga.root / "new") + "/."], to="copy")
            return published

        real = Publication.commit
        monkeypatch.setattr(Publication, "commit", commit)
        with pytest.raises(Conflict, match="is there already"):
            await call(engine, "cp", sources=["d"], target="copy", recursive=True)
        assert pushed and row(engine, "copy/a").size == row(engine, "copy/sub/b").size == 24

    yoga.run(scenario)


@pytest.mark.parametrize(
    "sources, target, error",
    [
        (["nothing"], "x", NotFound),
        (["d/a"], "no/such/folder", NotFound),
        (["d/a", "d/sub/b"], "no-folder", NotFound),
        (["d"], "d/sub", BadInput),
        (["d/a"], "d/a", BadInput),
        (["/"], "x", BadInput),
        (["d/a"], "d/a.swp", BadInput),
    ],
)
def test_what_makes_no_sense(yoga, sources, target, error):
    async def scenario(engine):
        seq = engine.context.db.next_seq
        with pytest.raises(error):
            await call(engine, "cp", sources=sources, target=target, recursive=True)
        assert engine.context.db.next_seq == seq

    yoga.run(scenario)


def test_a_target_of_this_machine_is_refused_where_the_fleet_has_nothing(yoga, tmp_path):
    async def scenario(engine):
        for outside in (f"/{tmp_path.parts[1]}", str(tmp_path), yoga.file("there", b"")):
            with pytest.raises(BadInput, match="outside of the mount"):
                await call(engine, "cp", sources=["d/a"], target=outside)
        assert row(engine, tmp_path.parts[1]) is None
        for target, path in (("/new", "new"), ("/d/new", "d/new"), (f"default:{tmp_path.parts[1]}", tmp_path.parts[1])):
            assert (await call(engine, "cp", sources=["d/a"], target=target))["targets"] == [path]
        await call(engine, "cp", sources=["d/sub"], target="/", recursive=True)
        assert row(engine, "sub/b") is not None

    yoga.run(scenario)


def test_a_removed_name_is_free(yoga):
    async def scenario(engine):
        await call(engine, "cp", sources=["d/a"], target="d/a2")
        from sync.core.manifest import Kind
        from sync.worker.change import Change

        head = engine.context.db.heads("d/a2")[0]
        gone = Change("d/a2", Kind.TOMBSTONE, seen=frozenset({head.id}), last=head.id)
        await engine.publisher.publish([[gone]])
        assert row(engine, "d/a2") is None
        await call(engine, "cp", sources=["d/sub/b"], target="d/a2")
        assert row(engine, "d/a2").value == row(engine, "d/sub/b").value
        assert len(engine.context.db.heads("d/a2")) == 1

    yoga.run(scenario)


def test_what_is_not_published_is_published_first(yoga):
    tree = Tree(yoga)
    tree.put("mine", b"written in the mount")

    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        await call(engine, "cp", sources=["d/a"], target="elsewhere")
        asking = call(engine, "cp", sources=["mine"], target="copy")
        copying = asyncio.ensure_future(asking)
        await until(lambda: row(engine, "mine"))
        tree.forget("mine")
        await copying
        assert row(engine, "copy").value == row(engine, "mine").value
        await mount.close()

    yoga.run(scenario)
    tree.close()


def test_what_is_published_needs_no_note_of_the_mount(yoga):
    tree = Tree(yoga)
    tree.put("mine", b"written in the mount")

    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        await call(engine, "cp", sources=["mine"], target="copy")
        assert row(engine, "copy").value == row(engine, "mine").value
        await call(engine, "cp", sources=["d/a"], target="mine", force=True)
        assert [head.is_live for head in engine.context.db.heads("mine")] == [True]
        await mount.close()

    yoga.run(scenario)
    tree.close()


def test_without_a_mount_it_is_refused(yoga):
    tree = Tree(yoga)
    tree.dirty("mine")

    async def scenario(engine):
        for sources, target in ((["mine"], "copy"), (["d/a"], "mine")):
            with pytest.raises(NotYet, match="not published yet"):
                await call(engine, "cp", sources=sources, target=target, force=True)
        await call(engine, "cp", sources=["d/a"], target="elsewhere")

    yoga.run(scenario)
    tree.close()


def test_while_the_store_is_away_nothing_is_copied(yoga, tmp_path):
    async def scenario(engine):
        (tmp_path / "store").rename(tmp_path / "away")
        with pytest.raises(StoreAway):
            await call(engine, "cp", sources=["d/a"], target="copy")
        (tmp_path / "away").rename(tmp_path / "store")

    yoga.run(scenario)
