"""What status tells of that which stays on this machine."""

from contextlib import closing

import pytest
from treekit import Fleet

from cli.render import SHOWN_MAX
from cli.status import _lines
from fs.tree.model import DIR, ROOT_ID
from sync.machines.ask import NOBODY
from sync.reports.state import LocalState
from sync.reports.status import kept_here, status
from sync.state.home import FleetConfig


@pytest.fixture
def yoga(tmp_path):
    with closing(Fleet(tmp_path)) as fleet:
        made = fleet.machine("yoga")
        config = FleetConfig(
            fleet_id=made.paths.fleet_id,
            name="default",
            store_url="file:///x",
            machine_id=made.machine_id,
            machine_name="yoga",
        )
        made.paths.save(config)
        yield made


def test_a_path_that_is_too_long_is_not_called_ignored(yoga):
    folder = ROOT_ID
    for _ in range(22):
        folder = yoga.tree.create(folder, "d" * 200, DIR, 0o755, 0, 0).ino
    yoga.cycle()
    yoga.write("notes.swp", b"of an editor")
    yoga.tree.overlay.commit(full=True)
    with closing(LocalState(yoga.engine_env, yoga.paths)) as state:
        data = status(state, [], NOBODY)
        kept = kept_here(state.tree, state.view.path_of, [])
    assert data["local_only"] == ["notes.swp"]
    (long,) = data["too_long"]
    assert len(long) > 4096
    assert kept == [(long, "has too long a path"), ("notes.swp", "stays on this machine by its name")]
    lines = _lines(data)
    assert "1 path kept on this machine only (path too long):" in lines
    assert "1 path kept on this machine only (ignored):" in lines
    assert max(map(len, lines)) == SHOWN_MAX + 2
    assert any(line.startswith("  dddd") and "…" in line for line in lines)
