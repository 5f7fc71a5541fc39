"""The mount never hangs, and heals: deaths, suspensions, a store that does not answer, whoever holds it open."""

import contextlib
import errno
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from far_store import FarStore
from fleetkit import BIN, FUSE, Machine, fleet, poll, stays

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

BACK_S = 2.0  # what was killed answers again
LIFE_S = 1.1  # what has lived for so long is started again at once; what dies sooner, more and more slowly
LOCAL_S = 2.0  # what asks nobody takes less, on the slowest machine
HOLD = "import sys, mmap, os; {}; print('held', flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def yoga(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with fleet(tmp_path_factory.mktemp("heals"), "yoga") as (machine,):
        (machine.mountpoint / "f").write_text("content\n")
        machine.run("wait")
        yield machine


def reads(file: Path) -> bool:
    try:
        return file.read_text() == "content\n"
    except OSError:
        return False


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    before = time.monotonic()
    result = work()
    return time.monotonic() - before, result


def test_a_mount_that_is_killed_is_back_within_two_seconds(yoga: Machine) -> None:
    """Also the third time in a row. Whatever it was doing: the mount point never stays dead."""
    took = []
    for _ in range(3):
        (pid,) = yoga.pids("mount")
        os.kill(pid, signal.SIGKILL)
        took.append(timed(lambda: poll(lambda: reads(yoga.mountpoint / "f"), 30, "the mount", pause=0.005))[0])
        poll(lambda: yoga.data("status")["engine"]["mount"]["is_connected"], 10, "its connection")
        stays(lambda: reads(yoga.mountpoint / "f"), LIFE_S, "the mount")
    # On a machine that has other things to do, what it takes to load the program there and then.
    load = timed(lambda: subprocess.run([sys.executable, "-P", "-c", "import fs.serve"], cwd="/", check=True))[0]
    assert sorted(took)[1] < max(BACK_S, 4 * load), (took, load)
    assert Path("/proc/self/mounts").read_text().count(f" {yoga.mountpoint} ") == 1
    yoga.fsck()


def test_a_daemon_that_is_killed_is_started_by_the_mount(yoga: Machine) -> None:
    took = []
    for n in range(3):
        (before,) = yoga.pids("tcfsd")
        os.kill(before, signal.SIGKILL)
        (yoga.mountpoint / f"written{n}").write_text("without it\n")
        took.append(timed(lambda: poll(lambda: is_served(yoga), 30, "a daemon", pause=0.02))[0])
        (after,) = yoga.pids("tcfsd")
        assert after != before
        stays(lambda pid=after: yoga.pids("tcfsd") == [pid], LIFE_S, "the daemon")
    assert sorted(took)[1] < 3 * BACK_S, took  # a daemon, and a run of the CLI that asks it
    yoga.run("wait")
    yoga.fsck()


def is_served(machine: Machine) -> bool:
    return bool((machine.data("status", expect=None)["engine"] or {}).get("is_daemon"))


def test_a_mount_that_is_told_to_end_again_and_again_ends_in_order(yoga: Machine) -> None:
    """Also when its request loop has ended, and it seals."""
    for n in range(300):
        (yoga.mountpoint / f"many{n}").write_text("x")
    (mount,) = yoga.pids("mount")
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(mount, signal.SIGTERM)
            time.sleep(0.002)
    poll(lambda: reads(yoga.mountpoint / "f"), 30, "the mount")
    assert "Fatal Python error" not in yoga.whole_logs()
    yoga.run("wait")
    yoga.fsck()


# ---- who holds it


@contextmanager
def holding(machine: Machine, code: str) -> Iterator[int]:
    """Another process holds something, in the way that `code` says; its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.format(code)],
        cwd=machine.mountpoint if "cwd" in code else "/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "F": str(machine.mountpoint / "f")},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.kill()


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("'cwd'", ". is its working directory"),
        ("f = open(os.environ['F'])", "f is open"),
        ("f = open(os.environ['F']); m = mmap.mmap(f.fileno(), 0, prot=1); f.close()", "f is mapped"),
    ],
    ids=["cwd", "open", "mapped"],
)
def test_unmount_says_who_holds_it(yoga: Machine, code: str, what: str) -> None:
    if "mmap" in code:
        code = code.replace("m = mmap.mmap(f.fileno(), 0, prot=1)", MAP)
    with holding(yoga, code) as pid:
        for verb in ("unmount", "down"):
            result = yoga.run(verb, expect=7)
            assert f"({pid}): {what}" in result.stderr
            assert f"kill {pid}" in result.stderr
            assert "--force" in result.stderr
            assert "python" in result.stderr
        error = json.loads(yoga.run("unmount", "--json", expect=7).stdout)["error"]
        assert error["code"] == "not-yet"
        assert reads(yoga.mountpoint / "f")  # it stays, and works
    yoga.run("unmount")
    assert not os.path.ismount(yoga.mountpoint)
    yoga.up()


# Python keeps a descriptor of its own with a map, so this one is made by the system call itself.
MAP = (
    "import ctypes; libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p; "
    f"libc.mmap(None, ctypes.c_size_t(4096), 1, {mmap.MAP_PRIVATE}, f.fileno(), ctypes.c_long(0))"
)


def test_force_takes_it_away_all_the_same(yoga: Machine) -> None:
    with holding(yoga, "f = open(os.environ['F'])"):
        yoga.run("unmount", "--force")
        assert not os.path.ismount(yoga.mountpoint)
    yoga.up()
    assert reads(yoga.mountpoint / "f")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount there")
def test_a_mount_in_it_is_named(yoga: Machine) -> None:
    nest = yoga.mountpoint / "nest"
    nest.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", nest], check=True)
    try:
        said = yoga.run("unmount", expect=7).stderr
    finally:
        subprocess.run(["umount", nest], check=True)
    assert f"in use by another mount in it, {nest}" in said and f"umount {nest}" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has mount namespaces")
def test_a_copy_in_another_namespace_is_not_in_the_way(yoga: Machine) -> None:
    """What was written is kept, the copy is a dead mount, and `up` works."""
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no mount namespaces here")
    command = ["unshare", "-m", "sh", "-c", "echo made; exec sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/") as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"made\n"
            (yoga.mountpoint / "last").write_text("the last thing")
            (mount,) = yoga.pids("mount")
            took, _ = timed(lambda: yoga.run("unmount"))
            assert took < 10
            poll(lambda: mount not in yoga.pids("mount"), 10, "the end of the process")
            yoga.up()
            assert (yoga.mountpoint / "last").read_text() == "the last thing"
            yoga.run("wait")
        finally:
            other.kill()


def test_a_second_mount_is_refused(yoga: Machine, tmp_path: Path) -> None:
    """By the CLI, and by the lock for whoever starts one by hand; the first one does not notice."""
    (pid,) = yoga.pids("mount")
    result = yoga.run("mount", str(tmp_path / "other"), expect=7)
    assert f"it is mounted at {yoga.mountpoint}" in result.stderr
    environ = {**yoga.environ, "TCFS_MOUNTPOINT": str(tmp_path / "other")}
    second = subprocess.run(
        [sys.executable, "-P", "-m", "fs.mount"], cwd="/", env=environ, capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 4
    assert f"running already at {yoga.mountpoint}, process {pid}" in second.stderr
    assert "tcfs unmount" in second.stderr
    assert yoga.pids("mount") == [pid]
    assert reads(yoga.mountpoint / "f")


# ---- time


@pytest.mark.long
def test_a_suspended_machine_does_no_harm(yoga: Machine) -> None:
    """Both processes stand still longer than the watch over the mount waits, and go on as if nothing had been."""
    pids = yoga.pids("mount") + yoga.pids("tcfsd")
    with (yoga.mountpoint / "open").open("w") as file:
        file.write("before ")
        file.flush()
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            poll(lambda: all(is_stopped(pid) for pid in pids), 10, "both stand still")
            stays(lambda: all(is_stopped(pid) for pid in pids), 13, "both stand still")
        finally:  # else closing the file would wait for the mount for ever
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        file.write("and after\n")
    stays(lambda: pids == yoga.pids("mount") + yoga.pids("tcfsd"), 3, "the same processes")
    assert (yoga.mountpoint / "open").read_text() == "before and after\n"
    yoga.run("wait")
    yoga.fsck()


@pytest.mark.long
@pytest.mark.logs_trouble
def test_a_mount_that_was_stuck_before_the_daemon_came(yoga: Machine) -> None:
    (mount,), (daemon,) = yoga.pids("mount"), yoga.pids("tcfsd")
    os.kill(mount, signal.SIGSTOP)
    os.kill(daemon, signal.SIGKILL)
    took, _ = timed(lambda: yoga.run("up"))
    assert took < 25
    assert reads(yoga.mountpoint / "f")
    assert yoga.pids("mount") != [mount]


# ---- a store that does not answer


@pytest.fixture
def far(tmp_path: Path) -> Iterator[FarStore]:
    store = FarStore(tmp_path)
    try:
        yield store
    finally:
        store.close()


Far = tuple[FarStore, Machine, Machine]


@pytest.fixture
def pair(far: FarStore, tmp_path: Path) -> Iterator[Far]:
    """yoga has published four files; bates has read the first. Then the store stops answering."""
    with fleet(tmp_path, "yoga", "bates", store=far.place) as (yoga, bates):
        for n in range(4):
            (yoga.mountpoint / f"f{n}").write_bytes(bytes([n]) * 300_000)
        yoga.run("wait")
        poll(lambda: (bates.mountpoint / "f3").exists(), 10, "the placeholders")
        (bates.mountpoint / "f0").read_bytes()
        try:
            yield far, yoga, bates
        finally:
            far.process.kill()  # before the machines end: nobody can be ended while the kernel waits for it


def looks_and_writes(place: Path, name: str) -> None:
    """All that needs nobody is done at once."""
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("ls", lambda: os.listdir(place)),
        ("stat", lambda: os.stat(place / "f3")),
        ("df", lambda: subprocess.run(["df", str(place)], check=True, capture_output=True)),
        ("find", lambda: subprocess.run(["find", str(place), "-size", "+1"], check=True, capture_output=True)),
        ("ls -l", lambda: subprocess.run(["ls", "-la", str(place)], check=True, capture_output=True)),
        ("write", lambda: (place / name).write_text("offline\n")),
        ("fsync", lambda: fsync(place / name)),
        ("rename", lambda: (place / name).rename(place / f"{name}.moved")),
        ("mkdir", lambda: (place / f"{name}.d").mkdir()),
        ("read", lambda: (place / f"{name}.moved").read_text()),
        ("read what was fetched", lambda: (place / "f0").read_bytes()),
    ]
    for what, step in steps:
        took, _ = timed(step)
        assert took < LOCAL_S, what


@pytest.mark.logs_trouble
def test_a_store_that_does_not_answer_keeps_nothing_waiting(pair: Far) -> None:
    far, yoga, bates = pair
    far.stop()
    looks_and_writes(bates.mountpoint, "a")
    reader = subprocess.Popen(["cat", str(bates.mountpoint / "f1")], stdout=subprocess.DEVNULL)
    poll(lambda: Path(f"/proc/{reader.pid}/cmdline").read_bytes().startswith(b"cat"), 5, "cat")
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(0.5)
    looks_and_writes(bates.mountpoint, "b")  # beside a reader that waits
    reader.kill()
    assert reader.wait(LOCAL_S) == -signal.SIGKILL
    for kind in ("mount", "tcfsd"):  # and what dies meanwhile comes back
        bates.kill(kind)
        poll(lambda: can_list(bates.mountpoint) and is_served(bates), 20, f"{kind} is back")
        looks_and_writes(bates.mountpoint, f"c{kind}")
    assert timed(lambda: bates.run("status"))[0] < 10
    assert timed(lambda: bates.run("ls"))[0] < 10
    far.go_on()
    bates.run("wait", "--timeout", "60")
    assert (bates.mountpoint / "f2").read_bytes() == bytes([2]) * 300_000
    poll(lambda: (yoga.mountpoint / "cmount.moved").exists(), 20, "what was written meanwhile")
    for machine in (yoga, bates):
        machine.fsck()


@pytest.mark.logs_trouble
def test_a_push_to_a_store_that_does_not_answer_ends_and_keeps_nobody_waiting(pair: Far) -> None:
    far, yoga, _ = pair
    (yoga.home / "plain").write_text("plain\n")
    far.stop()
    begun = time.monotonic()
    pushing = subprocess.Popen(
        [str(BIN / "tcfs"), "push", "plain"], env=yoga.environ, cwd=yoga.home, stderr=subprocess.PIPE, text=True
    )
    poll(lambda: asks(pushing.pid), 10, "a push that waits", pause=0.1)
    assert is_served(yoga)
    assert pushing.poll() is None
    _, said = pushing.communicate(timeout=30)
    assert (pushing.returncode, 8 < time.monotonic() - begun < 20) == (2, True), said
    assert "did not answer within 10 s" in said
    far.go_on()
    yoga.run("push", "plain", "--json")
    yoga.fsck()


def fsync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def can_list(place: Path) -> bool:
    try:
        return "f0" in os.listdir(place)
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.logs_trouble
def test_a_reader_of_what_does_not_come_is_told_in_time(pair: Far) -> None:
    far, _, bates = pair
    far.stop()
    before = time.monotonic()
    with pytest.raises(OSError) as caught:
        (bates.mountpoint / "f1").read_bytes()
    assert caught.value.errno in (errno.ETIMEDOUT, errno.ENETUNREACH)
    assert 5 < time.monotonic() - before < 35


@pytest.mark.long
@pytest.mark.logs_trouble
@pytest.mark.timeout(300)
def test_a_machine_starts_while_its_store_does_not_answer(pair: Far) -> None:
    """down gives up in time and says what stays; up returns, and everything local is there."""
    far, yoga, bates = pair
    far.stop()
    (bates.mountpoint / "offline").write_text("offline\n")
    took, result = timed(lambda: bates.run("down", expect=7))
    assert took < 60
    assert "offline" in result.stdout
    took, _ = timed(bates.up)
    assert took < 15
    looks_and_writes(bates.mountpoint, "a")
    assert (bates.mountpoint / "offline").read_text() == "offline\n"
    far.go_on()
    bates.run("wait", "--timeout", "60")
    poll(lambda: (yoga.mountpoint / "offline").exists(), 20, "what was written meanwhile")
    for machine in (yoga, bates):
        machine.fsck()


def asks(pid: int) -> bool:
    """True of a process that has a socket, and sleeps: it has said what it wants."""
    sockets = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(fd).startswith("socket:")]
    return len(sockets) > 2 and Path(f"/proc/{pid}/wchan").read_text() in ("ep_poll", "do_epoll_wait")


def test_what_waits_for_the_store_keeps_nobody_from_ending_tcfsd(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga") as (yoga,):
        store = tmp_path / "store"
        store.rename(tmp_path / "elsewhere")
        (yoga.mountpoint / "f").write_text("f")
        waiting = subprocess.Popen(
            [str(BIN / "tcfs"), "wait"], env=yoga.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        poll(lambda: asks(waiting.pid), 20, "a call that waits", pause=0.3)
        (tcfsd,) = yoga.pids("tcfsd")
        os.kill(tcfsd, signal.SIGTERM)
        poll(lambda: tcfsd not in yoga.pids("tcfsd"), 20, "the end of tcfsd")
        said, _ = waiting.communicate(timeout=20)
        assert waiting.returncode == 7, said
        assert "tcfsd was stopped" in said
        (tmp_path / "elsewhere").rename(store)
        yoga.run("wait", "--timeout", "60")
        yoga.fsck()
