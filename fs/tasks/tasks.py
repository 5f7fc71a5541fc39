"""All tasks of one volume, put together."""

import logging
from collections.abc import Callable

import trio

from fs.ops.volume import Volume
from fs.pace import Pace
from fs.tasks.following import Follower
from fs.tasks.reports import Reports
from fs.tasks.running import Complaints
from fs.tasks.saving import Saver
from fs.tasks.sealing import Sealer
from fs.tasks.telling import Teller
from sync.ipc import frames
from sync.state.policies import PolicyFile

log = logging.getLogger(__name__)


class Tasks:
    """The parts are for who has something for them; `run` runs the tasks of all."""

    def __init__(self, volume: Volume, stop: Callable[[], None], policies: PolicyFile) -> None:
        """stop: ends the mount, which is then started anew from outside."""
        st, client = volume.tree.state, volume.client
        pace = Pace(volume.env.monotonic)
        self._volume = volume
        self._stop = stop
        self._complaints = Complaints()
        self._reports = Reports(st, client, volume.reader, volume.refusals)
        self.teller = Teller(volume.invalidations, volume.recent)
        self.sealer = Sealer(st, client, pace, self._reports, self._complaints)
        self.saver = Saver(st, pace, self._committed)
        self.follower = Follower(
            volume,
            policies,
            pace,
            saver=self.saver,
            sealer=self.sealer,
            teller=self.teller,
            reports=self._reports,
            complaints=self._complaints,
        )

    def _committed(self) -> None:
        self._reports.say_trouble()
        self.sealer.look()

    def connected(self, hello: frames.Hello) -> None:
        """A new connection: whatever was said while there was none is said and read again."""
        if hello.fleet_epoch and hello.fleet_epoch != self._volume.fleet_epoch:
            log.error("fleet.db is another one than at the start: the mount starts anew")
            self._stop()
            return
        self._reports.connected()
        self.follower.look_soon()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for task in (
                self.saver.commit, self.saver.make_spares, self.saver.write_back, self.saver.tidy, self.sealer.seal,
                self.sealer.sync_large, self.follower.look, self.teller.tell_kernel, self._reports.report_used,
                self.saver.sync,
            ):  # fmt: skip
                nursery.start_soon(self._complaints.keep_running, task)

    async def finish(self) -> None:
        """Nothing is mounted any more: seal all that is closed, and say so."""
        try:
            await self.sealer.finish()
            await self.saver.finish()
        except Exception:
            log.exception("what was not sealed at the end is sealed at the next start")
        await self._volume.client.drain()
