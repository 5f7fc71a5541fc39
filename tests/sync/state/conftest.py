"""A fleet.db in memory, of the machine yoga, checked at the end of each test; the journals of two machines."""

from collections.abc import Iterator

import pytest
from made_versions import Journal

from sync.env import FakeEnv
from sync.state.check import check
from sync.state.fleet import FleetDb


@pytest.fixture
def env() -> FakeEnv:
    return FakeEnv()


@pytest.fixture
def yoga() -> Journal:
    return Journal("yoga")


@pytest.fixture
def bates() -> Journal:
    return Journal("bates")


@pytest.fixture
def db(env: FakeEnv, yoga: Journal) -> Iterator[FleetDb]:
    database = FleetDb.create(env, ":memory:", "fleet", yoga.machine_id, "yoga")
    yield database
    problems = check(database)
    database.close()
    assert problems == []
