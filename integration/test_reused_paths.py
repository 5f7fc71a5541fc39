"""Paths that are used again right after they were published, by the commands that people use, in real mounts.

A plain folder beside the mount says what there should be: on the machine at once, and everywhere when it is published,
without any conflict.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

# What is shared before; what is done then.
DRILLS = {
    "out and back": ("mkdir old; echo app >old/app; echo cfg >old/cfg", "mkdir t; mv old/* t/; rmdir old; mv t old"),
    "down and up": (
        "mkdir old; echo app >old/app; echo cfg >old/cfg",
        "mkdir old/sub; mv old/cfg old/app old/sub/; mv old/sub sub; rmdir old; mv sub old",
    ),
    "into another": ("mkdir d e; echo d >d/x; echo e >e/x", "mv e/x d/x; rmdir e; mv d e"),
    "over its own": ("mkdir d e; echo d >d/x; echo e >e/x", "mv e/x d/x; mv -T d e"),
    "some of it": (
        "mkdir old; echo app >old/app; echo cfg >old/cfg",
        "mkdir new; echo 2 >new/app; mv old/cfg new/cfg; rm -rf old; mv new old",
    ),
    "made again": ("mkdir d; echo 1 >d/x", "rm -rf d; mkdir d; echo 2 >d/x"),
    "replaced by a new one": (
        "mkdir old; echo 1 >old/x; echo 1 >old/y",
        "mkdir new; echo 2 >new/x; rm -rf old; mv new old",
    ),
    "replaced by a shared one": (
        "mkdir -p old/s new/s; echo 1 >old/s/x; echo 1 >old/y; echo 2 >new/s/x; echo 2 >new/z",
        "rm -rf old; mv new old",
    ),
    "copied again": ("mkdir o n; echo 1 >o/x; echo 2 >n/x; echo 2 >n/y", "rm -rf o; cp -a n o"),
    "deployed": (
        "mkdir d d.new; echo 1 >d/x; echo 1 >d/y; echo 2 >d.new/x",
        "mv d d.old; mv d.new d; rm -rf d.old",
    ),
    "emptied and replaced": ("mkdir old new; echo 1 >old/x; echo 2 >new/x", "rm old/x; mv -T new old"),
    "a file, then a folder": ("mkdir d; echo 1 >f; echo 2 >d/x", "rm f; mv d f"),
    "a folder, then a file": ("mkdir -p d/e; echo 1 >d/e/x", "rm -rf d; echo 2 >d"),
    "branches": (
        "git init -q -b main .; git config user.email a@b.c; git config user.name a; mkdir -p src/lib; echo 1 >src/a;"
        "echo 1 >src/lib/b; echo 1 >readme; git add .; git commit -qm one; git checkout -qb other; git rm -qr src;"
        "echo 2 >readme; git commit -qam two; git checkout -q main",
        "git checkout -q other; git checkout -q -",
    ),
}
PAUSES = {"at once": "", "with pauses": "trap 'sleep 0.1' DEBUG; "}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    with fleet(tmp_path_factory.mktemp("fleet"), "yoga", "bates") as both:
        yield both


def shell(script: str, folder: Path) -> None:
    subprocess.run(["bash", "-ec", script], check=True, cwd=folder, timeout=60)


def at_once(scripts: dict[Path, str]) -> list[tuple[Path, str]]:
    """What each says that runs in its folder, all of them at the same time; nothing on stderr."""
    running = {
        folder: subprocess.Popen(
            ["bash", "-ec", script], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for folder, script in scripts.items()
    }
    done = {folder: process.communicate(timeout=60) for folder, process in running.items()}
    assert [said for _, said in done.values() if said] == []
    return [(folder, out) for folder, (out, _) in done.items()]


def tree(root: Path) -> dict[str, str]:
    """What a person sees there: contents of files, '/' for folders. Without what git keeps to itself."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.split("/")[0] != ".git":
            found[name] = "/" if path.is_dir() else path.read_text()
    return found


def shows(root: Path, plain: Path) -> bool:
    """While it changes, and while a mount is started, there may be nothing to be read."""
    try:
        return tree(root) == tree(plain)
    except OSError:
        return False


@pytest.mark.parametrize("pauses", PAUSES)
@pytest.mark.parametrize("drill", DRILLS)
def test_what_was_done_is_what_everybody_sees(machines: list[Machine], tmp_path: Path, drill: str, pauses: str) -> None:
    yoga, bates = machines
    if drill == "branches" and shutil.which("git") is None:
        pytest.skip("git is not installed")
    name = f"{drill} {pauses}".replace(" ", "-").replace(",", "")
    here, there, plain = yoga.mountpoint / name, bates.mountpoint / name, tmp_path / "plain"
    before, then = DRILLS[drill]
    for folder in (here, plain):
        folder.mkdir()
        shell(before, folder)
    yoga.run("wait")
    poll(lambda: there.exists() and shows(there, plain), 10, f"{tree(plain)} on bates")
    shell(PAUSES[pauses] + then, here)
    shell(then, plain)
    assert tree(here) == tree(plain)
    yoga.run("wait")
    assert tree(here) == tree(plain)
    poll(lambda: shows(there, plain), 10, f"{tree(plain)} on bates")
    assert tree(here) == tree(plain)
    if drill == "branches":
        assert subprocess.run(["git", "status", "--short"], cwd=here, text=True, capture_output=True).stdout == ""


def test_while_the_store_is_away(tmp_path: Path) -> None:
    """All of them at once, with a mount that is killed in between."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        drills = {name: script for name, script in DRILLS.items() if name != "branches"}
        plain = tmp_path / "plain"
        for name, (before, _) in drills.items():
            for root in (yoga.mountpoint, plain):
                (root / name).mkdir(parents=True)
                shell(before, root / name)
        yoga.run("wait")
        poll(lambda: shows(bates.mountpoint, plain), 10, "all on bates")
        store = tmp_path / "store"
        store.rename(tmp_path / "away")
        try:
            for number, (name, (_, then)) in enumerate(drills.items()):
                shell(then, yoga.mountpoint / name)
                shell(then, plain / name)
                assert tree(yoga.mountpoint) == tree(plain)
                if number == len(drills) // 2:
                    yoga.kill("mount")
                    poll(lambda: shows(yoga.mountpoint, plain), 20, "the mount again")
        finally:
            (tmp_path / "away").rename(store)
        yoga.run("wait", timeout=120)
        assert tree(yoga.mountpoint) == tree(plain)
        poll(lambda: shows(bates.mountpoint, plain), 20, "all on bates")
        yoga.fsck()
        bates.fsck()


def test_who_works_in_a_folder_that_was_made_again_stays_there(machines: list[Machine]) -> None:
    """Also when its making, and the removal of the one before, are published; getcwd fails where a name is lost."""
    yoga, _ = machines
    top = yoga.mountpoint / "again"
    make, look = (
        "mkdir repo; cd repo; echo > f; mkdir sub; cd sub",
        "for _ in {1..60}; do sleep 0.05; /bin/pwd; done | uniq",
    )
    befores = ("true", "rm -r repo", "mv repo old", "mkdir old; rm -r *")
    folders = [top / str(number) for number in range(len(befores))]
    for folder in folders[1:]:
        folder.mkdir(parents=True)
        shell(make, folder)
    yoga.run("wait")
    folders[0].mkdir()
    for folder, done in at_once({folder: f"{b}; {make}; {look}" for folder, b in zip(folders, befores, strict=True)}):
        assert f"{folder / 'repo/sub'}\n" == done


def test_a_program_that_was_built_again_is_not_a_removed_one(machines: list[Machine]) -> None:
    """Who asks which file it runs (/proc/self/exe) gets a path that can be run once more."""
    yoga, _ = machines
    build = "cp /bin/sleep prog; ./prog 60 &"
    look = "for _ in {1..60}; do sleep 0.05; readlink /proc/$!/exe; done | uniq; kill $!"
    befores = ("true", "rm prog", "mv prog prog~", f"rm prog; {build} kill $!; rm prog")
    folders = [yoga.mountpoint / "built" / str(number) for number in range(len(befores))]
    for folder in folders[1:]:
        folder.mkdir(parents=True)
        shell("cp /bin/sleep prog; ./prog 0", folder)
    yoga.run("wait")
    folders[0].mkdir()
    for folder, done in at_once({folder: f"{b}; {build} {look}" for folder, b in zip(folders, befores, strict=True)}):
        assert done.splitlines()[-1] == str(folder / "prog"), done
