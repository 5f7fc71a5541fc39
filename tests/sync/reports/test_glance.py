"""tcfs status -s agrees with the mount, which it does not need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from treekit import Fleet, Machine

from fs.tree.seen import seen as seen_of
from sync.core.filestate import FileState
from sync.core.policy import Policies
from sync.machines.ask import NOBODY
from sync.reports.glance import Glance, glance
from sync.reports.state import LocalState
from sync.reports.status import unsafe_here
from sync.state.home import FleetConfig
from sync.state.policies import PolicyFile
from sync.state.rows import DIR, ROOT_ID


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    made = fleet.machine("yoga")
    made.paths.save(
        FleetConfig(
            fleet_id=made.paths.fleet_id,
            name="default",
            store_url="file:///x",
            machine_id=made.machine_id,
            machine_name="yoga",
        )
    )
    return made


@pytest.fixture
def bates(fleet: Fleet) -> Machine:
    return fleet.machine("bates")


def seen(machine: Machine, *places: str) -> list[Glance]:
    machine.tree.overlay.commit()
    state = LocalState(machine.engine_env, machine.paths)
    try:
        return list(glance(state, list(places), unsafe_here(state, NOBODY)))
    finally:
        state.close()


def states(machine: Machine, *places: str) -> dict[str, str]:
    found = seen(machine, *places)
    assert len({item.path for item in found}) == len(found)
    return {item.path: "removed" if item.removed else item.state.value for item in found}


def learn(machine: Machine) -> None:
    machine.learn()
    machine.note()


def cache(machine: Machine, data: bytes) -> None:
    chunk = machine.fleet.content_of(data).content_id
    path = machine.paths.cache_dir / "chunks" / chunk[:2] / chunk
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_everything_there_is(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    for path in ("d/near", "d/far", "d/gone", "empty", "z"):
        bates.write(path, path.encode() if path != "empty" else b"")
    bates.symlink("d/link", "near")
    bates.cycle()
    learn(yoga)
    cache(yoga, b"d/near")
    yoga.write("d/new", b"x")
    yoga.write("d/.new.swp", b"x")
    yoga.write("z", b"changed")
    yoga.unlink("d/gone")
    yoga.mkdir("made")
    expected = {
        "d/.new.swp": "excluded",
        "d/far": "online-only",
        "d/gone": "removed",
        "d/link": "local",
        "d/near": "local",
        "d/new": "dirty",
        "empty": "local",
        "made/": "dirty",
        "z": "dirty",
    }
    assert states(yoga) == expected
    assert states(yoga, "d") == {path: state for path, state in expected.items() if path.startswith("d/")}
    assert states(yoga, "d/far", "z") == {"d/far": "online-only", "z": "dirty"}
    assert states(yoga, "d/gone") == {"d/gone": "removed"}
    yoga.cycle()
    assert set(states(yoga).values()) == {"local", "online-only", "excluded"}


def test_in_the_order_of_the_tree(yoga: Machine, bates: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.reports.glance.PAGE", 3)
    names = [f"{n:02d}" for n in range(20)]
    for name in names[::2]:
        bates.write(name, b"x")
    bates.cycle()
    learn(yoga)
    for name in names[1::2]:
        yoga.write(name, b"x")
    assert [item.path for item in seen(yoga)] == names


def test_a_renamed_folder_is_seen_where_it_stands(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("old")
    bates.write("old/a", b"x")
    bates.cycle()
    learn(yoga)
    yoga.rename("old", "new")
    found = states(yoga)
    assert "new/a" in found and "old/a" not in found
    yoga.cycle()
    assert states(yoga) == {"new/a": "online-only"}


def test_a_deep_tree(yoga: Machine) -> None:
    parent = ROOT_ID
    for _ in range(1500):
        parent = yoga.tree.create(parent, "d", DIR, 0o755, 0, 0).ino
    deepest = "d/" * 1500
    assert [item.path for item in seen(yoga)][-1] == deepest


def test_a_conflict(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.write("a", b"ours")
    yoga.cycle()
    learn(yoga)
    assert states(yoga) == {"a": "conflict", "a.bates.conflict": "conflict"}
    yoga.unlink("a.bates.conflict")
    assert states(yoga)["a"] == "dirty"
    yoga.cycle()
    assert states(yoga) == {"a": "local"}


def test_what_is_pinned(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    for path in ("d/near", "d/far", "near"):
        bates.write(path, path.encode())
    bates.cycle()
    learn(yoga)
    cache(yoga, b"d/near")
    cache(yoga, b"near")
    PolicyFile(yoga.paths.policies_toml).write(Policies().pinned("d"))
    assert states(yoga) == {"d/far": "online-only", "d/near": "pinned", "near": "local"}


def test_the_mount_says_the_same(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    bates.cycle()
    learn(yoga)
    yoga.write("b", b"two")
    yoga.write(".c.swp", b"x")
    found = states(yoga)
    for path, state in found.items():
        facts = seen_of(yoga.tree.state, yoga.ino(path)).facts
        assert facts.is_dirty == (state == FileState.DIRTY)
        assert facts.is_excluded == (state == FileState.EXCLUDED)
