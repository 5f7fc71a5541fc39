"""The smallest file system that shows the request loop: `python tiny_mount.py MOUNTPOINT`, until SIGTERM.

/f is a file of x's; /slow answers after 300 ms. At the end it prints how often the loop parked and how often not.
"""

import errno
import signal
import stat
import sys

import pyfuse3
import trio

from fs import loop
from sync.env import RealEnv


class Tiny(pyfuse3.Operations):
    supports_dot_lookup = False

    async def lookup(self, parent_inode, name, ctx):
        if name == b"slow":
            await trio.sleep(0.3)
        elif name != b"f":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return entry(2)

    async def getattr(self, inode, ctx):
        return entry(inode)

    async def forget(self, inode_list):
        pass

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=1, direct_io=True)

    async def read(self, fh, off, size):
        return b"x" * size

    async def flush(self, fh):
        pass

    async def release(self, fh):
        pass


def entry(inode):
    attr = pyfuse3.EntryAttributes()
    attr.st_ino = inode
    attr.st_mode = stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o644
    attr.entry_timeout = attr.attr_timeout = 0
    return attr


async def run(quick):
    async def stop():
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                pyfuse3.terminate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        await pyfuse3.main(min_tasks=1, max_tasks=50)
        nursery.cancel_scope.cancel()
    print("reached", quick.was_reached, "parked", quick.lowlevel.parked, "at once", quick.lowlevel.served_at_once)


if __name__ == "__main__":
    installed = loop.install(RealEnv())
    pyfuse3.init(Tiny(), sys.argv[1], {"fsname=tiny", "default_permissions", "auto_unmount"})
    try:
        trio.run(run, installed)
    finally:
        pyfuse3.close(unmount=True)
