"""tcfs watch as a program uses it: a line an event, at once, over restarts of the daemon, until it is interrupted."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")


def not_deaf() -> None:
    """What a shell starts in the background ignores SIGINT, and so does all that it starts: these tests, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Watch:
    """`tcfs watch --json` of a machine, its output read line by line from a pipe."""

    def __init__(self, machine: Machine, *args: str) -> None:
        self._process = subprocess.Popen(
            [str(Path(sys.executable).parent / "tcfs"), "watch", "--json", *args],
            env={**os.environ, "TCFS_HOME": str(machine.home)},
            cwd="/",
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            preexec_fn=not_deaf,
        )
        self._buffer = b""

    def next(self, seconds: float = 20.0) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._process.stdout], [], [], left)[0], "no event"
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, "it has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        return event

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


def brief(event: dict[str, Any]) -> tuple[str, str, str]:
    return event["event"], event["path"], event["machine"]


def test_events_over_a_restart_of_the_daemon(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        watch = Watch(yoga)
        try:
            assert watch.next()["event"] == "start"
            (bates.mountpoint / "a").write_text("one")
            event = watch.next()
            assert brief(event) == ("create", "a", "bates")
            assert event["kind"] == "file" and event["version"].startswith("bates:")
            (yoga.mountpoint / "b").write_text("two")
            assert brief(watch.next()) == ("create", "b", "yoga")
            (daemon,) = yoga.pids("tcfsd")
            os.kill(daemon, signal.SIGKILL)
            poll(lambda: yoga.pids("tcfsd") not in ([], [daemon]), 20, "another daemon")
            (bates.mountpoint / "a").rename(bates.mountpoint / "c")
            event = watch.next(30)
            assert (*brief(event), event.get("from")) == ("move", "c", "bates", "a")
            (bates.mountpoint / "c").unlink()
            assert brief(watch.next()) == ("delete", "c", "bates")
        finally:
            code = watch.interrupt()
        assert code == 0
        again = Watch(yoga, "--since", "0")
        try:
            assert again.next() == {"event": "start", "cursor": 0}
            assert brief(again.next()) == ("create", "b", "yoga")
        finally:
            again.interrupt()
