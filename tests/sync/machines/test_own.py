import asyncio
import os
import threading

import pytest
from enginekit import Machine, call

from sync.core.errors import StoreAway
from sync.machines import own


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    yield machine
    machine.close()


@pytest.mark.parametrize("totals", [False, True])
def test_a_store_whose_disk_hangs_keeps_only_the_push_waiting(yoga, tmp_path, monkeypatch, totals):
    realpath, hung, go_on = os.path.realpath, threading.Event(), threading.Event()

    def hanging(path, **kwargs):
        if str(path) == str(tmp_path / "store"):
            hung.set()
            go_on.wait(10)
        return realpath(path, **kwargs)

    monkeypatch.setattr(own.os.path, "realpath", hanging)
    monkeypatch.setattr(own, "ANSWER_S", 0.5)

    async def scenario(engine):
        path = yoga.file("f", b"f")
        pushing = asyncio.ensure_future(call(engine, "push", paths=[path], totals=totals))
        while not hung.is_set():
            await asyncio.sleep(0.01)
        assert "pid" in await call(engine, "engine")
        assert not pushing.done()
        with pytest.raises(StoreAway, match="did not answer"):
            await pushing
        go_on.set()
        assert (await call(engine, "push", paths=[path], totals=totals))["files"] == 1

    yoga.run(scenario)


def test_they_are_the_folders_and_the_store(yoga, tmp_path):
    async def scenario(engine):
        return await own.find_own_folders(engine.env, engine.config, engine.paths.home)

    found = yoga.run(scenario)
    home = tmp_path / "yoga" / "home"
    assert found[str(tmp_path / "store")] == "is the fleet's store"
    assert {str(home / name) for name in ("config", "state", "cache")} <= found.keys()
