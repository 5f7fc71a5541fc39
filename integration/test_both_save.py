"""Two machines save the same file in the ways of editors, and neither knows of the other."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll
from saving import SAVES
from toolkit import need, sh

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

BEFORE = "0\n" * 2000


def by_vim(backup: str) -> Callable[[Path, str], None]:
    """no: the old file is renamed to a backup, and a new one is written; yes: it is copied, and written in place."""
    settings = f"set writebackup backupcopy={backup} backupdir=. directory=. backupskip="

    def save(file: Path, text: str) -> None:
        sh(f"vim -Nu NONE -es -c '{settings}' -c '%d' -c 'call setline(1, \"{text.strip()}\")' -c wq f", file.parent)

    return save


def by_sed(file: Path, text: str) -> None:
    sh(f"sed -i '1s/.*/{text.strip()}/;2,$d' f", file.parent)


WAYS: dict[str, Callable[[Path, str], None]] = {
    "vim_renames": by_vim("no"),
    "vim_copies": by_vim("yes"),
    "sed": by_sed,
    **{save.__name__: save for save in SAVES},
}


def test_both_contents_are_there_afterwards(tmp_path: Path) -> None:
    """The store is away when both save. Then each has its own as NAME, and the other's beside it."""
    need("vim")
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        for way in WAYS:
            (yoga.mountpoint / way).mkdir()
            (yoga.mountpoint / way / "f").write_text(BEFORE)
        yoga.run("wait")
        poll(lambda: all(text_of(bates, way, "f") == BEFORE for way in WAYS), 30, "both have read all")
        (tmp_path / "store").rename(tmp_path / "away")
        for way, save in WAYS.items():
            for machine in (yoga, bates):
                save(machine.mountpoint / way / "f", f"{way} on {machine.name}\n")
        (tmp_path / "away").rename(tmp_path / "store")
        for machine in (yoga, bates):
            machine.run("wait", "--timeout", "60")
        for here, other in ((yoga, bates), (bates, yoga)):
            expected = {way: both(way, here, other) for way in WAYS}
            poll(lambda here=here, expected=expected: folders(here) == expected, 60, f"both contents on {here.name}")
        for machine in (yoga, bates):
            assert len(machine.data("conflicts")["conflicts"]) == len(WAYS)
            machine.fsck()


def both(way: str, here: Machine, other: Machine) -> dict[str, str]:
    """What is to stand in the folder on one of the machines; only one way leaves a backup of what was there before."""
    backup = {"f~": BEFORE} if way == "save_with_backup" else {}
    return {"f": f"{way} on {here.name}\n", f"f.{other.name}.conflict": f"{way} on {other.name}\n", **backup}


def folders(machine: Machine) -> dict[str, dict[str, str]]:
    """way -> name -> content"""
    found = {}
    for way in WAYS:
        names = sorted(path.name for path in (machine.mountpoint / way).iterdir())
        found[way] = {name: text_of(machine, way, name) for name in names}
    return found


def text_of(machine: Machine, way: str, name: str) -> str:
    """Nothing if it goes just now."""
    try:
        return (machine.mountpoint / way / name).read_text()
    except FileNotFoundError:
        return ""
