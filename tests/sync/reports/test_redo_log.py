"""What is told of a redo log that cannot be read, and of what was set aside because of one that was damaged."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from treekit import Fleet, Machine

from sync.machines.ask import NOBODY
from sync.machines.doctor import Finding, examine
from sync.reports.state import LocalState
from sync.reports.status import status
from sync.state.home import FleetConfig, Home
from sync.state.settings import Settings
from sync.state.tree import reader as reader_module
from sync.state.tree.redo import Contents, log_path, read_whole


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Machine]:
    with closing(Fleet(tmp_path)) as fleet:
        made = fleet.machine("yoga")
        made.paths.save(
            FleetConfig(
                fleet_id=made.paths.fleet_id,
                name="default",
                store_url=f"file://{tmp_path}/store",
                machine_id=made.machine_id,
                machine_name="yoga",
            )
        )
        yield made


def said(yoga: Machine) -> dict[str, object]:
    with closing(LocalState(yoga.engine_env, yoga.paths)) as state:
        return status(state, [], NOBODY)


def findings(yoga: Machine) -> list[Finding]:
    home = Home.from_environ({"TCFS_HOME": str(yoga.paths.state_dir.parent.parent)})
    found = asyncio.run(examine(yoga.engine_env, home, Settings.load(home, {})))
    return [item for item in found if item.subject == "changes"]


@pytest.mark.logs_trouble
def test_what_was_set_aside_is_named_until_it_is_removed(yoga: Machine) -> None:
    yoga.write("a", b"one")
    yoga.cycle()
    assert said(yoga)["safe"] is True
    yoga.write("a", b"two")
    yoga.write("b", b"three")
    yoga.tree.abandon()
    log = log_path(yoga.paths.tree_db)
    with log.open("r+b") as file:
        file.seek(30)
        file.write(b"\xff\xff")
    assert "damaged at byte 0" in str(said(yoga)["log_trouble"])
    assert "damaged at byte 0" in findings(yoga)[0].message
    yoga.restart()
    (folder,) = yoga.paths.state_dir.glob("set-aside-*")
    told = said(yoga)
    assert (told["log_trouble"], told["set_aside"], told["unsafe"], told["safe"]) == ("", [str(folder)], [], False)
    (finding,) = findings(yoga)
    assert str(folder) in finding.message and "remove it" in finding.remedy
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert said(yoga)["safe"] is True
    assert findings(yoga) == []


def test_a_log_that_cannot_be_read_is_named_and_the_rest_is_told(yoga: Machine) -> None:
    yoga.write("a", b"one")
    yoga.tree.overlay.commit()
    yoga.tree.abandon()
    log = log_path(yoga.paths.tree_db)
    log.unlink()
    log.mkdir()
    told = said(yoga)
    assert "cannot be read" in str(told["log_trouble"]) and told["safe"] is False
    assert [item["path"] for item in told["unsafe"]] == ["a"]  # type: ignore[attr-defined]
    with closing(LocalState(yoga.engine_env, yoga.paths)) as state:
        assert (state.is_here("a"), state.is_here("b")) == (True, False)
    assert "cannot be read" in findings(yoga)[0].message
    log.rmdir()
    yoga.restart()


def test_a_log_that_is_being_written_is_not_called_damaged(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount commits and begins it anew between two looks of status: behind the new record old ones stand."""
    for name in ("a", "b", "c"):
        yoga.write(name, b"1")
    original = Path.read_bytes

    def meanwhile(path: Path) -> bytes:
        yoga.tree.overlay.commit()
        yoga.write("d", b"1")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    with closing(LocalState(yoga.engine_env, yoga.paths)) as state:
        assert state.tree.pass_over_log() == ""


def test_a_mount_that_was_writing_in_that_moment_is_no_damage(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records come page by page to who reads meanwhile: one may be half there, and the next one whole."""
    seen = [Contents([], "damaged at byte 4000")]
    monkeypatch.setattr(reader_module, "read_whole", lambda *of: seen.pop() if seen else read_whole(*of))
    yoga.write("a", b"one")
    assert said(yoga)["log_trouble"] == ""
    assert not seen
