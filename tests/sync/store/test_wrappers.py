"""Each wrapper, doing nothing, is a store like the one it wraps; and what else it does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from store_conformance import FLEET, StoreConformance, listed

from sync.core.errors import Integrity, RequestFailed, StoreAway
from sync.env import FakeEnv
from sync.store.base import FLEET_OBJECT, Store
from sync.store.faults import Fault, FaultyStore, Harm
from sync.store.memory import MemoryStore
from sync.store.meter import Meter, MeteredStore, Usage
from sync.store.retry import FIRST_PAGE, PAGE, RetryStore


def memory(env: FakeEnv) -> MemoryStore:
    store = MemoryStore(env)
    store.objects[FLEET_OBJECT] = FLEET
    return store


class TestMemory(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        return memory(FakeEnv())


class TestRetry(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        env = FakeEnv()
        return RetryStore(env, memory(env))


class TestFaultsNone(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        env = FakeEnv()
        return FaultyStore(env, memory(env))


class TestMeter(StoreConformance):
    @pytest.fixture
    def store(self) -> Store:
        return MeteredStore(memory(FakeEnv()), Meter())


class Stack:
    """retry(faults(memory)) on a virtual clock."""

    def __init__(self, *faults: Fault) -> None:
        self.env = FakeEnv()
        self.memory = memory(self.env)
        self.faulty = FaultyStore(self.env, self.memory, *faults)
        self.store = RetryStore(self.env, self.faulty)

    def run(self, request):
        async def main():
            return await self.env.drive(request)

        return asyncio.run(main())


def test_memory_that_is_away():
    stack = Stack()
    stack.memory.is_away = True
    with pytest.raises(StoreAway):
        stack.run(stack.store.check())
    with pytest.raises(StoreAway):
        stack.run(stack.store.put("k", b""))
    assert 2 == len(stack.faulty.calls)  # not tried again
    stack.memory.is_away = False
    stack.run(stack.store.check())
    del stack.memory.objects[FLEET_OBJECT]
    with pytest.raises(StoreAway):
        stack.run(stack.store.check())


@pytest.mark.parametrize("harm", [Harm.FAIL, Harm.LOSE])
def test_a_request_that_failed_three_times_is_tried_a_fourth_time(harm: Harm):
    stack = Stack(Fault("put", times=3, harm=harm))
    stack.run(stack.store.put("k", b"x"))
    assert b"x" == stack.run(stack.store.get("k"))
    assert [("put", "k")] * 4 == stack.faulty.calls[:4]
    assert 0.5 < stack.env.monotonic() < 5


def test_retries_end():
    stack = Stack(Fault("get", times=0))
    with pytest.raises(RequestFailed, match="injected"):
        stack.run(stack.store.get(FLEET_OBJECT))
    assert 4 == len(stack.faulty.calls)


def test_an_error_of_another_kind_is_not_tried_again():
    stack = Stack(Fault("get", error=Integrity))
    with pytest.raises(Integrity):
        stack.run(stack.store.get(FLEET_OBJECT))
    assert 1 == len(stack.faulty.calls)


def test_put_if_absent_whose_answer_is_lost_says_that_something_is_there():
    stack = Stack(Fault("put_if_absent", harm=Harm.LOSE))
    assert stack.run(stack.store.put_if_absent("k", b"x")) is False
    assert b"x" == stack.run(stack.store.get("k"))


def test_a_store_that_stalls_is_given_up_at_the_deadline():
    stack = Stack(Fault("get", harm=Harm.STALL, seconds=1e9))
    with pytest.raises(StoreAway, match="60 s"):
        stack.run(stack.store.get(FLEET_OBJECT))
    assert 60 == stack.env.monotonic()
    assert FLEET == stack.run(stack.store.get(FLEET_OBJECT))


def test_a_stall_below_the_deadline_only_takes_time():
    stack = Stack(Fault("get", harm=Harm.STALL, seconds=59))
    assert FLEET == stack.run(stack.store.get(FLEET_OBJECT))
    assert 59 == stack.env.monotonic()


def test_a_list_that_is_cut_goes_on_where_it_was():
    stack = Stack()
    for n in range(10):
        stack.memory.objects[f"l/{n}"] = b""
    stack.faulty.faults = [Fault("list", times=3, harm=Harm.CUT), Fault("list", nth=5, times=2)]
    assert [f"l/{n}" for n in range(10)] == stack.run(listed(stack.store, "l/"))


def test_a_list_is_asked_for_by_the_page(monkeypatch: pytest.MonkeyPatch):
    """An attempt, with its deadline, for each page of keys, not for each key; small while few were asked for."""
    stack, attempts = Stack(), []
    names = [f"l/{n:05d}" for n in range(FIRST_PAGE + 3 * PAGE)]
    stack.memory.objects.update(dict.fromkeys(names, b""))
    timeout = stack.env.timeout
    monkeypatch.setattr(stack.env, "timeout", lambda seconds: attempts.append(seconds) or timeout(seconds))
    assert names == stack.run(listed(stack.store, "l/"))
    assert 5 == len(attempts)


class Slow(MemoryStore):
    """Half a second for each key of a listing."""

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator:
        async for info in super().list(prefix, start_after):
            await self._env.sleep(0.5)
            yield info


def test_a_long_list_of_a_slow_store_is_not_given_up():
    stack = Stack()
    stack.store.inner = Slow(stack.env)
    names = [f"l/{n:04d}" for n in range(300)]
    stack.store.inner.objects.update(dict.fromkeys(names, b""))
    assert names == stack.run(listed(stack.store, "l/"))
    assert 150 == stack.env.monotonic()


def test_a_list_that_fails_for_ever_ends():
    stack = Stack(Fault("list", times=0))
    with pytest.raises(RequestFailed):
        stack.run(listed(stack.store))


def test_a_list_that_stalls_is_given_up():
    class Stalling(MemoryStore):
        async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator:
            async for info in super().list(prefix, start_after):
                yield info
                await self._env.sleep(1e9)

    stack = Stack()
    stack.store.inner = Stalling(stack.env)
    stack.store.inner.objects[FLEET_OBJECT] = FLEET
    with pytest.raises(StoreAway):
        stack.run(listed(stack.store))


def test_faults_hit_the_calls_they_name():
    stack = Stack(Fault("get", prefix="a/", nth=2, times=2))
    for key in ("a/k", "b/k"):
        stack.memory.objects[key] = b"x"
    outcomes = []
    for key in ("a/k", "b/k", "a/k", "a/k", "b/k", "a/k"):
        try:
            outcomes.append(stack.run(stack.faulty.get(key)))
        except RequestFailed:
            outcomes.append("failed")
    assert [b"x", b"x", "failed", "failed", b"x", b"x"] == outcomes


def test_cut_and_altered_bytes():
    stack = Stack(
        Fault("get", "cut", harm=Harm.CUT), Fault("get", "flip", harm=Harm.FLIP), Fault("put", "torn", harm=Harm.CUT)
    )
    stack.memory.objects.update({"cut": b"12345678", "flip": b"\0\0\0\0"})
    assert [b"1234", b"12345678"] == [stack.run(stack.store.get("cut")) for _ in range(2)]
    assert [b"\0\0\1\0", b"\0\0\0\0"] == [stack.run(stack.store.get("flip")) for _ in range(2)]
    stack.run(stack.store.put("torn", [b"abc", b"def"]))
    assert b"abc" == stack.memory.objects["torn"]


def test_meter_counts_requests_and_bytes_by_area():
    stack, meter = Stack(Fault("get", "packs/lost")), Meter()
    store = MeteredStore(stack.faulty, meter)
    stack.run(store.put("packs/m/1", [b"123", b"45"]))
    stack.run(store.put_if_absent("packs/m/1", b"again"))
    stack.run(store.get("packs/m/1", 1, 2))
    stack.run(store.stat("packs/m/1"))
    stack.run(listed(store, "packs/"))
    stack.run(store.get(FLEET_OBJECT))
    with pytest.raises(RequestFailed):
        stack.run(store.get("packs/lost"))
    expected = {
        "packs": Usage(gets=2, puts=2, lists=1, others=1, bytes_read=2, bytes_written=5),
        FLEET_OBJECT: Usage(gets=1, bytes_read=len(FLEET)),
    }
    assert expected == meter.statistics()
