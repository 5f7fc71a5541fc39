import asyncio
import random
import shutil
import sqlite3

import pytest
from enginekit import Machine, MountEnd, Tree, call, until

from sync.cas import room as room_module
from sync.core.codec import chunk_id
from sync.core.errors import Integrity, NoSpace, NotAuthorised, TcfsError
from sync.core.filekey import FileKey
from sync.engine import EngineBusy
from sync.ipc import frames
from sync.reports.status import queued_paths
from sync.state import ballast
from sync.state.rows import file_value
from sync.worker import reused as reused_module


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    yield machine
    machine.close()


@pytest.fixture
def bates(tmp_path, yoga):
    machine = Machine(tmp_path, "bates", yoga)
    yield machine
    machine.close()


def test_there_is_one_engine_at_a_time(yoga):
    async def scenario(engine):
        with pytest.raises(EngineBusy):
            await yoga.beside(scenario)
        return "first"

    assert yoga.run(scenario) == "first"
    assert yoga.run(lambda engine: asyncio.sleep(0, "again")) == "again"


def test_two_engines_in_one_process_hear_of_each_other(yoga, bates):
    path = yoga.file("f", b"hello")

    async def scenario(here):
        async def beside(there):
            await call(here, "push", paths=[path])
            await until(lambda: there.is_shown("f"))

        await bates.beside(beside)

    yoga.run(scenario)


def test_what_is_sealed_is_published_and_told(yoga, bates):
    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        tree = Tree(yoga)
        seal_id = tree.put("a", b"content")
        mount.send(frames.Sealed())
        await until(lambda: engine.context.db.view.answer(seal_id))
        await until(lambda: {type(message) for message in mount.told} >= {frames.FeedMoved, frames.TakenMoved})
        await until(lambda: not queued_paths(engine.context.db))
        tree.close()
        await mount.close()

    yoga.run(scenario)

    async def there(engine):
        await until(lambda: engine.is_shown("a"))

    bates.run(there)


@pytest.mark.logs_trouble
@pytest.mark.parametrize("by", ["verb", "loop"])
def test_an_engine_whose_database_is_damaged_ends(yoga, by):
    """Not to look alive for ever: the next one says what to do."""
    path = yoga.file("f", b"hello")

    async def scenario(engine):
        await call(engine, "push", paths=[path])
        db = engine.context.db
        db._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = yoga.paths.fleet_db.stat().st_size
        with yoga.paths.fleet_db.open("r+b") as file:
            for place in range(4096, size, 4096):
                file.seek(place)
                file.write(b"x" * 4096)
        db._connection.execute("PRAGMA shrink_memory")
        db.query("PRAGMA shrink_memory")  # of the one that reads beside it
        if by == "verb":
            with pytest.raises(Integrity) as told:
                await call(engine, "push", paths=[path])
            assert "move" in told.value.hint
        await asyncio.Event().wait()

    with pytest.raises(Integrity) as ended:
        yoga.run(scenario)
    assert (ended.value.path, "move" in ended.value.hint) == (str(yoga.paths.fleet_db), True)


def test_what_was_sealed_before_is_published_without_a_mount(yoga):
    tree = Tree(yoga)
    seal_id = tree.put("a", b"content")
    tree.close()

    async def scenario(engine):
        await until(lambda: engine.context.db.view.answer(seal_id))

    yoga.run(scenario)


def test_a_mount_fetches_chunks(yoga, bates):
    path = yoga.file("f", b"some bytes")
    yoga.run(lambda engine: call(engine, "push", paths=[path]))

    async def scenario(engine):
        await until(lambda: engine.is_shown("f"))
        view = engine.context.db.view
        version = view.identity(view.resolve_path("f").version)
        mount = MountEnd()
        await mount.connect(engine)
        mount.send(frames.Fetch(7, version, [0]))
        done = await until(lambda: [message for message in mount.told if isinstance(message, frames.FetchDone)])
        chunk = view.chunk_list(version)[0][0]
        assert done == [frames.FetchDone(7, written={chunk: FileKey.of(engine.cache.path(chunk).stat())})]
        assert engine.cache.path(chunk).read_bytes() == b"some bytes"
        mount.send(frames.Fetch(8, version, [99]))
        failed = await until(lambda: [message for message in mount.told if isinstance(message, frames.Failed)])
        assert failed[0].code == "bad-format"
        await mount.close()

    bates.run(scenario)


def test_a_store_that_is_away_is_said_and_waited_for(yoga, tmp_path, caplog):
    async def scenario(engine):
        await until(lambda: engine.context.db.machines())
        (tmp_path / "store").rename(tmp_path / "gone")
        tree = Tree(yoga)
        tree.put("a", b"content")
        engine.sealed()
        trouble = await until(engine.store_trouble)
        assert "away" in trouble
        assert (await call(engine, "engine"))["store_trouble"] == trouble
        (tmp_path / "gone").rename(tmp_path / "store")
        await until(lambda: engine.is_shown("a"))
        await until(lambda: not queued_paths(engine.context.db))
        await until(lambda: not engine.store_trouble())
        tree.close()

    yoga.run(scenario)


def test_an_engine_starts_with_its_store_away(yoga, tmp_path, caplog):
    shutil.rmtree(tmp_path / "store")

    async def scenario(engine):
        assert await until(engine.store_trouble)

    yoga.run(scenario)


@pytest.mark.parametrize("is_half_made", [False, True])
def test_a_lost_fleet_db_comes_back_under_a_new_machine_id(yoga, is_half_made, caplog):
    path = yoga.file("f", b"one")
    yoga.run(lambda engine: call(engine, "push", paths=[path]))
    old = yoga.paths.load().machine_id
    for file in yoga.paths.state_dir.glob("fleet.db*"):
        file.unlink()
    if is_half_made:  # a process was killed before it had made the tables
        yoga.env.connect(yoga.paths.fleet_db).close()

    async def scenario(engine):
        await until(lambda: engine.is_shown("f"))
        await until(lambda: engine.context.db.machine_id != old)
        assert old in engine.context.db.own_ids
        await until(lambda: yoga.paths.load().machine_id != old)
        assert yoga.paths.load().machine_id == engine.context.db.machine_id

    yoga.run(scenario)


def test_another_fleets_key_is_refused(yoga):
    for file in yoga.paths.state_dir.glob("fleet.db*"):
        file.unlink()
    yoga.paths.write_key(bytes(32))
    with pytest.raises(NotAuthorised):
        yoga.run(lambda engine: asyncio.sleep(0))


def test_answers_go_when_the_mount_has_noted_them_for_good(yoga):
    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        tree = Tree(yoga)
        seal_id = tree.put("a", b"content")
        mount.send(frames.Sealed())
        answer = await until(lambda: engine.context.db.view.answer(seal_id))
        tree.forget("a")
        mount.send(frames.Noted(answer.n))
        mount.send(frames.Noted(answer.n, durable=True))
        await until(lambda: engine.context.db.view.answer(seal_id) is None)
        tree.close()
        await mount.close()

    yoga.run(scenario)


def test_a_bug_in_the_background_ends_the_engine(yoga):
    async def scenario(engine):
        async def broken(*_):
            raise ZeroDivisionError("a bug")

        engine.publisher.drain = broken
        engine.context.db.queued_seqs = lambda: [(1, 1)]
        await asyncio.sleep(15)

    with pytest.raises(ZeroDivisionError):
        yoga.run(scenario)


def test_ballast_is_kept(yoga):
    async def scenario(engine):
        assert yoga.paths.ballast.stat().st_size == ballast.SIZE

    yoga.run(scenario)


def test_the_content_below_changed_files_is_not_evicted(yoga):
    path = yoga.file("f", b"base bytes")

    async def scenario(engine):
        await call(engine, "push", paths=[path])
        view = engine.context.db.view
        version = view.identity(view.resolve_path("f").version)
        await engine.fetcher.fetch(version, [0])
        tree = Tree(yoga)
        tree.dirty("f")
        assert engine.cache_keeper.needed() == frozenset()
        tree.connection.execute("UPDATE node SET base = ?", (version,))
        chunk = view.chunk_list(version)[0][0]
        assert engine.cache_keeper.needed() == {chunk.hex(), view.manifest(version).content_id}
        tree.close()

    yoga.run(scenario)


async def changed_in_place(engine, mount, tree, data):
    """f is published, and lies in the cache as one; so is a change in place. Its version, and the old whole file."""
    view = engine.context.db.view
    seal = tree.put("f", data)
    mount.send(frames.Sealed())
    first = (await until(lambda: view.answer(seal))).version
    tree.forget("f")
    whole = engine.cache.whole_path(view.manifest(first).content_id)
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_bytes(data)
    layer, size = tree.layer([(len(data) // 2, b"changed")]), len(data)
    columns = {"kind": 1, "mode": 0o644, "size": size, "mtime_ns": 2, "ctime_ns": 2, "layer": layer}
    with tree.round():
        seal = tree.seal("put", "f", base=first, limit_below=size, seen=[first], last=first, **columns)
    mount.send(frames.Sealed())
    return (await until(lambda: view.answer(seal))).version, whole


@pytest.mark.parametrize("is_dehydrated", [False, True])
def test_what_a_changed_file_has_of_the_one_before_is_copied(yoga, monkeypatch, is_dehydrated):
    """While the mount shows that it stays, and then it goes, and the mount hears of both. What was freed stays away."""
    monkeypatch.setattr(reused_module, "KEEP_MAX", 1000)
    monkeypatch.setattr(reused_module, "WRITTEN_S", 0.1)
    data = random.Random(1).randbytes(20 << 20)

    async def scenario(engine):
        view = engine.context.db.view
        mount, tree = MountEnd(), Tree(yoga)
        await mount.connect(engine)
        newer, whole = await changed_in_place(engine, mount, tree, data)
        old, size = whole.name, len(data)
        ids = view.chunk_list(newer)[0]
        if is_dehydrated:
            tree.forget("f")
            await until(lambda: not queued_paths(engine.context.db))
            freed = await call(engine, "dehydrate", paths=["f"])
            assert (freed["files"], freed["bytes"], freed["refused"]) == (1, size, [])
        else:
            value = file_value(view.manifest(newer).content_id)
            await until(lambda: frames.ContentMoved([value]) in mount.told)
            assert all(engine.cache.has(chunk) for chunk in ids)
            assert whole.exists()  # a base
            tree.forget("f")
        await until(lambda: frames.ContentMoved([file_value(old)], dropped=True) in mount.told)
        assert not whole.exists() and not engine.fetcher.reused.has_work()
        assert [engine.cache.has(chunk) for chunk in ids] == [not is_dehydrated] * len(ids)
        tree.close()
        await mount.close()

    yoga.run(scenario)


def test_what_lends_to_what_is_needed_stays(yoga, monkeypatch):
    """To a pinned file, and to the base of a changed one: it is not evicted, and not freed with another file."""
    monkeypatch.setattr(reused_module, "KEEP_MAX", 1000)
    monkeypatch.setattr(room_module, "GRACE_NS", 0)
    monkeypatch.setattr(room_module, "DISK_SPARE", 1 << 60)  # nothing is copied
    data = random.Random(1).randbytes(8 << 20)
    path = yoga.file("g", data)

    async def scenario(engine):
        monkeypatch.setattr(engine.pins, "run_once", lambda: asyncio.sleep(0, []))
        mount, tree = MountEnd(), Tree(yoga)
        await mount.connect(engine)
        newer, whole = await changed_in_place(engine, mount, tree, data)
        tree.forget("f")
        await until(lambda: not queued_paths(engine.context.db))
        await call(engine, "push", paths=[path])
        assert whole.name not in engine.cache_keeper.needed()
        with monkeypatch.context() as patch:
            patch.setattr(engine.cache_keeper._tree, "bases", lambda: {newer})
            assert whole.name in engine.cache_keeper.needed()
        await engine.change_policies(lambda now: now.pinned("f"))
        assert whole.name in engine.cache_keeper.needed()
        engine.cache.room.evict(64 << 20)
        assert (await call(engine, "dehydrate", paths=["g"]))["refused"] == []
        assert whole.exists()
        whole.unlink()  # as one that was evicted before: nothing is freed by it
        freed = await call(engine, "dehydrate", paths=["f"], unpin=True)
        assert freed["bytes"] < len(data) // 2
        tree.close()
        await mount.close()

    yoga.run(scenario)


def test_a_cache_that_cannot_tell_what_must_stay_takes_no_more_and_fails_nothing(yoga, monkeypatch):
    """tree.db is broken: what is fetched comes inline."""

    async def scenario(engine):
        def broken():
            raise sqlite3.DatabaseError("database disk image is malformed")

        monkeypatch.setattr(engine.cache_keeper._tree, "bases", broken)
        monkeypatch.setattr(engine.cache.room, "quota", 4096)
        data = bytes(3000)
        assert engine.cache.put(chunk_id(engine.context.keys, data), data)
        data = bytes(3001)
        assert not engine.cache.put(chunk_id(engine.context.keys, data), data)
        assert "malformed" in engine.cache.usage().last_error

    yoga.run(scenario)


def test_a_key_that_was_exchanged_is_refused(yoga):
    yoga.run(lambda engine: asyncio.sleep(0))
    yoga.paths.write_key(bytes(32))
    with pytest.raises(NotAuthorised, match=r"fleet\.key"):
        yoga.run(lambda engine: asyncio.sleep(0))


def test_on_a_full_disk_nothing_is_learned_and_all_is_published(yoga, bates, monkeypatch, caplog):
    path = bates.file("theirs", b"theirs")
    is_full = True

    async def scenario(engine):
        nonlocal is_full
        await until(lambda: not engine._store_loops.unlearned)
        monkeypatch.setattr(ballast, "has_room", lambda path: not is_full)
        ballast.give_up(yoga.paths.ballast)
        await bates.beside(lambda there: call(there, "push", paths=[path]))
        assert "full" in await until(engine.store_trouble)
        tree = Tree(yoga)
        seal_id = tree.put("ours", b"ours")
        engine.sealed()
        await until(lambda: engine.context.db.view.answer(seal_id))
        assert not engine.is_shown("theirs")
        is_full = False
        await until(lambda: engine.is_shown("theirs"))
        await until(lambda: not engine.store_trouble())
        assert ballast.is_kept(yoga.paths.ballast)
        tree.close()

    yoga.run(scenario)


def test_a_transaction_that_finds_the_disk_full_gives_the_ballast_up(yoga, monkeypatch, caplog):
    async def scenario(engine):
        def full(*_):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        with pytest.raises(NoSpace), engine.context.db.transaction():
            full()
        assert not ballast.is_kept(yoga.paths.ballast)
        await until(lambda: ballast.is_kept(yoga.paths.ballast))

    yoga.run(scenario)


def test_the_cache_makes_room_on_a_full_disk(yoga, monkeypatch, caplog):
    async def scenario(engine):
        wanted = []
        monkeypatch.setattr(engine.cache.room, "evict", wanted.append)
        await until(lambda: wanted == [0])
        monkeypatch.setattr(ballast, "has_room", lambda path: False)
        ballast.give_up(yoga.paths.ballast)
        await until(lambda: wanted[-1] == ballast.SIZE + ballast.SPARE)

    yoga.run(scenario)


def test_a_mount_that_cannot_save_is_told_of_and_kept(yoga):
    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        mount.send(frames.MountTrouble("the disk is full"))
        await until(lambda: engine.server.mount.trouble)
        assert (await call(engine, "engine"))["mount"]["trouble"] == "the disk is full"
        with pytest.raises(TcfsError, match="the disk is full"):
            await call(engine, "unmount")
        with pytest.raises(TcfsError, match="the disk is full"):
            await call(engine, "down")
        assert not engine.stop.is_set()
        mount.send(frames.MountTrouble())
        await until(lambda: not engine.server.mount.trouble)
        await mount.close()

    yoga.run(scenario)
