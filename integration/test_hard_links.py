"""Hard links in real mounts: what programs do with them, and how they come out on the other machine."""

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from differ_side import next_tick
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(
        [str(c) for c in command], check=True, text=True, capture_output=True, cwd=cwd, timeout=300
    ).stdout


def tree_of(root: Path) -> dict[str, tuple[str, str, int]]:
    """path -> (type and mode, content or target, number of links) of everything below root."""
    found = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(root))] = (oct(stat.st_mode), content, 1 if path.is_dir() else stat.st_nlink)
    return found


def linked(root: Path) -> list[list[str]]:
    """The names of each file that has several; checks st_nlink, and that readdir and stat agree."""
    names: dict[int, list[str]] = {}
    counts: dict[int, int] = {}
    for path in sorted(root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            assert {e.name: e.inode() for e in os.scandir(path)} == {p.name: p.lstat().st_ino for p in path.iterdir()}
            continue
        stat = path.lstat()
        names.setdefault(stat.st_ino, []).append(str(path.relative_to(root)))
        counts[stat.st_ino] = stat.st_nlink
    assert counts == {ino: len(paths) for ino, paths in names.items()}
    return sorted(paths for paths in names.values() if len(paths) > 1)


def ids_of(root: Path) -> dict[Path, tuple[int, int]]:
    """path -> (inode number, ctime) of what is no folder."""
    paths = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {path: (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in paths}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    with fleet(tmp_path_factory.mktemp("fleet"), "yoga", "bates") as both:
        yield both
        for machine in both:
            machine.fsck()


def both_show(machines: list[Machine], folder: str, source: Path) -> None:
    """Here at once and after publishing, and on the other machine, all is as in a plain folder."""
    yoga, bates = machines
    here, there = yoga.mountpoint / folder, bates.mountpoint / folder
    expected = tree_of(source), linked(source)
    assert (tree_of(here), linked(here)) == expected
    numbers = ids_of(here)
    yoga.run("wait", timeout=120)
    assert (tree_of(here), linked(here)) == expected
    assert ids_of(here) == numbers
    poll(lambda: shows(there, expected), 60, f"{folder} elsewhere")


def shows(root: Path, expected: tuple[dict[str, tuple[str, str, int]], list[list[str]]]) -> bool:
    """Whether a tree is so by now; what changes while it is being read is not."""
    try:
        return root.exists() and (tree_of(root), linked(root)) == expected
    except (FileNotFoundError, AssertionError):
        return False


def make_source(source: Path) -> None:
    (source / "d" / "e").mkdir(parents=True)
    for n in range(12):
        (source / f"f{n}").write_text(f"content {n}" * 50)
        os.link(source / f"f{n}", source / "d" / f"g{n}")
        if n % 3 == 0:
            os.link(source / f"f{n}", source / "d" / "e" / f"h{n}")
    (source / "alone").write_text("alone")
    (source / "s").symlink_to("f0")
    os.link(source / "s", source / "d" / "s", follow_symlinks=False)
    (source / "empty").touch()
    os.link(source / "empty", source / "nothing")


@pytest.mark.parametrize("how", ["cp -a", "tar", "rsync -aH", "cp -al", "ln"])
def test_trees_with_links(machines: list[Machine], tmp_path: Path, how: str) -> None:
    if how.startswith("rsync") and shutil.which("rsync") is None:
        pytest.skip("no rsync here")
    yoga, source, folder = machines[0], tmp_path / "source", how.replace(" ", "")
    make_source(source)
    target = yoga.mountpoint / folder
    if how == "tar":
        target.mkdir()
        run("tar", "cf", tmp_path / "x.tar", "-C", source, ".")
        run("tar", "xf", tmp_path / "x.tar", "-C", target)
    elif how == "rsync -aH":
        run("rsync", "-aH", f"{source}/", f"{target}/")
    elif how == "cp -al":
        run("cp", "-a", source, yoga.mountpoint / "first")
        yoga.run("wait", timeout=60)
        run("cp", "-al", yoga.mountpoint / "first", target)
        shutil.rmtree(yoga.mountpoint / "first")
        run("find", target, "-type", "f")
    elif how == "ln":
        run("cp", "-a", source, target)
        for place in (source, target):
            steps = "ln f1 d/e/more; ln d/g2 again; rm f3; mv d/g4 f5; ln -f f6 alone; mv f7 d/e/seven"
            run("sh", "-c", steps, cwd=place)
    else:
        run("cp", "-a", source, target)
    both_show(machines, folder, source)
    # Written through one name, on either side.
    for place in (source, target):
        with (place / "f0").open("r+") as file:
            file.write("HERE")
    both_show(machines, folder, source)
    bates = machines[1]
    with (source / "f2").open("a") as file:
        file.write("THERE")
    with (bates.mountpoint / folder / "d" / "g2").open("a") as file:
        file.write("THERE")
    bates.run("wait", timeout=60)
    poll(lambda: shows(target, (tree_of(source), linked(source))), 30, "what was written elsewhere")
    # One name after the other goes.
    for path in sorted(p for p in source.rglob("*") if not p.is_dir() or p.is_symlink()):
        os.unlink(target / path.relative_to(source))
        os.unlink(path)
        if len(list(source.rglob("*"))) % 10 == 0:
            both_show(machines, folder, source)
    both_show(machines, folder, source)


def test_what_the_system_calls_answer(machines: list[Machine]) -> None:
    top = machines[0].mountpoint / "calls"
    top.mkdir()
    (top / "a").write_text("a")
    (top / "d").mkdir()
    before = (top / "a").stat()
    next_tick()
    os.link(top / "a", top / "b")
    assert (top / "a").stat().st_nlink == 2 and (top / "a").stat().st_ctime_ns > before.st_ctime_ns
    for args, number in (
        (("a", "b"), errno.EEXIST),
        (("d", "e"), errno.EPERM),
        (("x", "y"), errno.ENOENT),
        (("a", "x/y"), errno.ENOENT),
        (("a", "n" * 256), errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError) as refused:
            os.link(top / args[0], top / args[1])
        assert refused.value.errno == number, args
    os.rename(top / "a", top / "b")
    assert sorted(os.listdir(top)) == ["a", "b", "d"]
    file = (top / "a").open("r+")
    os.unlink(top / "a")
    assert os.fstat(file.fileno()).st_nlink == 1
    file.write("X")
    file.flush()
    assert (top / "b").read_text() == "X"
    os.unlink(top / "b")
    assert os.fstat(file.fileno()).st_nlink == 0
    file.close()
    if os.geteuid() == 0:  # the system lets nobody else link a file that it has open and no name of
        (top / "tmp").write_text("t")
        with (top / "tmp").open() as opened:
            os.unlink(top / "tmp")
            with pytest.raises(OSError) as refused:
                os.link(f"/proc/self/fd/{opened.fileno()}", top / "back", follow_symlinks=True)
            assert refused.value.errno in (errno.ENOENT, errno.EXDEV)


def test_mmap_and_many_writers(machines: list[Machine]) -> None:
    """All names see what is written through any, at once, and it goes out whole."""
    yoga, bates = machines
    top = yoga.mountpoint / "many"
    top.mkdir()
    names = [f"n{n}" for n in range(4)]
    (top / "n0").write_bytes(bytes(4096))
    for name in names[1:]:
        os.link(top / "n0", top / name)
    deadline = time.monotonic() + 3

    def work(n: int) -> None:
        with (top / names[n]).open("r+b") as file:
            while time.monotonic() < deadline:
                file.seek(n * 8)
                file.write(time.monotonic_ns().to_bytes(8, "big"))
                file.flush()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contents = {(top / name).read_bytes() for name in names}
    assert len(contents) == 1
    yoga.run("wait", timeout=60)
    there = bates.mountpoint / "many"

    def is_there() -> bool:
        try:
            return linked(there) == [names] and {(there / name).read_bytes() for name in names} == contents
        except (FileNotFoundError, AssertionError):
            return False  # it comes just now

    poll(is_there, 30, "the last state elsewhere")


def test_git_clone_local(machines: list[Machine], tmp_path: Path) -> None:
    """`git clone --local` links its objects; .git stays on this machine, with its links."""
    top = machines[0].mountpoint / "git"
    top.mkdir()
    run("git", "init", "-q", "-b", "main", "repo", cwd=top)
    for name, value in (("user.email", "a@b.c"), ("user.name", "a"), ("gc.auto", "0")):
        run("git", "config", name, value, cwd=top / "repo")
    for n in range(5):
        (top / "repo" / f"f{n}").write_text(f"{n}")
        run("git", "add", ".", cwd=top / "repo")
        run("git", "commit", "-qm", f"{n}", cwd=top / "repo")
    run("git", "clone", "-q", "--local", top / "repo", top / "clone")
    objects = [p for p in (top / "clone/.git/objects").rglob("*") if p.is_file() and len(p.name) == 38]
    assert objects and all(path.stat().st_nlink == 2 for path in objects)
    machines[0].run("wait", timeout=60)
    assert all(path.stat().st_nlink == 2 for path in objects)
    run("git", "fsck", "--full", cwd=top / "clone")
    run("git", "gc", "-q", cwd=top / "repo")
    run("git", "fsck", "--full", cwd=top / "repo")
    assert run("git", "status", "--porcelain", cwd=top / "clone") == ""
    shutil.rmtree(top / "repo")
    run("git", "fsck", "--full", cwd=top / "clone")


def test_kill_and_start_again(machines: list[Machine]) -> None:
    yoga, bates = machines
    top = yoga.mountpoint / "killed"
    top.mkdir()
    (top / "a").write_text("one")
    os.link(top / "a", top / "b")
    yoga.run("wait", timeout=60)
    for n in range(4):
        with (top / "ab"[n % 2]).open("w") as file:
            file.write(f"round {n}")
        if n == 2:
            os.link(top / "a", top / "c")
            with (top / "c").open("a") as file:
                file.write("+")
        yoga.kill()
        yoga.up()
        assert len(linked(top)) == 1 and (top / "a").read_text() == (top / "b").read_text()
        yoga.run("wait", timeout=60)
    there = bates.mountpoint / "killed"
    poll(lambda: (there / "c").exists() and tree_of(there) == tree_of(top), 30, "all of it elsewhere")
    assert linked(there) == [["a", "b", "c"]]
    yoga.kill()
    yoga.up()
    assert linked(top) == [["a", "b", "c"]]


def test_one_name_is_replaced_elsewhere(machines: list[Machine]) -> None:
    """An editor on the other machine saves by rename: two files from then on, and nothing is lost."""
    yoga, bates = machines
    top, there = yoga.mountpoint / "replaced", bates.mountpoint / "replaced"
    top.mkdir()
    (top / "a").write_text("one")
    os.link(top / "a", top / "b")
    yoga.run("wait", timeout=60)
    poll(lambda: (there / "b").exists() and linked(there) == [["a", "b"]], 30, "the links elsewhere")
    (there / "tmp").write_text("two")
    os.rename(there / "tmp", there / "a")
    bates.run("wait", timeout=60)
    poll(lambda: (top / "a").read_text() == "two", 30, "the new file")
    assert (top / "b").read_text() == "one" and linked(top) == linked(there) == []
    with (top / "b").open("a") as file:
        file.write("!")
    yoga.run("wait", timeout=60)
    poll(lambda: (there / "b").read_text() == "one!", 30, "the other name")
    assert (there / "a").read_text() == "two"


def test_push_and_pull(machines: list[Machine], tmp_path: Path) -> None:
    """Plain folders, by the CLI; and what was pushed is linked in the mounts."""
    yoga, bates = machines
    source = tmp_path / "pushed"
    make_source(source)
    yoga.run("push", str(source))
    expected = tree_of(source), linked(source)
    for machine in machines:
        shown = machine.mountpoint / "pushed"
        poll(lambda shown=shown: shown.exists() and (tree_of(shown), linked(shown)) == expected, 30, "in the mounts")
    (tmp_path / "pulled").mkdir()
    bates.run("pull", "pushed", str(tmp_path / "pulled"))
    assert (tree_of(tmp_path / "pulled" / "pushed"), linked(tmp_path / "pulled" / "pushed")) == expected
    with (bates.mountpoint / "pushed" / "f0").open("a") as file:
        file.write("from the mount")
    bates.run("wait", timeout=60)
    yoga.run("pull", "pushed", str(tmp_path))
    assert (source / "d" / "g0").read_text().endswith("from the mount")
    assert linked(source) == expected[1] and tree_of(source) == tree_of(bates.mountpoint / "pushed")
