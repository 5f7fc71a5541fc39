"""Fifos, sockets and device nodes in a real mount: usable, local, kept, and told by status."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from fleetkit import FUSE, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")


def talk_through_a_fifo(path: Path) -> bytes:
    writer = threading.Thread(target=lambda: path.write_bytes(b"through the pipe"), daemon=True)
    writer.start()
    with path.open("rb") as reader:
        return reader.read()


def talk_through_a_socket(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.settimeout(20)
        server.bind(str(path))
        server.listen()
        client.connect(str(path))
        client.sendall(b"through the socket")
        connection, _ = server.accept()
        with connection:
            return connection.recv(100)


def test_special_files(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        top = yoga.mountpoint / "d"
        top.mkdir()
        (top / "plain").write_bytes(b"plain")
        os.mkfifo(top / "fifo", 0o620)
        assert stat.S_ISFIFO((top / "fifo").stat().st_mode)
        assert talk_through_a_fifo(top / "fifo") == b"through the pipe"
        assert talk_through_a_socket(top / "socket") == b"through the socket"
        assert stat.S_ISSOCK((top / "socket").stat().st_mode)
        names = ["d/fifo", "d/socket"]
        if os.geteuid() == 0:
            os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            found = (top / "null").stat()
            assert stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)
            with pytest.raises(PermissionError) as refused:
                (top / "null").read_bytes()
            assert refused.value.errno == errno.EACCES
            names.insert(1, "d/null")
        (top / "fifo").chmod(0o600)
        os.utime(top / "fifo", ns=(1, 2_000_000_000))
        before = {path.name: path.stat() for path in sorted(top.iterdir())}

        yoga.run("wait", timeout=60)
        status = yoga.data("status")
        assert status["safe"] and sorted(status["special"]) == names and status["local_only"] == []
        assert "kept on this machine only (pipes, sockets, devices)" in yoga.run("status").stdout
        assert set(yoga.run("status", "-s", "d").stdout.splitlines()) >= {f"x {name}" for name in names}
        for name in names:
            with pytest.raises(OSError) as unknown:
                os.getxattr(yoga.mountpoint / name, "user.tcfs.state")
            assert unknown.value.errno == errno.ENODATA
        poll(lambda: (bates.mountpoint / "d" / "plain").exists(), 30, "the plain file elsewhere")
        assert os.listdir(bates.mountpoint / "d") == ["plain"]

        yoga.kill()  # both processes, as by SIGKILL
        yoga.up()
        after = {path.name: path.stat() for path in sorted(top.iterdir())}
        for name, old in before.items():
            new = after[name]
            assert (new.st_mode, new.st_rdev, new.st_ino, new.st_mtime_ns, new.st_nlink) == (
                old.st_mode, old.st_rdev, old.st_ino, old.st_mtime_ns, 1,
            ), name  # fmt: skip
        assert talk_through_a_fifo(top / "fifo") == b"through the pipe"

        subprocess.run(["mv", top, yoga.mountpoint / "e"], check=True)
        subprocess.run(["cp", "-a", yoga.mountpoint / "e", yoga.mountpoint / "copy"], check=True)
        assert stat.S_ISFIFO((yoga.mountpoint / "copy" / "fifo").stat().st_mode)
        subprocess.run(["mv", yoga.mountpoint / "copy" / "fifo", yoga.mountpoint / "e" / "plain"], check=True)
        yoga.run("wait", timeout=60)
        there = bates.mountpoint / "e"
        poll(lambda: there.exists() and os.listdir(there) == [], 30, "the removal of the file under the fifo")
        shutil.rmtree(yoga.mountpoint / "e")
        shutil.rmtree(yoga.mountpoint / "copy")
        yoga.run("wait", timeout=60)
        poll(lambda: os.listdir(bates.mountpoint) == [], 30, "the removal of all")
        assert yoga.data("status")["special"] == []
        yoga.fsck()
