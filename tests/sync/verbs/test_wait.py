import asyncio
import math
import threading

import msgspec
import pytest
from enginekit import Machine, MountEnd, Tree, call, until

from sync.core.errors import NotFound, NotYet, StoreAway
from sync.env import STORE_THREADS
from sync.ipc import frames
from sync.state.lock import FileLock
from sync.state.rows import DIR, FIFO, FILE
from sync.store.local import LocalStore
from sync.verbs.goal import Goal


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    yield machine
    machine.close()


@pytest.fixture
def tree(yoga):
    tree = Tree(yoga)
    yield tree
    tree.close()


def test_nothing_dirty_is_nothing_to_wait_for(yoga):
    assert yoga.run(lambda engine: call(engine, "wait")) == {"interrupted": [], "left": []}


def test_what_is_sealed_is_waited_for_until_it_is_confirmed(yoga, tree):
    tree.put("a", b"1")
    tree.put("b", b"2")

    async def scenario(engine):
        assert (await call(engine, "wait"))["left"] == []
        assert {"a", "b"} == {version.path for path in "ab" for version in engine.context.db.heads(path)}
        assert engine.context.db.queued_seqs() == []

    yoga.run(scenario)


@pytest.mark.parametrize(("path", "cwd"), [("/", "/"), ("//", "/"), ("default:", "/"), ("..", "/mnt/fleet/d")])
def test_the_root_is_everything(yoga, tree, path, cwd):
    yoga.paths.save(msgspec.structs.replace(yoga.paths.load(), mountpoint="/mnt/fleet"))
    tree.put("a", b"1")

    async def scenario(engine):
        assert await call(engine, "wait", path=path, cwd=cwd) == {"interrupted": [], "left": []}
        assert engine.is_shown("a")
        assert engine.context.db.queued_seqs() == []

    yoga.run(scenario)


def test_the_mount_is_asked_to_seal_first(yoga, tree):
    tree.dirty("a")

    def seal(request):
        tree.put("a", b"now sealed")
        return frames.SealResult(request.id)

    async def scenario(engine):
        mount = MountEnd(seal)
        await mount.connect(engine)
        assert (await call(engine, "wait"))["left"] == []
        assert [(request.paths, request.reason) for request in mount.asked] == [(None, "wait")]
        assert engine.is_shown("a")
        await mount.close()

    yoga.run(scenario)


def test_changes_that_come_later_are_not_waited_for(yoga, tree):
    seal_id = tree.put("a", b"1")

    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        waiting = asyncio.ensure_future(call(engine, "wait"))
        await until(lambda: engine.context.db.view.answer(seal_id))
        tree.forget("a")
        tree.dirty("a")
        assert (await waiting)["left"] == []
        await mount.close()

    yoga.run(scenario)


def test_the_timeout_names_what_is_left(yoga, tree, tmp_path, caplog):
    tree.put("a", b"1")
    (tmp_path / "store").rename(tmp_path / "gone")

    async def scenario(engine):
        data = await call(engine, "wait", timeout=0.2)
        assert data["left"] == ["a"]
        assert data["error"]["code"] == "not-yet"
        assert "away" in data["error"]["message"]
        (tmp_path / "gone").rename(tmp_path / "store")
        assert (await call(engine, "wait"))["left"] == []

    yoga.run(scenario)


def test_the_timeout_counts_while_the_mount_seals(yoga, tree):
    """It may wait itself, for a name service."""
    tree.dirty("a")

    async def scenario(engine):
        mount = MountEnd(lambda request: frames.SealResult(request.id + 1000))  # an answer to something else
        await mount.connect(engine)
        with FileLock(yoga.paths.mount_lock) as lock:
            lock.try_acquire()
            async with asyncio.timeout(5):
                data = await call(engine, "wait", timeout=0.2)
        assert (data["left"], data["error"]["code"]) == (["a"], "not-yet")
        await mount.close()

    yoga.run(scenario)


def test_a_store_that_hangs_keeps_no_verb(yoga, tree, monkeypatch):
    """Its disk answers nobody, as that of a server that has gone: what is on this machine works on, deadlines hold."""
    tree.put("a", b"1")
    answers = threading.Event()
    real = LocalStore._get

    def hang(store, *args):
        answers.wait()
        return real(store, *args)

    async def scenario(engine):
        monkeypatch.setattr(LocalStore, "_get", hang)
        waiting = [asyncio.ensure_future(engine.context.store.get("fleet.json")) for _ in range(STORE_THREADS)]
        try:
            async with asyncio.timeout(5):
                assert (await call(engine, "wait", timeout=0.2))["left"] == ["a"]
        finally:
            answers.set()
        await asyncio.gather(*waiting)

    yoga.run(scenario)


def test_what_is_only_queued_is_waited_for_too(yoga, tree, tmp_path, caplog):
    async def scenario(engine):
        real = engine.publisher._own.drain

        async def cut():
            raise StoreAway("cut off")

        engine.publisher._own.drain = cut
        seal_id = tree.put("a", b"1")
        engine.sealed()
        await until(lambda: engine.context.db.view.answer(seal_id))
        tree.forget("a")
        data = await call(engine, "wait", timeout=0.2)
        assert data["left"] == ["a"]
        engine.publisher._own.drain = real
        assert (await call(engine, "wait"))["left"] == []
        assert engine.context.db.queued_seqs() == []

    yoga.run(scenario)


def test_interrupted_files_are_named_and_not_waited_for(yoga, tree):
    tree.dirty("torn", unflushed=True)
    tree.put("a", b"1")

    async def scenario(engine):
        assert await call(engine, "wait") == {"interrupted": ["torn"], "left": []}
        with pytest.raises(NotYet, match="was being written"):
            await call(engine, "wait", path="torn")

    yoga.run(scenario)


def test_a_file_open_for_writing_is_waited_for(yoga, tree):
    tree.dirty("a", unflushed=True)

    async def scenario(engine):
        mount = MountEnd(lambda request: frames.SealResult(request.id, busy=["a"]))
        await mount.connect(engine)
        with FileLock(yoga.paths.mount_lock) as lock:
            lock.try_acquire()
            waiting = asyncio.ensure_future(call(engine, "wait"))
            await until(lambda: mount.asked)
            assert not waiting.done()
            tree.put("a", b"closed")
            mount.send(frames.Sealed())
            assert (await waiting)["left"] == []
        await mount.close()

    yoga.run(scenario)


def test_unsealed_changes_without_a_mount_fail_at_once(yoga, tree):
    tree.dirty("a")

    async def scenario(engine):
        with pytest.raises(NotYet, match="the mount is down"):
            await call(engine, "wait")

    yoga.run(scenario)


def test_only_the_path_is_waited_for(yoga, tree):
    tree.dirty("other")
    tree.put("a", b"1")

    async def scenario(engine):
        assert (await call(engine, "wait", path="a"))["left"] == []
        with pytest.raises(NotFound):
            await call(engine, "wait", path="missing")

    yoga.run(scenario)


def test_what_is_refused_does_not_block_others(yoga, tree):
    tree.put("a", b"1")
    with tree.round():
        seal_id = tree.seal("put", "..", kind=1, size=0, mode=0)
        tree.dirty("..", seal_id=seal_id)

    async def scenario(engine):
        for _ in range(2):  # refused while it is waited for, and before
            data = await call(engine, "wait", timeout=5)
            assert data["left"] == [".."]
            assert data["error"]["code"] == "not-yet"
            assert engine.context.db.view.answer(seal_id).answer == "refused"
        assert engine.is_shown("a")
        assert engine.context.db.queued_seqs() == []

    yoga.run(scenario)


def test_a_refusal_that_is_noted_between_two_looks(yoga, tree):
    """The seal is gone then, as that of a state which has been published, and what it held is still dirty."""
    with tree.round():
        seal_id = tree.seal("put", "..", kind=1, size=0, mode=0)
        tree.dirty("..", seal_id=seal_id)

    async def scenario(engine):
        (then,) = await engine.dirty()
        assert then.seal_id == seal_id
        await call(engine, "wait", timeout=5)
        tree.forget("..")
        tree.dirty("..")
        goal = Goal(engine, [], [then], {}, False, math.inf)
        await goal.reached(lambda data: None)
        assert list(goal.refused) == [".."]

    yoga.run(scenario)


# ---- push of a path in the mount


def mounted(yoga, mountpoint="/mnt"):
    from msgspec.structs import replace

    yoga.paths.save(replace(yoga.paths.load(), mountpoint=mountpoint))


def test_a_path_in_the_mount_is_published_as_it_is_now(yoga, tree):
    mounted(yoga)
    tree.dirty("a", unflushed=True)

    def seal(request):
        tree.put("a", b"half")
        tree.connection.execute("UPDATE node SET unflushed = 1")
        return frames.SealResult(request.id, busy=["a"])

    async def scenario(engine):
        mount = MountEnd(seal)
        await mount.connect(engine)
        data = await call(engine, "push", paths=["/mnt/a"])
        assert (data["files"], data["failures"]) == (1, [])
        assert [(request.paths, request.reason) for request in mount.asked] == [(["a"], "push")]
        assert engine.context.db.queued_seqs() == []
        await mount.close()

    yoga.run(scenario)


def test_a_push_in_the_mount_needs_the_mount(yoga, monkeypatch):
    monkeypatch.setattr("sync.verbs.wait.MOUNT_WAIT_S", 0.05)
    mounted(yoga)

    async def scenario(engine):
        with pytest.raises(NotYet, match="the mount does not run"):
            await call(engine, "push", paths=["/mnt/a"])

    yoga.run(scenario)


def test_a_push_in_the_mount_of_nothing_is_not_found(yoga):
    mounted(yoga)

    async def scenario(engine):
        mount = MountEnd(lambda request: frames.SealResult(request.id, missing=["a"]))
        await mount.connect(engine)
        with pytest.raises(NotFound, match="a"):
            await call(engine, "push", paths=["/mnt/a"])
        await mount.close()

    yoga.run(scenario)


def test_a_push_of_what_cannot_be_published_ends(yoga, tree, monkeypatch):
    monkeypatch.setattr("sync.verbs.goal.STUCK_S", 0.1)
    mounted(yoga)

    def seal(request):
        tree.put("a", b"x" * 5000)
        for layer in yoga.paths.work_dir.rglob("*"):
            if layer.is_file():
                layer.unlink()
        return frames.SealResult(request.id)

    async def scenario(engine):
        mount = MountEnd(seal)
        await mount.connect(engine)
        data = await call(engine, "push", paths=["/mnt/a"])
        assert (data["files"], data["error"]["code"]) == (0, "not-yet")
        assert "gone" in data["error"]["message"]
        await mount.close()

    yoga.run(scenario)


def test_a_push_in_the_mount_gives_up_on_a_store_that_stays_away(yoga, tree, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sync.verbs.wait.AWAY_S", 0.1)
    mounted(yoga)
    (tmp_path / "store").rename(tmp_path / "gone")

    def seal(request):
        tree.put("a", b"1")
        return frames.SealResult(request.id)

    async def scenario(engine):
        mount = MountEnd(seal)
        await mount.connect(engine)
        with pytest.raises(StoreAway):
            await call(engine, "push", paths=["/mnt/a"])
        await mount.close()

    yoga.run(scenario)


def test_a_push_in_the_mount_tells_what_stays_here(yoga, tree):
    mounted(yoga)
    for name, kind in (("n.swp", FILE), (".git", DIR), ("pipe", FIFO)):
        tree.dirty(name)
        tree.connection.execute("UPDATE node SET kind = ? WHERE id = (SELECT max(id) FROM node)", (kind,))
        tree.connection.execute("UPDATE entry SET local_only = 1, dirty = 0 WHERE name = ?", (name,))

    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        data = await call(engine, "push", paths=["/mnt"])
        assert data["ignored"] == [".git", "n.swp"]
        assert data["skipped"] == [{"path": "pipe", "reason": "is a socket, pipe or device"}]
        data = await call(engine, "push", paths=["/mnt/.git/HEAD", "/mnt/n.swp"])
        assert (data["ignored"], "error" in data) == ([], False)
        reason = "stays on this machine by its name"
        assert data["skipped"] == [{"path": path, "reason": reason} for path in (".git/HEAD", "n.swp")]
        await mount.close()

    yoga.run(scenario)
