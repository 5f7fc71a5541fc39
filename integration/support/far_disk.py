"""A disk that may stop answering: `python far_disk.py FOLDER MOUNTPOINT` shows FOLDER at MOUNTPOINT, until SIGTERM.

While it is stopped (SIGSTOP) whoever asks for anything below MOUNTPOINT waits, as for a network file system whose
server is gone; when it is killed they get ENOTCONN. No caching, and only what a store needs.
"""

import errno
import os
import signal
import sys

import pyfuse3
import trio
from pyfuse3 import FUSEError


class FarDisk(pyfuse3.Operations):
    supports_dot_lookup = False

    def __init__(self, root):
        super().__init__()
        self._paths = {pyfuse3.ROOT_INODE: os.fsencode(root)}
        self._folders = {}

    def _entry(self, path):
        found = os.lstat(path)
        self._paths[found.st_ino] = path
        entry = pyfuse3.EntryAttributes()
        for name in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_ctime_ns"):
            setattr(entry, name, getattr(found, name))
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    def _below(self, inode, name):
        return os.path.join(self._paths[inode], name)

    async def lookup(self, parent_inode, name, ctx):
        return self._entry(self._below(parent_inode, name))

    async def getattr(self, inode, ctx):
        entry = self._entry(self._paths[inode])
        entry.st_ino = inode
        return entry

    async def setattr(self, inode, attr, fields, fh, ctx):
        path = self._paths[inode]
        if fields.update_mode:
            os.chmod(path, attr.st_mode & 0o7777)
        if fields.update_size:
            os.truncate(path, attr.st_size)
        if fields.update_mtime:
            os.utime(path, ns=(attr.st_atime_ns, attr.st_mtime_ns))
        return await self.getattr(inode, ctx)

    async def mkdir(self, parent_inode, name, mode, ctx):
        path = self._below(parent_inode, name)
        os.mkdir(path, mode & 0o7777)
        return self._entry(path)

    async def unlink(self, parent_inode, name, ctx):
        os.unlink(self._below(parent_inode, name))

    async def rmdir(self, parent_inode, name, ctx):
        os.rmdir(self._below(parent_inode, name))

    async def rename(self, parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx):
        old, new = self._below(parent_inode_old, name_old), self._below(parent_inode_new, name_new)
        os.rename(old, new)
        self._paths[os.lstat(new).st_ino] = new

    async def link(self, inode, new_parent_inode, new_name, ctx):
        new = self._below(new_parent_inode, new_name)
        os.link(self._paths[inode], new)
        return self._entry(new)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=os.open(self._paths[inode], flags & ~os.O_CREAT), direct_io=True)

    async def create(self, parent_inode, name, mode, flags, ctx):
        path = self._below(parent_inode, name)
        handle = os.open(path, flags | os.O_CREAT, mode & 0o7777)
        return pyfuse3.FileInfo(fh=handle, direct_io=True), self._entry(path)

    async def read(self, fh, off, size):
        return os.pread(fh, size, off)

    async def write(self, fh, off, buf):
        return os.pwrite(fh, buf, off)

    async def flush(self, fh):
        pass

    async def fsync(self, fh, datasync):
        pass

    async def fsyncdir(self, fh, datasync):
        pass

    async def release(self, fh):
        os.close(fh)

    async def opendir(self, inode, ctx):
        self._folders[inode] = sorted(os.listdir(self._paths[inode]))
        return inode

    async def readdir(self, fh, start_id, token):
        for number, name in enumerate(self._folders[fh][start_id:], start_id + 1):
            try:
                entry = self._entry(self._below(fh, name))
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, name, entry, number):
                break

    async def releasedir(self, fh):
        pass

    async def statfs(self, ctx):
        disk, data = os.statvfs(self._paths[pyfuse3.ROOT_INODE]), pyfuse3.StatvfsData()
        for field in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(data, field, getattr(disk, field))
        data.f_namemax = 255
        return data

    async def forget(self, inode_list):
        pass


def _guarded(handler):
    async def guarded(self, *args):
        try:
            return await handler(self, *args)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except KeyError:
            raise FUSEError(errno.ESTALE) from None

    return guarded


for _name, _handler in list(vars(FarDisk).items()):
    if callable(_handler) and not _name.startswith("_") and _name != "forget":
        setattr(FarDisk, _name, _guarded(_handler))


async def run():
    async def stop():
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                pyfuse3.terminate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    pyfuse3.init(FarDisk(sys.argv[1]), sys.argv[2], {*pyfuse3.default_options, "fsname=far"})
    try:
        trio.run(run)
    finally:
        pyfuse3.close()
