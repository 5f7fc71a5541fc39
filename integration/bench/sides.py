"""Who is measured beside whom: each side is a folder to work in, and the same content again, cold.

Cold is what a program meets on a machine that has just mounted: an empty local cache, and nothing in the page cache.
weed and juicefs are for measuring only; scripts/bench --peers installs them beside the project's own environment.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from common import put_away
from fleetkit import Machine, poll

READY_S = 60.0
SERVER_ENV = {"GOMEMLIMIT": "512MiB"}  # else the server takes more than a gigabyte


def drop_page_cache() -> None:
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except PermissionError:
        print("  not root: the page cache stays, so no row is really cold", file=sys.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Side(ABC):
    """`root` is where to write. settle() returns when everything is where it is kept for good."""

    name: str

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base

    @abstractmethod
    def __enter__(self) -> "Side": ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    def settle(self) -> None:
        os.sync()

    @abstractmethod
    def cold(self) -> Path:
        """The same content, on a new mount with an empty cache; the page cache is dropped."""


class Ext4(Side):
    name = "ext4"

    def __enter__(self) -> "Ext4":
        self.root = self.base / "ext4"
        self.root.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cold(self) -> Path:
        drop_page_cache()
        return self.root


class Bindfs(Side):
    name = "bindfs"

    def __enter__(self) -> "Bindfs":
        self.source, self.root = self.base / "bindsource", self.base / "bind"
        self.source.mkdir()
        self.root.mkdir()
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.root)

    def cold(self) -> Path:
        unmount(self.root)
        drop_page_cache()
        self._mount()
        return self.root

    def _mount(self) -> None:
        subprocess.run(["bindfs", self.source, self.root], check=True, stdout=subprocess.DEVNULL)


class Passthrough(Side):
    """The pass-through example that comes with pyfuse3, as it is: what Python and FUSE cost without anything else."""

    name = "pyfuse3"

    def __enter__(self) -> "Passthrough":
        self.source, self.root = self.base / "passsource", self.base / "pass"
        self.source.mkdir()
        self.root.mkdir()
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()

    def cold(self) -> Path:
        self._unmount()
        drop_page_cache()
        self._mount()
        return self.root

    def _mount(self) -> None:
        self.mount = start(sys.executable, str(passthrough()), str(self.source), str(self.root))
        poll(lambda: os.path.ismount(self.root), READY_S, "the example's mount")

    def _unmount(self) -> None:
        unmount(self.root)
        end(self.mount)


def passthrough() -> Path | None:
    """The example's program, where scripts/bench has put it."""
    place = os.environ.get("TCFS_BENCH_PASSTHROUGH")
    return Path(place) if place and Path(place).is_file() else None


def _entries(root: Path) -> int:
    """How many files and folders lie below."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(root))


class Tcfs(Side):
    """yoga writes; bates, which has everything but the content, reads cold."""

    name = "tcfs"

    def __enter__(self) -> "Tcfs":
        self.yoga, self.bates = Machine(self.base / "yoga", "yoga"), Machine(self.base / "bates", "bates")
        self.yoga.init(self.base / "store")
        self.bates.init(self.base / "store", key_from=self.yoga)
        self.yoga.up()
        self.root = self.yoga.mountpoint
        return self

    def __exit__(self, *_: object) -> None:
        self.yoga.destroy()
        self.bates.destroy()

    def settle(self) -> None:
        self.yoga.run("wait", timeout=600)

    def cold(self) -> Path:
        self.bates.up()
        count = _entries(self.root)
        poll(lambda: _entries(self.bates.mountpoint) == count, READY_S, "the same tree on bates")
        self.bates.run("down", expect=None)
        put_away(self.bates.home / "cache")
        drop_page_cache()
        self.bates.up()
        return self.bates.mountpoint


class Juicefs(Side):
    """Metadata in SQLite, objects in a folder of this disk."""

    name = "juicefs"

    def __enter__(self) -> "Juicefs":
        self.root, self.cache = self.base / "juicefs", self.base / "juicecache"
        self.root.mkdir()
        self.meta = f"sqlite3://{self.base}/juice.db"
        quietly("juicefs", "format", *self._storage(), self.meta, "bench")
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()

    def cold(self) -> Path:
        self._unmount()
        put_away(self.cache)
        drop_page_cache()
        self._mount()
        return self.root

    def _storage(self) -> list[str]:
        return ["--storage", "file", "--bucket", f"{self.base}/juicestore/"]

    def _mount(self) -> None:
        quietly("juicefs", "mount", "-d", "--no-usage-report", "--cache-dir", self.cache, self.meta, self.root)
        poll(lambda: os.path.ismount(self.root), READY_S, "juicefs's mount")

    def _unmount(self) -> None:
        quietly("juicefs", "umount", self.root)
        poll(lambda: not os.path.ismount(self.root), READY_S, "juicefs's end")


class SeaweedServer:
    """SeaweedFS on the loopback. filer: its address as `weed mount` wants it; s3: the URL of the bucket's server."""

    KEY, SECRET = "bench", "bench-secret"

    def __init__(self, data: Path) -> None:
        data.mkdir()
        ports = [free_port() for _ in range(8)]
        self.filer, self.s3 = f"127.0.0.1:{ports[4]}.{ports[5]}", f"http://127.0.0.1:{ports[6]}"
        who = {"accessKey": self.KEY, "secretKey": self.SECRET}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        users = data / "s3.json"
        users.write_text(json.dumps({"identities": [{"name": "bench", "credentials": [who], "actions": actions}]}))
        self._process = start(
            *("weed", "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-master.telemetry=false", f"-master.port={ports[0]}", f"-master.port.grpc={ports[1]}"),
            *("-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false", "-master.electionTimeout=1s"),
            *("-master.heartbeatInterval=100ms", f"-volume.port={ports[2]}", f"-volume.port.grpc={ports[3]}"),
            *("-volume.max=200", "-volume.minFreeSpace=1", "-volume.preStopSeconds=0", "-filer"),
            *(f"-filer.port={ports[4]}", f"-filer.port.grpc={ports[5]}", f"-filer.localSocket={data}/filer.sock"),
            *("-s3", f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            f"-s3.config={users}",
        )
        try:
            poll(lambda: all(answers(port) for port in ports[4:7]), READY_S, "the filer and its S3 server")
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        end(self._process)


class JuicefsS3(Juicefs):
    """Metadata in SQLite, objects in SeaweedFS, on the same host."""

    name = "juicefs, S3"

    def __enter__(self) -> "JuicefsS3":
        self.server = SeaweedServer(self.base / "juiceweed")
        super().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.server.end()

    def _storage(self) -> list[str]:
        keys = ["--access-key", self.server.KEY, "--secret-key", self.server.SECRET]
        return ["--storage", "s3", "--bucket", f"{self.server.s3}/bench", *keys]


class Weed(Side):
    """SeaweedFS on the loopback, and its own mount."""

    name = "weed"

    def __enter__(self) -> "Weed":
        self.root, self.cache = self.base / "weed", self.base / "weedcache"
        for folder in (self.root, self.cache):
            folder.mkdir(exist_ok=True)
        self.server = SeaweedServer(self.base / "weeddata")
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()
        self.server.end()

    def cold(self) -> Path:
        self._unmount()
        put_away(self.cache)
        self.cache.mkdir()
        drop_page_cache()
        self._mount()
        return self.root

    def _mount(self) -> None:
        self.mount = start(
            "weed",
            "mount",
            f"-filer={self.server.filer}",
            f"-dir={self.root}",
            f"-cacheDir={self.cache}",
            "-filer.path=/",
        )
        poll(lambda: os.path.ismount(self.root), READY_S, "weed's mount")

    def _unmount(self) -> None:
        unmount(self.root)
        end(self.mount)


def sides(base: Path, *, peers: bool) -> Iterator[Side]:
    """Fresh ones below `base`: ext4 and tcfs always, the others where their programs are."""
    found: list[type[Side]] = [Ext4]
    found += [Bindfs] if shutil.which("bindfs") else []
    found += [Passthrough] if passthrough() is not None else []
    if peers:
        found += [Juicefs] if shutil.which("juicefs") else []
        found += [Weed] if shutil.which("weed") else []
        found += [JuicefsS3] if shutil.which("juicefs") and shutil.which("weed") else []
    for side in [*found, Tcfs]:
        base.mkdir()
        try:
            yield side(base)
        finally:
            put_away(base)


def quietly(*command: str | Path) -> None:
    subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **SERVER_ENV},
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL: SIGTERM takes such a server 20 s."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)


def unmount(where: Path) -> None:
    until = time.monotonic() + READY_S
    while os.path.ismount(where):
        subprocess.run(["fusermount3", "-u", str(where)], check=False, stderr=subprocess.DEVNULL)
        if time.monotonic() > until:
            raise TimeoutError(f"{where} stays mounted")
        time.sleep(0.1)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False
