"""Files with several names, on two machines: what their tests ask and do again and again."""

from treekit import Machine

from sync.core.manifest import Manifest, decode_record
from sync.state.check import check


def same(machine: Machine, *paths: str) -> bool:
    """True if these, and no others, are the names of one file."""
    attrs = [machine.tree.lookup(*machine.place(path)) for path in paths]
    for attr in attrs:
        machine.tree.forget(attr.ino, 1)
    return len({attr.ino for attr in attrs}) == 1 and {attr.nlink for attr in attrs} == {len(paths)}


def go_round(*machines: Machine) -> None:
    """What each has done comes to all, and is noted by all."""
    for _ in range(3):
        for machine in machines:
            machine.learn()
            machine.cycle()
            machine.note()
    for machine in machines:
        assert check(machine.db) == []
        machine.check()


def record_path(line: bytes) -> str:
    """The path of a published version."""
    record = decode_record(line)
    assert isinstance(record, Manifest)
    return record.rel_path
