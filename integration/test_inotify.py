"""Changes made on one machine wake those who watch files on another, as if they had been made there."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll
from watching import CHANGES, Watcher

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Each has the folder d with the file d/old; both are published, and nobody will be woken for them any more."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        there = bates.mountpoint
        (there / "d").mkdir()
        (there / "d/old").write_text("one")
        bates.run("wait")
        poll(lambda: (yoga.mountpoint / "d/old").exists(), 10, "d/old")
        be_told(yoga, bates)
        yield [yoga, bates]


def helpers(machine: Machine) -> list[int]:
    """The processes that wake watchers."""
    found = []
    for pid in machine.pids("other"):
        with contextlib.suppress(OSError):
            if b"replay/helper.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def names(watcher: Watcher, what: str) -> list[str]:
    watcher.read()
    return [event.name for event in watcher.events if event.what == what]


def be_told(yoga: Machine, bates: Machine) -> None:
    """Returns when yoga has heard of all that bates has done."""
    watcher, name = Watcher(yoga.mountpoint), f"told-{time.monotonic_ns()}"
    (bates.mountpoint / name).write_text("x")
    watcher.wait_for("CREATE", name)
    watcher.close()


def test_each_change_is_its_own_event(machines: list[Machine]) -> None:
    yoga, bates = machines
    there = bates.mountpoint / "d"
    watcher = Watcher(yoga.mountpoint / "d")
    quiet = Watcher(yoga.mountpoint)
    own = Watcher(there)

    def sees(*expected: tuple[str, str]) -> None:
        """Exactly these, in this order."""
        watcher.wait_for(*expected[-1])
        assert watcher.brief() == list(expected)
        watcher.clear()

    (there / "new").write_text("x")
    sees(("CREATE", "new"))
    assert (yoga.mountpoint / "d/new").read_text() == "x"
    (there / "old").write_text("longer")
    sees(("MODIFY", "old"))
    assert (yoga.mountpoint / "d/old").read_text() == "longer"
    (there / "old").write_text("LONGER")
    sees(("MODIFY", "old"))
    assert (yoga.mountpoint / "d/old").read_text() == "LONGER"
    (there / "old").chmod(0o640)
    sees(("ATTRIB", "old"))
    assert (yoga.mountpoint / "d/old").stat().st_mode & 0o777 == 0o640
    (there / "old").rename(there / "renamed")
    watcher.wait_for("MOVED_TO", "renamed")
    assert watcher.events[0].cookie == watcher.events[1].cookie != 0
    sees(("MOVED_FROM", "old"), ("MOVED_TO", "renamed"))
    assert sorted(os.listdir(yoga.mountpoint / "d")) == ["new", "renamed"]
    (there / "new").unlink()
    sees(("DELETE", "new"))
    assert os.listdir(yoga.mountpoint / "d") == ["renamed"]
    (there / "link").symlink_to("renamed")
    sees(("CREATE", "link"))
    assert os.readlink(yoga.mountpoint / "d/link") == "renamed"
    (there / "sub").mkdir()
    watcher.wait_for("CREATE", "sub")
    assert watcher.events[-1].is_dir
    sees(("CREATE", "sub"))
    (there / "sub").rename(there / "sub2")
    sees(("MOVED_FROM", "sub"), ("MOVED_TO", "sub2"))
    assert (yoga.mountpoint / "d/sub2").is_dir()
    (there / "sub2").rmdir()
    sees(("DELETE", "sub2"))
    assert quiet.brief() == []
    # Where it was done each was seen once; that it was published then was seen by nobody.
    bates.run("wait")
    assert names(own, "CREATE") == ["new", "link", "sub"]
    assert names(own, "DELETE") == ["new", "sub2"]
    assert names(own, "ATTRIB") == ["old"]
    assert names(own, "MOVED_TO") == ["renamed", "sub2"]
    assert not helpers(bates)
    for one in (watcher, quiet, own):
        one.close()


def test_a_hundred_files_are_a_hundred_events_in_order(machines: list[Machine]) -> None:
    yoga, bates = machines
    watcher = Watcher(yoga.mountpoint / "d")
    expected = [f"f{n:03}" for n in range(100)]
    for name in expected:
        (bates.mountpoint / "d" / name).write_text(name)
    watcher.wait_for("CREATE", expected[-1])
    assert watcher.brief() == [("CREATE", name) for name in expected]
    for name in expected:
        (bates.mountpoint / "d" / name).unlink()
    watcher.wait(lambda events: sum(event.what == "DELETE" for event in events) >= 100)
    assert sorted(names(watcher, "DELETE")) == expected
    assert len(watcher.brief()) == 200
    watcher.close()


def test_a_whole_folder_is_moved_with_one_pair(machines: list[Machine]) -> None:
    yoga, bates = machines
    there, here = bates.mountpoint, yoga.mountpoint
    (there / "tree/sub").mkdir(parents=True)
    for n in range(5):
        (there / f"tree/sub/f{n}").write_text("x")
    bates.run("wait")
    poll(lambda: len(list((here / "tree/sub").glob("f*"))) == 5, 10, "the tree")
    be_told(yoga, bates)
    watcher = Watcher(here, here / "d", here / "tree", here / "tree/sub")
    (there / "tree").rename(there / "d/moved")
    watcher.wait_for("MOVED_TO", "moved")
    poll(lambda: (here / "d/moved/sub/f4").exists() and not (here / "tree").exists(), 10, "the tree at its new place")
    # What is at the new place is another folder to the kernel: who watches the old one hears that it has gone, and who
    # watches whole trees that there is one to be watched.
    watcher.wait_for("CREATE", "moved")
    events = [event for event in watcher.events if event.what in ("MOVED_FROM", "MOVED_TO", "CREATE", "DELETE")]
    assert [(event.what, event.name, event.watch) for event in events] == [
        ("MOVED_FROM", "tree", here.name),
        ("MOVED_TO", "moved", "d"),
        ("CREATE", "moved", "d"),
    ]
    watcher.wait(lambda events: sum(event.what in ("MOVE_SELF", "DELETE_SELF") for event in events) >= 3)
    ends = [(event.what, event.watch) for event in watcher.events if event.what in ("MOVE_SELF", "DELETE_SELF")]
    assert sorted(ends) == [("DELETE_SELF", "sub"), ("DELETE_SELF", "tree"), ("MOVE_SELF", "tree")]
    watcher.clear()
    watcher.add(here / "d/moved/sub")
    (there / "d/moved/sub/g").write_text("x")
    watcher.wait_for("CREATE", "g")
    assert watcher.brief() == [("CREATE", "g")]
    watcher.close()


@contextlib.contextmanager
def looking(*paths: Path) -> Iterator[None]:
    """Meanwhile somebody looks at all of these without a pause, as a program does that has been woken."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for path in paths:
                path.exists()
                with contextlib.suppress(OSError):
                    os.listdir(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("is_looked_at", [False, True])
def test_a_watched_tree_is_removed(machines: list[Machine], is_looked_at: bool) -> None:
    """Each thing in it is heard of before the end of what it was in, whoever watches around it."""
    yoga, bates = machines
    there, here = bates.mountpoint, yoga.mountpoint
    for tree, *around in (("t1",), ("t2", here)):
        (there / tree / "sub").mkdir(parents=True)
        for n in range(5):
            (there / tree / f"sub/f{n}").write_text("x")
        bates.run("wait")
        poll(lambda: len(list((here / tree / "sub").glob("f*"))) == 5, 10, "the tree")  # noqa: B023
        be_told(yoga, bates)
        watcher = Watcher(here / tree, here / tree / "sub", *around)
        deleted = sorted(["sub", *(f"f{n}" for n in range(5)), *([tree] if around else [])])
        looks = [here / tree, here / tree / "sub", here / tree / "sub/f1"] if is_looked_at else []
        with looking(*looks):
            shutil.rmtree(there / tree)
            expected = len(deleted) + 2
            watcher.wait(lambda events: sum(event.what.startswith("DELETE") for event in events) >= expected)  # noqa: B023
        told = [(event.what, event.name, event.watch) for event in watcher.events]
        assert sorted(name for what, name, _ in told if what == "DELETE") == deleted
        for end, of in (("sub", "sub"), (tree, tree)):
            last = max(n for n, (what, _, watch) in enumerate(told) if (what, watch) == ("DELETE", of))
            assert last < told.index(("DELETE_SELF", "", end))
        watcher.close()


@pytest.mark.parametrize("is_looked_at", [False, True])
def test_a_watched_tree_is_moved_and_removed_at_once(machines: list[Machine], is_looked_at: bool) -> None:
    yoga, bates = machines
    there, here = bates.mountpoint, yoga.mountpoint
    (there / "tree/sub").mkdir(parents=True)
    (there / "tree/sub/f").write_text("x")
    bates.run("wait")
    poll(lambda: (here / "tree/sub/f").exists(), 10, "the tree")
    be_told(yoga, bates)
    watcher = Watcher(here / "tree", here / "tree/sub", here / "tree/sub/f")
    with looking(*([here / "tree", here / "tree/sub/f", here / "d/moved/sub"] if is_looked_at else [])):
        (there / "tree").rename(there / "d/moved")
        shutil.rmtree(there / "d/moved")
        watcher.wait(lambda events: sum(event.what == "DELETE_SELF" for event in events) == 3)
    watcher.close()


def test_a_watched_file_is_moved(machines: list[Machine]) -> None:
    """Into a folder that nobody here has ever looked into, too."""
    yoga, bates = machines
    here, there = yoga.mountpoint, bates.mountpoint
    (there / "unseen").mkdir()
    be_told(yoga, bates)
    watcher = Watcher(here / "d", here / "d/old")
    (there / "d/old").rename(there / "unseen/new")
    watcher.wait_for("DELETE_SELF", "")
    assert [event.what for event in watcher.events[:3]] == ["MOVED_FROM", "MOVE_SELF", "DELETE_SELF"]
    assert (here / "unseen/new").read_text() == "one"
    watcher.clear()
    watcher.add(here / "unseen/new")
    (there / "unseen/new").write_text("two")
    watcher.wait_for("MODIFY", "")
    watcher.close()


def test_a_watched_file_is_open_and_looked_at(machines: list[Machine]) -> None:
    """Who reads what another machine writes on and on must hear of it, and not when it closes the file."""
    yoga, bates = machines
    file = yoga.mountpoint / "d/old"
    for content in ("two", "three"):
        before = file.read_text()
        with file.open() as opened, looking(file):
            watcher = Watcher(file)
            (bates.mountpoint / "d/old").write_text(content)
            watcher.wait_for("DELETE_SELF", "")
            assert opened.read() == before
            assert (os.fstat(opened.fileno()).st_nlink, os.fstat(opened.fileno()).st_size) == (0, len(before))
            watcher.close()
        assert file.read_text() == content


def test_those_who_wait_for_the_end_of_writing(machines: list[Machine]) -> None:
    yoga, bates = machines
    watcher = Watcher(yoga.mountpoint / "d", mask=("CREATE", "OPEN", "MODIFY", "CLOSE_WRITE"))
    (bates.mountpoint / "d/old").write_text("two")
    watcher.wait_for("CLOSE_WRITE", "old")
    assert watcher.brief() == [("OPEN", "old"), ("MODIFY", "old"), ("CLOSE_WRITE", "old")]
    watcher.clear()
    (bates.mountpoint / "d/new").write_text("x")
    watcher.wait_for("CLOSE_WRITE", "new")
    assert watcher.brief() == [("CREATE", "new"), ("OPEN", "new"), ("MODIFY", "new"), ("CLOSE_WRITE", "new")]
    assert (yoga.mountpoint / "d/old").read_text() == "two"
    yoga.run("wait")
    assert os.getxattr(yoga.mountpoint / "d/old", "user.tcfs.written_by") == b"bates"
    watcher.close()


def test_who_watches_a_file_itself_hears_that_it_is_another_one(machines: list[Machine]) -> None:
    yoga, bates = machines
    file = yoga.mountpoint / "d/old"
    watcher = Watcher(file)
    for content in ("two", "2nd", "three"):
        (bates.mountpoint / "d/old").write_text(content)
        watcher.wait_for("DELETE_SELF", "")
        assert [what for what, _ in watcher.brief()][:2] == ["MODIFY", "DELETE_SELF"]
        watcher.add(file)  # as a program does after an editor has saved by a rename
        assert file.read_text() == content
        watcher.clear()
    watcher.close()


def test_watches_of_things_themselves_without_the_kernels_caches(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        yoga.run("up", "--no-kernel-cache")
        bates.up()
        here, there = yoga.mountpoint, bates.mountpoint
        (there / "d").mkdir()
        (there / "f").write_text("one")
        bates.run("wait")
        poll(lambda: (here / "f").exists(), 10, "f")
        watcher = Watcher(here / "d", here / "f")
        (there / "f").write_text("two")
        watcher.wait_for("DELETE_SELF", "")
        assert watcher.brief()[:2] == [("MODIFY", ""), ("DELETE_SELF", "")]
        watcher.clear()
        (there / "d").rename(there / "e")
        watcher.wait_for("DELETE_SELF", "")
        assert watcher.brief()[:2] == [("MOVE_SELF", ""), ("DELETE_SELF", "")]
        watcher.close()


def test_a_watch_set_just_before_the_change_wakes(machines: list[Machine]) -> None:
    yoga, bates = machines
    for n in range(5):
        watcher = Watcher(yoga.mountpoint / "d")
        (bates.mountpoint / f"d/n{n}").write_text("x")
        watcher.wait_for("CREATE", f"n{n}")
        assert watcher.brief() == [("CREATE", f"n{n}")]
        watcher.close()


def test_nobody_watches_and_nothing_is_replayed(machines: list[Machine]) -> None:
    yoga, bates = machines
    elsewhere = yoga.home / "plain"
    elsewhere.mkdir()
    watcher = Watcher(elsewhere, yoga.mountpoint)
    for n in range(20):
        (bates.mountpoint / f"d/n{n}").write_text("x")
    poll(lambda: (yoga.mountpoint / "d/n19").exists(), 10, "n19")
    bates.run("wait")
    assert watcher.brief() == []
    watcher.close()


def test_somebody_looks_at_the_names_all_the_time(machines: list[Machine]) -> None:
    """The kernel knows a name before the helper comes, and does not know what the helper is to remove."""
    yoga, bates = machines
    here, there = yoga.mountpoint / "d", bates.mountpoint / "d"
    watcher = Watcher(here)
    expected = [f"f{n:02}" for n in range(30)]
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for name in expected:
                (here / name).exists()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for name in expected:
            (there / name).write_text("x")
        watcher.wait(lambda events: len(names(watcher, "CREATE")) >= len(expected))
        for name in expected:
            (there / name).unlink()
        watcher.wait(lambda events: len(names(watcher, "DELETE")) >= len(expected))
    finally:
        stop.set()
        thread.join()
    assert sorted(names(watcher, "CREATE")) == sorted(names(watcher, "DELETE")) == expected
    assert os.listdir(here) == ["old"]
    watcher.close()


def test_a_helper_that_dies_is_followed_by_another(machines: list[Machine]) -> None:
    yoga, bates = machines
    watcher = Watcher(yoga.mountpoint / "d")
    (bates.mountpoint / "d/a").write_text("x")
    watcher.wait_for("CREATE", "a")
    (first,) = helpers(yoga)
    command = Path(f"/proc/{first}/cmdline").read_bytes()
    assert b"tcfsd" not in command.replace(str(Path(__file__).parents[1]).encode(), b"")
    os.kill(first, signal.SIGKILL)
    poll(lambda: first not in yoga.pids(), 10, "the helper's end")

    (bates.mountpoint / "d/b").write_text("x")
    watcher.wait_for("CREATE", "b")
    assert names(watcher, "CREATE") == ["a", "b"]
    assert helpers(yoga) not in ([], [first])
    watcher.close()


@pytest.mark.logs_trouble
def test_a_helper_that_hangs_costs_nothing(machines: list[Machine]) -> None:
    yoga, bates = machines
    watcher = Watcher(yoga.mountpoint / "d")
    (bates.mountpoint / "d/a").write_text("x")
    watcher.wait_for("CREATE", "a")
    (hanging,) = helpers(yoga)
    os.kill(hanging, signal.SIGSTOP)
    (bates.mountpoint / "d/old").write_text("two")
    (bates.mountpoint / "d/b").write_text("x")
    (bates.mountpoint / "d/a").unlink()
    poll(lambda: (yoga.mountpoint / "d/old").read_text() == "two", 5, "the content")
    poll(lambda: sorted(os.listdir(yoga.mountpoint / "d")) == ["b", "old"], 5, "the names")
    poll(lambda: hanging not in yoga.pids(), 10, "the end of the one that hung")

    def is_heard() -> bool:
        (bates.mountpoint / f"d/c{time.monotonic_ns()}").write_text("x")
        return any(name.startswith("c") for name in names(watcher, "CREATE"))

    poll(is_heard, 15, "another helper")
    watcher.close()


def test_the_helper_goes_with_the_mount(machines: list[Machine]) -> None:
    yoga, bates = machines
    watcher = Watcher(yoga.mountpoint / "d")
    (bates.mountpoint / "d/a").write_text("x")
    watcher.wait_for("CREATE", "a")
    (helper,) = helpers(yoga)
    (mount,) = yoga.pids("mount")
    os.kill(mount, signal.SIGKILL)
    poll(lambda: helper not in yoga.pids(), 10, "the helper's end")
    watcher.close()
    poll(lambda: yoga.pids("mount") not in ([], [mount]), 15, "another mount")

    def is_there() -> bool:
        with contextlib.suppress(OSError):
            return (yoga.mountpoint / "d/a").exists()
        return False

    poll(is_there, 15, "d/a")
    watcher = Watcher(yoga.mountpoint / "d")
    (bates.mountpoint / "d/b").write_text("x")
    watcher.wait_for("CREATE", "b")
    (helper,) = helpers(yoga)
    yoga.run("unmount")
    poll(lambda: helper not in yoga.pids(), 10, "the helper's end")
    watcher.close()


@pytest.mark.logs_trouble
def test_the_helper_can_change_nothing(machines: list[Machine]) -> None:
    """Whatever comes from its pid is refused, also when it does it by itself."""
    yoga, bates = machines
    watcher = Watcher(yoga.mountpoint / "d")
    (bates.mountpoint / "d/a").write_text("x")
    watcher.wait_for("CREATE", "a")
    (helper,) = helpers(yoga)
    (mount,) = yoga.pids("mount")
    # The helper's input is one end of a pipe of the mount: we write into it as if we were the mount.
    pipe = next(
        fd
        for fd in os.listdir(f"/proc/{mount}/fd")
        if os.readlink(f"/proc/{mount}/fd/{fd}") == os.readlink(f"/proc/{helper}/fd/0")
    )
    with open(f"/proc/{mount}/fd/{pipe}", "wb", buffering=0) as stdin:
        stdin.write(b'[0, "remove", "d", "old", "", "", 1, 0]\n')
        stdin.write(b'[1, "create", "d", "bad", "", "", 1, 420]\n')
        stdin.write(b'[2, "move", "d", "old", "d", "bad", 1, 0]\n')
        stdin.write(b'[3, "chmod", "d", "old", "", "", 1, 0]\n')
    (bates.mountpoint / "d/b").write_text("x")
    poll(lambda: (yoga.mountpoint / "d/b").exists(), 10, "d/b")
    assert {"a", "b", "old"} == set(os.listdir(yoga.mountpoint / "d"))
    assert (yoga.mountpoint / "d/old").read_text() == "one"
    assert (yoga.mountpoint / "d/old").stat().st_mode & 0o777 == 0o644
    yoga.run("wait")
    assert os.getxattr(yoga.mountpoint / "d/old", "user.tcfs.state") == b"local"
    watcher.close()


def test_a_reader_that_waits_for_the_network_holds_nobody_up(machines: list[Machine], tmp_path: Path) -> None:
    yoga, bates = machines
    here, there = yoga.mountpoint / "d", bates.mountpoint / "d"
    (there / "far").write_bytes(os.urandom(3 << 20))
    bates.run("wait")
    poll(lambda: (here / "far").exists(), 10, "d/far")
    (tmp_path / "store/packs").rename(tmp_path / "store/packs.away")
    watcher = Watcher(here, here / "far")
    reader = subprocess.Popen(["cat", here / "far"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        (there / "a").mkdir()
        watcher.wait_for("CREATE", "a")
        (there / "far").chmod(0o600)
        poll(lambda: (here / "far").stat().st_mode & 0o777 == 0o600, 10, "the mode")
        (there / "far").rename(there / "farther")
        watcher.wait_for("MOVED_TO", "farther")
        (there / "farther").unlink()
        watcher.wait_for("DELETE", "farther")
    finally:
        reader.kill()
        reader.wait(10)
        (tmp_path / "store/packs.away").rename(tmp_path / "store/packs")
    watcher.close()


def test_under_load_nothing_hangs(machines: list[Machine]) -> None:
    """Both machines work in watched folders all the time; each step has to come to its end."""
    yoga, bates = machines
    here, there = yoga.mountpoint / "d", bates.mountpoint / "d"
    folders = [f"s{n}" for n in range(4)]
    for folder in folders:
        (there / folder).mkdir()
    bates.run("wait")
    poll(lambda: all((here / folder).is_dir() for folder in folders), 10, "the folders")
    watcher = Watcher(here, *(here / folder for folder in folders), mask=(*CHANGES, "CLOSE_WRITE"))
    stop = time.monotonic() + 12
    steps: list[int] = []
    failures: list[str] = []

    def work(root: Path, name: str, seed: int) -> None:
        rng = random.Random(seed)
        done = 0
        while time.monotonic() < stop:
            folder = root / rng.choice(folders)
            path = folder / f"{name}{rng.randrange(8)}"
            began = time.monotonic()
            with contextlib.suppress(OSError):
                match rng.randrange(6):
                    case 0 | 1:
                        path.write_bytes(bytes(rng.randrange(5000)))
                    case 2:
                        path.unlink()
                    case 3:
                        path.rename(root / rng.choice(folders) / f"{name}{rng.randrange(8)}")
                    case 4:
                        with os.scandir(folder) as entries:
                            for entry in entries:
                                entry.stat()
                    case 5:
                        for other in folder.iterdir():
                            other.read_bytes()
            took = time.monotonic() - began
            if took > 10:
                failures.append(f"{path}: {took:.1f} s")
            done += 1
        steps.append(done)

    threads = [
        threading.Thread(target=work, args=(root, f"{root.parent.parent.name[0]}{n}-", 10 * n + k))
        for k, root in enumerate((here, there))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    poll(lambda: watcher.read(0.1) is None or not any(thread.is_alive() for thread in threads), 60, "their end")
    for thread in threads:
        thread.join()
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert len(steps) == 4
    yoga.run("wait", timeout=60)
    bates.run("wait", timeout=60)

    def tree(root: Path) -> dict[str, bytes]:
        try:
            return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        except FileNotFoundError:  # removed elsewhere, and here in this moment
            return {str(root): b"is being changed"}

    poll(lambda: tree(here) == tree(there), 20, "both show the same")
    assert any(event.what == "CREATE" for event in watcher.events)
    watcher.close()
    yoga.fsck()
    bates.fsck()
