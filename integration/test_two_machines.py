"""The main job: a real tree copied into one mount appears in the other, opens, is edited there, and comes back."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

QUICK_TREE = [Path("/usr/lib/python3.11/json"), Path("/usr/lib/python3.11/asyncio"), Path("/usr/lib/python3.11/email")]
LONG_TREE = [Path("/usr/lib/python3"), Path("/usr/lib/python3.11"), Path("/usr/include")]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(
        [str(c) for c in command], check=True, text=True, capture_output=True, cwd=cwd, timeout=300
    ).stdout


def listing(root: Path) -> str:
    """Kind, mode, size (of files), mtime and target of everything below root, sorted."""
    out = run("find", ".", "-printf", "%y %m %p %l\\t%s\\t%T@\\n", cwd=root)
    lines = []
    for line in out.splitlines():
        what, size, mtime = line.split("\t")
        if what.startswith(("d", "l")):
            lines.append(what)
        else:
            lines.append(f"{what}\t{size}\t{mtime}")
    return "\n".join(sorted(lines))


def sizes_by_du(root: Path) -> list[str]:
    return sorted(
        run("find", ".", "-type", "f", "-exec", "du", "--apparent-size", "-b", "{}", "+", cwd=root).splitlines()
    )


def drill(base: Path, tree: list[Path], at_least: int) -> None:
    with fleet(base, "yoga", "bates") as (yoga, bates):
        source = base / "source"
        source.mkdir()
        for folder in tree:
            run("cp", "-a", folder, source)
        assert len(listing(source).splitlines()) >= at_least
        run("cp", "-a", source, yoga.mountpoint / "work")
        yoga.run("wait", timeout=300)
        before = run("find", ".", "-printf", "%p %i %C@ %U:%G\\n", cwd=yoga.mountpoint / "work")

        poll(
            lambda: (bates.mountpoint / "work").exists() and listing(bates.mountpoint / "work") == listing(source),
            30,
            "placeholders",
        )
        packs = base / "store" / "packs"
        packs.rename(base / "packs.away")
        try:
            assert listing(source) == listing(bates.mountpoint / "work")
            assert sizes_by_du(source) == sizes_by_du(bates.mountpoint / "work")
            run("ls", "-lR", bates.mountpoint / "work")
        finally:
            (base / "packs.away").rename(packs)
        run("diff", "-r", "--no-dereference", source, bates.mountpoint / "work")

        changes_come_back(yoga, bates)
        after = run("find", ".", "-printf", "%p %i %C@ %U:%G\\n", cwd=yoga.mountpoint / "work")
        touched = ("edited", "moved", "gone", "chmodded")
        keep = [line for line in before.splitlines() if not any(word in line for word in touched)]
        gone = set(keep) - set(after.splitlines())
        assert not {line for line in gone if line.split()[0] != "."}, "publishing changed inode, ctime or owner"
        yoga.fsck()
        bates.fsck()


def changes_come_back(yoga: Machine, bates: Machine) -> None:
    there, here = bates.mountpoint / "drill", yoga.mountpoint / "drill"
    (here / "moved" / "deep").mkdir(parents=True)
    for name in ("edited", "gone", "chmodded", "moved/one", "moved/deep/two"):
        (here / name).write_text(f"first {name}\n")
    yoga.run("wait")
    poll(lambda: (there / "moved/deep/two").exists(), 10, "the drill's files on bates")
    assert (there / "edited").read_text() == "first edited\n"
    (there / "edited").write_text("second edited, longer\n")
    poll(lambda: (here / "edited").read_text() == "second edited, longer\n", 2, "an edit within 2 s")
    (there / "moved").rename(there / "elsewhere")
    poll(lambda: (here / "elsewhere/deep/two").exists() and not (here / "moved").exists(), 2, "a rename within 2 s")
    assert (here / "elsewhere/one").read_text() == "first moved/one\n"
    (there / "gone").unlink()
    poll(lambda: not (here / "gone").exists(), 2, "a delete within 2 s")
    (there / "chmodded").chmod(0o751)
    poll(lambda: (here / "chmodded").stat().st_mode & 0o7777 == 0o751, 2, "a chmod within 2 s")


def test_a_tree_travels_and_changes_come_back(tmp_path: Path) -> None:
    drill(tmp_path, QUICK_TREE, 100)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_large_tree_travels_and_changes_come_back(tmp_path: Path) -> None:
    drill(tmp_path, [folder for folder in LONG_TREE if folder.exists()], 5000)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_status_rehashes_nothing_after_publishing(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga") as (yoga,):
        (yoga.home / "config").mkdir(exist_ok=True)
        repo = yoga.mountpoint / "repo"
        repo.mkdir()
        git = ["git", "--git-dir", str(tmp_path / "git"), "--work-tree", str(repo)]
        run(*git, "init", "-q")
        for n in range(200):
            (repo / f"f{n}").write_text(f"file {n}\n")
        run(*git, "add", ".")
        run(*git, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")
        # git trusts an entry whose stat is as it was, unless it is as young as the index itself: age them first
        poll(lambda: int(os.stat(tmp_path / "git/index").st_mtime) < int(time.time()), 3, "a second")
        run(*git, "update-index", "-q", "--refresh")
        stats = {p.name: (p.stat().st_ino, p.stat().st_ctime_ns, p.stat().st_uid) for p in repo.iterdir()}
        yoga.run("wait")
        assert stats == {p.name: (p.stat().st_ino, p.stat().st_ctime_ns, p.stat().st_uid) for p in repo.iterdir()}
        trace = subprocess.run(
            ["strace", "-f", "-e", "trace=openat", *git, "status", "--short"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        opened = [line for line in trace.stderr.splitlines() if (str(repo) in line and "/f" in line) or '"f' in line]
        assert trace.stdout == ""
        assert opened == []


def test_du_follows_hydrate_and_dehydrate(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        folder = yoga.mountpoint / "d"
        folder.mkdir()
        for name in ("a", "b", "copy-of-a"):
            (folder / name).write_bytes(b"a" * 600_000 if "a" in name else os.urandom(500_000))
        yoga.run("wait")

        def blocks(machine: Machine) -> int:
            return sum(path.stat().st_blocks for path in (machine.mountpoint / "d").iterdir())

        full = blocks(yoga)
        assert full * 512 >= 1_700_000
        poll(lambda: (bates.mountpoint / "d/copy-of-a").exists(), 10, "learned")
        poll(lambda: blocks(bates) == 3, 3, "placeholders")
        bates.run("hydrate", "d")
        poll(lambda: blocks(bates) == full, 3, "hydrated")
        bates.run("dehydrate", "d/a")
        poll(lambda: (bates.mountpoint / "d/copy-of-a").stat().st_blocks == 1, 3, "dehydrated")
        yoga.run("dehydrate", "d")
        poll(lambda: blocks(yoga) == 3, 3, "dehydrated where it was written")


def test_tcfsignore_keeps_names_on_their_machine(tmp_path: Path) -> None:
    """What is made behind it stays, wherever it is made; without it, what was kept back goes out."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "before.log").write_text("published")
        (yoga.mountpoint / ".tcfsignore").write_text("*.log\n")
        yoga.run("wait")
        for machine in (yoga, bates):
            poll(lambda at=machine: stays_here(at, "probe.log"), 20, f"the patterns on {machine.name}", pause=0.3)
            (machine.mountpoint / f"{machine.name}.log").write_text("stays")
            (machine.mountpoint / f"{machine.name}.txt").write_text("goes")
            machine.run("wait")
        poll(lambda: (bates.mountpoint / "yoga.txt").exists(), 20, "the other files")
        assert (bates.mountpoint / "before.log").read_text() == "published"
        assert not (bates.mountpoint / "yoga.log").exists()
        assert not (yoga.mountpoint / "bates.log").exists()
        (bates.mountpoint / ".tcfsignore").unlink()
        poll(lambda: (bates.mountpoint / "yoga.log").exists(), 20, "what was kept back")
        poll(lambda: (yoga.mountpoint / "bates.log").exists(), 20, "what was kept back there")
        for machine in (yoga, bates):
            machine.run("wait")
            machine.fsck()


def stays_here(machine: Machine, name: str) -> bool:
    """True if a file of this name, made now, is not to be published."""
    path = machine.mountpoint / name
    path.write_text("probe")
    try:
        return os.getxattr(path, "user.tcfs.state") == b"excluded"
    finally:
        path.unlink()
