import os

import pytest
from enginekit import Hanging, Machine, call

from sync.core.errors import StoreAway
from sync.machines import own


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    yield machine
    machine.close()


@pytest.mark.parametrize("totals", [False, True])
def test_a_store_whose_disk_hangs_keeps_only_the_push_waiting(yoga, tmp_path, monkeypatch, totals):
    disk = Hanging(monkeypatch, os.path, "realpath", str(tmp_path / "store").__eq__)
    monkeypatch.setattr(own, "ANSWER_S", 0.5)

    async def scenario(engine):
        path = yoga.file("f", b"f")
        error = await disk.is_given_up(engine, "push", paths=[path], totals=totals)
        assert isinstance(error, StoreAway) and "did not answer" in error.message
        disk.go_on()
        assert (await call(engine, "push", paths=[path], totals=totals))["files"] == 1

    yoga.run(scenario)


def test_they_are_the_folders_and_the_store(yoga, tmp_path):
    async def scenario(engine):
        return await own.find_own_folders(engine.env, engine.config, engine.paths.home)

    found = yoga.run(scenario)
    home = tmp_path / "yoga" / "home"
    assert found[str(tmp_path / "store")] == "is the fleet's store"
    assert {str(home / name) for name in ("config", "state", "cache")} <= found.keys()
