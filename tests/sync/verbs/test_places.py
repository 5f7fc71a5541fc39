import asyncio
import os
import threading

import pytest
from enginekit import Machine, call

from sync.core.errors import Unavailable
from sync.machines import mounts
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
    lstat, hung, go_on = os.lstat, threading.Event(), threading.Event()

    def hanging(path, **kwargs):
        if str(path).startswith("/far"):
            hung.set()
            go_on.wait(10)
        return lstat(path, **kwargs)

    monkeypatch.setattr(mounts.os, "lstat", hanging)
    monkeypatch.setattr(places, "ANSWER_S", 0.5)

    async def scenario(engine):
        await call(engine, "push", paths=[yoga.file("f", b"f")])
        asking = asyncio.ensure_future(call(engine, verb, **args))
        while not hung.is_set():
            await asyncio.sleep(0.01)
        assert "pid" in await call(engine, "engine")
        assert not asking.done()
        with pytest.raises(Unavailable, match="did not answer within"):
            await asking
        go_on.set()

    yoga.run(scenario)
