"""Pins: they bring what they cover, follow what changes, and tell what is missing."""

import random
import shutil
from typing import Never

import pytest
from workerkit import Fleet, Machine, run

from sync.cas.cache import ChunkCache
from sync.core.errors import BadConfig, NotFound, StoreAway
from sync.core.manifest import ChunkId
from sync.core.policy import Policies, Policy
from sync.state.policies import PolicyFile
from sync.state.view import ShownView
from sync.worker import pins as pins_module
from sync.worker.pins import LOOK_AGAIN_S, LOOK_EVERY_S, RETRY_LATER_S, RETRY_S, SETTLE_S, Pins

BIG = random.Random(7).randbytes(100_000)


def pins_of(machine: Machine, quota: int = 1 << 30, **words: str) -> Pins:
    """Pins with words for paths ('_' stands for '/')."""
    set_words(machine, **words)
    return Pins(machine.context, machine.cache, machine.fetcher, PolicyFile(machine.folder / "policies.toml"), quota)


def set_words(machine: Machine, **words: str) -> None:
    policies = Policies({path.replace("_", "/"): Policy(word) for path, word in words.items()})
    PolicyFile(machine.folder / "policies.toml").write(policies)


async def two(fleet: Fleet, files: dict[str, bytes]) -> tuple[Machine, Machine]:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    for name, data in files.items():
        yoga.write(name, data)
    await yoga.push(*sorted({name.partition("/")[0] for name in files}))
    await bates.learner.poll()
    return yoga, bates


def is_here(machine: Machine, path: str) -> bool:
    row = machine.db.view.resolve_path(path)
    assert row is not None and row.version is not None
    ids, _ = machine.db.view.chunk_list(machine.db.view.identity(row.version))
    return all(machine.cache.has(chunk) for chunk in ids)


def test_what_is_pinned_comes_and_nothing_else(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"d/a": BIG, "d/sub/b": BIG + b"b", "d/not/c": BIG + b"c", "e/f": BIG + b"f"})
        pins = pins_of(bates, d="always", d_not="never")
        values = await pins.run_once()
        found = {path: is_here(bates, path) for path in ("d/a", "d/sub/b", "d/not/c", "e/f")}
        assert found == {"d/a": True, "d/sub/b": True, "d/not/c": False, "e/f": False}
        assert len(values) == 2
        state = pins.state
        assert (state.paths, state.files, state.lacking_files, state.trouble) == (1, 2, 0, "")
        assert state.bytes == 2 * len(BIG) + 1
        assert await pins.run_once() == []

    run(go(), fleet.clock)


def test_new_versions_and_new_files_are_followed(fleet: Fleet) -> None:
    async def go() -> None:
        yoga, bates = await two(fleet, {"d/a": BIG, "e/x": BIG})
        pins = pins_of(bates, d="always")
        await pins.run_once()
        yoga.write("d/a", BIG * 2)
        yoga.write("d/new/deep/b", BIG + b"new")
        yoga.write("e/x", BIG[::-1])
        await yoga.push("d", "e")
        await bates.learner.poll()
        assert not is_here(bates, "d/a")
        await pins.run_once()
        assert is_here(bates, "d/a") and is_here(bates, "d/new/deep/b") and not is_here(bates, "e/x")
        assert pins.state.files == 2

    run(go(), fleet.clock)


@pytest.mark.parametrize("items_max", [5000, 1])
def test_what_is_followed_is_what_a_look_at_everything_finds(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, items_max: int
) -> None:
    async def go() -> None:
        monkeypatch.setattr(pins_module, "ITEMS_MAX", items_max)
        yoga, bates = await two(fleet, {f"d/{n}": b"%d" % n for n in range(6)} | {"d/s/x": b"x", "e/y": b"y"})
        followed = pins_of(bates, d="always", e_y="always", d_s="on-read", d_s_x="always")
        await followed.run_once()
        steps = [
            lambda: yoga.write("d/0", "changed"),
            lambda: yoga.write("d/deep/er/f", "new"),
            lambda: yoga.write("e/z", "not pinned"),
            lambda: yoga.write("d/s/w", "not pinned either"),
            lambda: yoga.write("d/s/x", "the file that is"),
            lambda: yoga.write("e/y", "the other one"),
        ]
        for step in steps:
            step()
            await yoga.push("d", "e")
            await bates.learner.poll()
            await followed.run_once()
            anew = Pins(bates.context, bates.cache, bates.fetcher, PolicyFile(bates.folder / "policies.toml"), 1 << 30)
            assert followed.protected() == anew.protected()
            assert set(followed._files) == set(anew._files)
        assert set(followed._files) == {*(f"d/{n}" for n in range(6)), "d/deep/er/f", "d/s/x", "e/y"}

    run(go(), fleet.clock)


def test_a_gap_in_the_feed(fleet: Fleet) -> None:
    async def go() -> None:
        yoga, bates = await two(fleet, {"d/a": b"a"})
        pins = pins_of(bates, d="always")
        await pins.run_once()
        for n in range(5):
            yoga.write(f"d/{n}", b"%d" % n)
        await yoga.push("d")
        await bates.learner.poll()
        last = bates.db.view.feed_last()
        with bates.db.transaction() as txn:
            txn.prune_feed(last - 1)
        await pins.run_once()
        assert set(pins._files) == {"d/a", *(f"d/{n}" for n in range(5))}

    run(go(), fleet.clock)


def test_an_eviction_leaves_what_is_pinned(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"d/a": BIG, "e/b": BIG + b"b"})
        pins = pins_of(bates, d="always")
        bates.cache = ChunkCache(bates.env, bates.folder / "cache", 1 << 30, bates.context.keys, pins.protected)
        bates.fetcher._cache = pins._cache = bates.cache
        await pins.run_once()
        ids, _ = await bates.fetcher.chunk_list(bates.db.heads("e/b")[0].id)
        await bates.fetcher.bring(ids, pins_module.Priority.READ)
        bates.env.clock.elapsed += 60
        bates.cache.room.evict(1 << 40)
        assert is_here(bates, "d/a") and not is_here(bates, "e/b")
        set_words(bates)
        bates.cache.room.evict(1 << 40)
        assert not is_here(bates, "d/a")

    run(go(), fleet.clock)


def test_nothing_is_evicted_while_nobody_knows_what_is_pinned(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"d/a": BIG})
        pins = pins_of(bates, d="always")
        await pins.run_once()
        (bates.folder / "policies.toml").write_text("broken")
        assert pins.protected()  # as it was
        started = Pins(bates.context, bates.cache, bates.fetcher, PolicyFile(bates.folder / "policies.toml"), 1 << 30)
        with pytest.raises(BadConfig):
            started.protected()
        cache = ChunkCache(bates.env, bates.folder / "cache", 1 << 30, bates.context.keys, started.protected)
        bates.env.clock.elapsed += 60
        assert cache.room.evict(1 << 40) == 0
        assert is_here(bates, "d/a")

    run(go(), fleet.clock)


def test_a_store_that_is_away_is_tried_again(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"d/a": BIG})
        pins = pins_of(bates, d="always")
        original, asked = fleet.memory.get, []

        async def away(key: str, start: int = 0, length: int | None = None) -> bytes:
            asked.append(key)
            raise StoreAway("the cable is out")

        fleet.memory.get = away  # type: ignore[method-assign]
        assert await pins.run_once() == []
        assert (pins.state.lacking, pins.state.trouble) == (["d/a"], "the cable is out")
        assert "put that right" in pins.state.hint
        before = len(asked)
        assert await pins.run_once() == [] and len(asked) == before
        fleet.memory.get = original  # type: ignore[method-assign]
        bates.env.clock.elapsed += RETRY_S
        assert len(await pins.run_once()) == 1
        assert (pins.state.lacking_files, pins.state.trouble, pins.state.hint) == (0, "", "")

    run(go(), fleet.clock)


def test_pins_that_are_more_than_the_cache_may_take_are_told(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"d/a": BIG, "d/b": BIG + b"b"})
        pins = pins_of(bates, quota=len(BIG), d="always")
        bates.cache.room.quota = 30 * 4096
        await pins.run_once()
        state = pins.state
        assert "pinned are 0.2 MiB, but the cache may take 0.1 MiB" in state.trouble
        assert "raise cache_quota" in state.hint
        assert state.lacking_files >= 1
        bates.cache.room.quota = pins._quota = 1 << 30
        bates.env.clock.elapsed += RETRY_LATER_S
        await pins.run_once()
        assert (pins.state.lacking_files, pins.state.trouble) == (0, "")

    run(go(), fleet.clock)


def test_one_damaged_file_keeps_no_other_from_coming(fleet: Fleet) -> None:
    async def go() -> None:
        yoga, bates = await two(fleet, {"d/a": BIG})
        before = set(fleet.memory.objects)
        yoga.write("d/b", BIG[::-1])
        await yoga.push("d")
        for key in set(fleet.memory.objects) - before:
            if key.startswith("packs/"):
                fleet.memory.objects[key] = bytes(len(fleet.memory.objects[key]))
        await bates.learner.poll()
        pins = pins_of(bates, d="always")
        assert len(await pins.run_once()) == 1
        assert is_here(bates, "d/a")
        assert pins.state.lacking == ["d/b"] and "damaged" in pins.state.trouble

    run(go(), fleet.clock)


def test_a_cache_that_was_deleted_is_filled_again(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"d/a": BIG})
        pins = pins_of(bates, d="always")
        await pins.run_once()
        shutil.rmtree(bates.folder / "cache")
        bates.env.clock.elapsed += LOOK_AGAIN_S
        await pins.run_once()
        assert is_here(bates, "d/a")

    run(go(), fleet.clock)


def test_what_was_written_here_is_not_fetched_while_the_mount_has_not_noted_it(fleet: Fleet) -> None:
    async def go() -> None:
        yoga, _ = await two(fleet, {"d/a": BIG})
        pins = pins_of(yoga, d="always")
        await pins.run_once()
        assert is_here(yoga, "d/a")  # pinned when it stood there already: nothing will bring it
        yoga.write("d/new", BIG + b"new")
        await yoga.push("d")
        assert await pins.run_once() == [] and pins.state.lacking_files == 0
        yoga.env.clock.elapsed += SETTLE_S
        assert len(await pins.run_once()) == 1 and is_here(yoga, "d/new")

    run(go(), fleet.clock)


def test_what_is_unpinned_meanwhile_does_not_come(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        monkeypatch.setattr(pins_module, "BATCH_BYTES", 1)
        _, bates = await two(fleet, {"d/a": BIG, "d/b": BIG + b"b", "d/c": BIG + b"c"})
        pins = pins_of(bates, d="always")
        bring = bates.fetcher.bring

        async def slow(*args: object) -> set[ChunkId]:
            set_words(bates, d="always", d_b="on-read")
            bates.env.clock.elapsed += LOOK_EVERY_S
            return await bring(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(bates.fetcher, "bring", slow)
        await pins.run_once()
        assert [is_here(bates, path) for path in ("d/a", "d/b", "d/c")] == [True, False, True]
        assert (pins.state.files, pins.state.lacking_files) == (2, 0)

    run(go(), fleet.clock)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_look_that_fails_is_no_look(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, is_first: bool) -> None:
    async def go() -> None:
        yoga, bates = await two(fleet, {"d/a": BIG})
        pins = pins_of(bates, d="always")
        if not is_first:
            await pins.run_once()
        yoga.write("d/b", BIG + b"b")
        yoga.write("d/c", BIG + b"c")
        await yoga.push("d")
        await bates.learner.poll()

        def gone(number: int) -> Never:
            raise NotFound("no version has the number")

        with monkeypatch.context() as broken, pytest.raises(NotFound):
            broken.setattr(ShownView, "content_of", lambda view, number: gone(number))
            await pins.run_once()
        bates.env.clock.elapsed += SETTLE_S
        await pins.run_once()
        assert [is_here(bates, path) for path in ("d/a", "d/b", "d/c")] == [True, True, True]

    run(go(), fleet.clock)


def test_many_pins_are_not_all_looked_at() -> None:
    pins = sorted(["a", "a!", "a-b", "a/b", "a/b/c", "a0", "ab", "b", "b/c"])
    assert list(pins_module._below(pins, "a")) == ["a/b", "a/b/c"]
    assert list(pins_module._below(pins, "b")) == ["b/c"]
    assert list(pins_module._below(pins, "c")) == []
