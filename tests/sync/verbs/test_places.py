import os

import pytest
from enginekit import Hanging, Machine, call

from sync.core.errors import Unavailable
from sync.verbs import places


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    yield machine
    machine.close()


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("push", {"paths": ["/far/f"]}),
        ("pull", {"remote": "f", "local": "/far/f"}),
        ("hydrate", {"paths": ["/far/f"]}),
        ("wait", {"path": "f", "cwd": "/far"}),
        ("cp", {"sources": ["f"], "target": "/far/f"}),
    ],
)
def test_a_path_on_a_disk_that_hangs_keeps_only_its_verb_waiting(yoga, monkeypatch, verb, args):
    disk = Hanging(monkeypatch, os, "lstat", lambda path: path.startswith("/far"))
    monkeypatch.setattr(places, "ANSWER_S", 0.5)

    async def scenario(engine):
        await call(engine, "push", paths=[yoga.file("f", b"f")])
        error = await disk.is_given_up(engine, verb, **args)
        assert isinstance(error, Unavailable) and "did not answer within" in error.message
        disk.go_on()

    yoga.run(scenario)
