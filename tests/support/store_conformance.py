"""What every Store must do. Join with a subclass of StoreConformance that has a fixture `store`: a new store in which
only fleet.json is, with the bytes FLEET."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sync.core.errors import BadInput, ObjectMissing
from sync.store.base import FLEET_OBJECT, ObjectInfo, Store

FLEET = b'{"format":1}'

Run = Callable[[Awaitable[Any]], Any]

# Bytewise: '-' and '.' sort before '/', digits before letters, capitals before small ones.
KEYS = [
    "a-b",
    "a.b/c",
    "a/1",
    "a/1-x",
    "a/1/x",
    "a/10/y",
    "a/B",
    "a/b",
    "a0",
    "heads/m",
    "packs/m/00/x",
    "packs/m/ff/y",
]


async def listed(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key async for info in store.list(prefix, start_after)]


class StoreConformance:
    @pytest.fixture
    def run(self) -> Run:
        async def main(awaitable: Awaitable[Any]) -> Any:
            return await awaitable

        return lambda awaitable: asyncio.run(main(awaitable))

    @pytest.fixture
    def full(self, store: Store, run: Run) -> Store:
        async def fill() -> None:
            for key in KEYS:
                if key != "a/1":  # a name is an object or a folder
                    await store.put(key, key.encode())

        run(fill())
        return store

    def test_put_then_get(self, store: Store, run: Run) -> None:
        for data in (b"", b"x", bytes(range(256)) * 5000):
            run(store.put("a/b/c", data))
            assert data == run(store.get("a/b/c"))

    def test_put_takes_buffers_of_any_kind(self, store: Store, run: Run) -> None:
        parts = [b"one", bytearray(b"two"), memoryview(b"-three-")[1:-1], b""]
        run(store.put("k", parts))
        assert b"onetwothree" == run(store.get("k"))
        for single in (bytearray(b"four"), memoryview(b"four")):
            run(store.put("k", single))
            assert b"four" == run(store.get("k"))
        run(store.put("k", []))
        assert b"" == run(store.get("k"))

    def test_put_of_very_many_buffers(self, store: Store, run: Run) -> None:
        parts = [bytes([n % 251]) * (n % 7) for n in range(5000)]
        run(store.put("k", parts))
        assert b"".join(parts) == run(store.get("k"))

    def test_put_does_not_keep_the_callers_buffer(self, store: Store, run: Run) -> None:
        data = bytearray(b"before")
        run(store.put("k", data))
        data[:] = b"after!"
        assert b"before" == run(store.get("k"))

    def test_ranges(self, store: Store, run: Run) -> None:
        run(store.put("k", b"0123456789"))
        ranges = [(0, None), (3, None), (3, 4), (0, 0), (8, 100), (10, 5), (99, None), (99, 1)]
        expected = [b"0123456789", b"3456789", b"3456", b"", b"89", b"", b"", b""]
        assert expected == [run(store.get("k", start, length)) for start, length in ranges]
        for start, length in [(-1, None), (0, -1)]:
            with pytest.raises(BadInput):
                run(store.get("k", start, length))

    def test_put_if_absent_writes_once(self, store: Store, run: Run) -> None:
        assert run(store.put_if_absent("a/k", b"first")) is True
        assert run(store.put_if_absent("a/k", b"second")) is False
        assert b"first" == run(store.get("a/k"))
        run(store.delete("a/k"))
        assert run(store.put_if_absent("a/k", [b"th", b"ird"])) is True
        assert b"third" == run(store.get("a/k"))

    def test_of_many_put_if_absent_at_once_one_wins_whole(self, store: Store, run: Run) -> None:
        async def race() -> tuple[list[bool], bytes]:
            offers = [bytes([n]) * 100_000 for n in range(12)]
            won = await asyncio.gather(*(store.put_if_absent("r/k", offer) for offer in offers))
            return won, await store.get("r/k")

        won, data = run(race())
        assert 1 == sum(won)
        assert bytes([won.index(True)]) * 100_000 == data

    def test_readers_see_old_or_new_never_a_mixture(self, store: Store, run: Run) -> None:
        async def main() -> None:
            states = [bytes([n]) * 50_000 for n in range(10)]
            await store.put("k", states[0])

            async def write() -> None:
                for state in states:
                    await store.put("k", state)

            async def read() -> None:
                for _ in range(20):
                    assert await store.get("k") in states

            await asyncio.gather(write(), read(), read())

        run(main())

    def test_missing(self, store: Store, run: Run) -> None:
        run(store.put("a/k", b"x"))
        for key in ("none", "a/none", "none/k", "a/k/below"):
            with pytest.raises(ObjectMissing) as caught:
                run(store.get(key))
            assert key == caught.value.path
            with pytest.raises(ObjectMissing):
                run(store.stat(key))

    def test_stat(self, store: Store, run: Run) -> None:
        run(store.put("a/k", b"12345"))
        found = run(store.stat("a/k"))
        assert ("a/k", 5) == (found.key, found.size)
        assert found.mtime_ns > 0

    def test_delete(self, store: Store, run: Run) -> None:
        run(store.put("a/k", b"x"))
        run(store.delete("a/k"))
        run(store.delete("a/k"))
        run(store.delete("never/was"))
        with pytest.raises(ObjectMissing):
            run(store.get("a/k"))
        assert [FLEET_OBJECT] == run(listed(store))

    def test_list_is_sorted_bytewise(self, full: Store, run: Run) -> None:
        expected = sorted([*(key for key in KEYS if key != "a/1"), FLEET_OBJECT], key=str.encode)
        assert expected == run(listed(full))

    @pytest.mark.parametrize(
        "prefix", ["", "a", "a/", "a/1", "a/1/", "a/1-", "packs/m/", "packs/m/f", "b", "a/b", "fleet"]
    )
    def test_list_by_prefix_and_start_after(self, full: Store, run: Run, prefix: str) -> None:
        every = run(listed(full))
        for after in ["", *KEYS, "a", "a/", "a/1/zz", "a/2", "packs/m/", "zz"]:
            expected = [key for key in every if key.startswith(prefix) and key > after]
            assert expected == run(listed(full, prefix, after)), after

    @pytest.mark.parametrize("prefix", ["..", "../", "/", "a//", ".tmp/", "none/", "fleet.json/"])
    def test_list_of_what_no_key_begins_with(self, full: Store, run: Run, prefix: str) -> None:
        assert [] == run(listed(full, prefix))

    def test_list_tells_sizes(self, store: Store, run: Run) -> None:
        async def infos() -> list[ObjectInfo]:
            return [info async for info in store.list("s/")]

        run(store.put("s/a", b"123"))
        run(store.put("s/b", b""))
        assert [("s/a", 3), ("s/b", 0)] == [(info.key, info.size) for info in run(infos())]

    @pytest.mark.parametrize(
        "key",
        ["", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", ".tmp/x", "a\0b", "a b", "ä", "a\n", "x" * 256, "a\\b"],
    )
    def test_what_is_no_key_is_refused_everywhere(self, store: Store, run: Run, key: str) -> None:
        for request in (
            lambda: store.get(key),
            lambda: store.put(key, b""),
            lambda: store.put_if_absent(key, b""),
            lambda: store.delete(key),
            lambda: store.stat(key),
        ):
            with pytest.raises(BadInput):
                run(request())
        assert [FLEET_OBJECT] == run(listed(store))

    def test_check_of_a_store_that_is_there(self, store: Store, run: Run) -> None:
        run(store.check())
        assert FLEET == run(store.get(FLEET_OBJECT))
        assert store.url
        run(store.aclose())
