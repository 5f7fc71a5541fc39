"""A fleet of machines without a store, checked at the end of each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from powerkit import Disk
from treekit import Fleet, Machine


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as made:
        yield made


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def bates(fleet: Fleet, yoga: Machine) -> Machine:
    return fleet.machine("bates")


@pytest.fixture
def disk(yoga: Machine, tmp_path: Path) -> Disk:
    return Disk(yoga, tmp_path / "disk")
