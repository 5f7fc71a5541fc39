"""Serving a mount: mount, run the request loop and what goes on beside it, unmount, seal."""

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyfuse3
import trio
from blake3 import blake3

from fs import loop, mountpoint, takeover
from fs.adapter import Adapter
from fs.client import Callbacks, Client
from fs.hydrate.cache import CachedContent
from fs.hydrate.callers import Callers
from fs.hydrate.eager import Eager
from fs.hydrate.reader import VersionReader
from fs.latency import LightSleep, bearable_us
from fs.name_service import NameService
from fs.ops.volume import Volume
from fs.options import Options
from fs.tasks.tasks import Tasks
from fs.tasks.telling import Teller
from fs.tree.kernel import Invalidations
from fs.tree.tree import Tree
from fs.waker import Waker
from sync.core.keys import Keys
from sync.env import Env
from sync.ipc import frames
from sync.state.migrate import schema_version
from sync.state.policies import PolicyFile
from sync.state.tree.database import tree_schema
from sync.state.view import FLEET_PACKAGE, ShownView

MAX_TASKS = 500  # requests in flight: so many readers may wait for the network before anybody else has to
STOP_S = 2.0  # what still waits for the network when the mount ends is given up after this
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger(__name__)


def serve(env: Env, options: Options) -> None:
    """Mount and serve until it ends. TcfsError if it cannot be mounted, or if a database cannot be read."""
    paths = options.paths
    view = ShownView(env, paths.fleet_db)
    try:
        keys = Keys.from_root(paths.read_key())
        cached = CachedContent(paths.cache_dir, lambda data: blake3(data, key=keys.chunk_id).digest())
        reader = VersionReader(view, cached)
        uid, gid = options.config.uid, options.config.gid
        tree = Tree.load(
            env,
            paths,
            uid=os.geteuid() if uid is None else uid,
            gid=os.getegid() if gid is None else gid,
            view=view,
            sync_git=options.sync_git,
            owner_names=NameService(env.monotonic).names if options.sync_ownership else None,
        )
        try:
            invalidations = Invalidations(pyfuse3, tree.is_known)
            callbacks = Callbacks()
            client = Client(lambda: paths.socket_path, lambda: _hello(options, view), callbacks, daemon=options.daemon)
            volume = Volume(env, tree, reader, client, invalidations, view.epoch)
            volume.callers = Callers(options.no_hydrate)
            tree.state.is_local = reader.is_local
            _mount(env, options, volume, callbacks)
        finally:
            tree.close()
            cached.drop_descriptors()
    finally:
        view.close()


def _mount(env: Env, options: Options, volume: Volume, callbacks: Callbacks) -> None:
    """Mount, run the request loop, unmount."""
    quick = loop.install(env)
    adapter = Adapter(volume, kernel_caches=options.kernel_caches)
    volume.eager = Eager(is_off=not options.kernel_caches)
    with contextlib.ExitStack() as mounted:
        # Until _stop_on_signal listens: the default action would leave a dead mount point.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        _attach(adapter, options.mountpoint, mounted)
        _leave_the_starter(options.log_file)
        gc.freeze()
        log.info("mounted at %s", options.mountpoint)
        trio.run(_run, options, adapter, volume, callbacks, quick, mounted)


def _attach(adapter: Adapter, place: Path, mounted: contextlib.ExitStack) -> None:
    """Mount; leaving `mounted` unmounts."""
    fuse = takeover.take_place(place) if mountpoint.is_dead(place) else None
    if fuse is None:
        with mountpoint.hides_nothing(place):
            pyfuse3.init(adapter, str(place), mount_options())
            mounted.callback(pyfuse3.close, unmount=True)
        return
    log.warning("%s held a mount whose process has died: this one has taken its place", place)
    mounted.callback(_take_away, place, mountpoint.device_of(place))
    pyfuse3.init(adapter, f"/dev/fd/{fuse}", mount_options())
    mounted.callback(pyfuse3.close, unmount=False)


def _take_away(place: Path, device: str | None) -> None:
    """Unmount what libfuse did not mount, unless somebody has done so."""
    if device is not None and mountpoint.device_of(place) == device:
        takeover.detach(place)


async def _run(
    options: Options,
    adapter: Adapter,
    volume: Volume,
    callbacks: Callbacks,
    quick: loop.QuickTrio | None,
    mounted: contextlib.ExitStack,
) -> None:
    """Serve until somebody ends the mount; leaves `mounted`, then seals."""
    requests = trio.CancelScope()
    loop_ended = trio.Event()

    def stop() -> None:
        """End the request loop; what still waits after a moment is given up."""
        requests.deadline = trio.current_time() + STOP_S
        volume.dropping.end(terminate)

    def terminate() -> None:
        if not loop_ended.is_set():  # behind it libfuse has no session any more
            pyfuse3.terminate()

    tasks = Tasks(volume, stop, PolicyFile(options.paths.policies_toml))
    tasks.follower.policy_moved()
    volume.on_change = tasks.saver.changed
    callbacks.feed_moved = callbacks.taken_moved = tasks.follower.look_soon
    callbacks.policy_moved = tasks.follower.policy_moved
    callbacks.content_moved = tasks.follower.content_moved
    callbacks.seal_now = tasks.sealer.seal_now
    callbacks.written = volume.reader.cached.trust
    callbacks.connected = tasks.connected
    waker = _waker(options, volume, tasks.teller)
    initialised = trio.Event()
    adapter.on_init = initialised.set
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, stop)
        nursery.start_soon(_tune, options.mountpoint, initialised)
        nursery.start_soon(volume.client.run)
        nursery.start_soon(tasks.run)
        if quick is not None and options.low_latency and (microseconds := bearable_us()) is not None:
            light_sleep = LightSleep(quick.lowlevel, volume.env.monotonic, microseconds)
            tasks.saver.on_stream = light_sleep.streams
            nursery.start_soon(light_sleep.run)
        if waker is not None:
            tasks.follower.watched = waker.add
            nursery.start_soon(waker.run)
        with requests:
            await pyfuse3.main(min_tasks=1, max_tasks=MAX_TASKS)
        loop_ended.set()
        if quick is not None and not quick.was_reached:
            log.warning("pyfuse3 did not use the quick request loop")
        # First the mount goes, so that nothing changes any more; then all that is closed is sealed.
        mounted.close()
        await tasks.finish()
        nursery.cancel_scope.cancel()
    log.info("unmounted")


def _waker(options: Options, volume: Volume, teller: Teller) -> Waker | None:
    """None where nobody can be woken: no other system has inotify."""
    device = mountpoint.device_of(options.mountpoint) if sys.platform == "linux" else None
    return None if device is None else Waker(volume, options.mountpoint, device, teller.tell, teller.tell_now)


async def _tune(place: Path, initialised: trio.Event) -> None:
    """The answer to the kernel's first request sets its limits back to what they were, so they are raised after it."""
    await initialised.wait()
    await trio.lowlevel.checkpoint()
    mountpoint.tune(place)


async def _stop_on_signal(
    stop: Callable[[], None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*ENDING) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        task_status.started()
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            stop()


def mount_options() -> set[str]:
    """The kernel checks permissions. No auto_unmount: after a kill -9 the dead mount answers ENOTCONN until a new one
    takes its place; into the bare folder programs would go on writing, outside of the fleet.
    """
    options = set(pyfuse3.default_options)
    options |= {"fsname=tcfs", "subtype=tcfs"}
    if os.geteuid() == 0:
        options.add("allow_other")
    return options


def _hello(options: Options, view: ShownView) -> frames.Hello:
    return frames.Hello(
        "mount",
        fleet_schema=schema_version(FLEET_PACKAGE),
        tree_schema=tree_schema(),
        pid=os.getpid(),
        mountpoint=str(options.mountpoint),
        fleet_epoch=view.epoch,
    )


def _leave_the_starter(log_file: Path) -> None:
    """Hold nothing of whoever started us: session, terminal, pipe, folder. What libraries print goes to the log."""
    os.chdir("/")
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(PermissionError):  # a process group's leader stays where it is
            os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    text = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for fd, target in ((0, null), (1, text), (2, text)):
        os.dup2(target, fd)
    os.close(null)
    os.close(text)
    faulthandler.enable()
