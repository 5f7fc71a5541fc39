"""TreeReader: seals, spans and what is dirty, from a tree.db written as the mount writes it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.core.errors import NotFound, Unsupported
from sync.core.manifest import PathVersion
from sync.core.ranges import RangeSet
from sync.env import FakeEnv
from sync.state.tree.database import layer_path, open_tree, tree_schema
from sync.state.tree.reader import _SEAL_COLUMNS, Dirty, DirtyState, Seal, TreeReader

NODE = "INSERT INTO node (id, kind, mode, uid, gid, atime_ns, mtime_ns, ctime_ns) VALUES (?, ?, 0, 0, 0, 0, 0, 0)"
SHOWN = {1: "", 20: "shown", 22: "shown/below"}


def shown_path(row_id: int) -> str:
    if row_id not in SHOWN:
        raise NotFound(f"{row_id}")
    return SHOWN[row_id]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_tree(FakeEnv(), tmp_path / "tree.db")
    yield connection
    connection.close()


@pytest.fixture
def reader(tmp_path: Path, tree: sqlite3.Connection) -> Iterator[TreeReader]:
    opened = TreeReader(FakeEnv(), tmp_path / "tree.db")
    yield opened
    opened.close()


def test_no_tree_yet_is_an_empty_one(tmp_path: Path) -> None:
    reader = TreeReader(FakeEnv(), tmp_path / "tree.db")
    assert (reader.seals(), reader.dirty(shown_path), reader.taken_upto(), reader.has_seals()) == ([], [], 0, False)
    open_tree(FakeEnv(), tmp_path / "tree.db").close()
    connection = open_tree(FakeEnv(), tmp_path / "tree.db")
    connection.execute("INSERT INTO meta VALUES ('taken_upto', 7)")
    assert reader.taken_upto() == 7
    reader.close()
    connection.close()


def test_a_newer_tree_is_refused(tmp_path: Path, tree: sqlite3.Connection) -> None:
    tree.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (tree_schema() + 1,))
    reader = TreeReader(FakeEnv(), tmp_path / "tree.db")
    with pytest.raises(Unsupported):
        reader.seals()
    with pytest.raises(Unsupported):
        open_tree(FakeEnv(), tmp_path / "tree.db")


def test_seals_come_in_order_without_those_answered(tree: sqlite3.Connection, reader: TreeReader) -> None:
    for number in range(4):
        tree.execute(
            "INSERT INTO seal (seal_id, round, op, path) VALUES (?, ?, 'remove', ?)",
            (bytes([number]) * 16, number // 2, f"p{number}"),
        )
    assert [(seal.path, seal.round) for seal in reader.seals()] == [("p0", 0), ("p1", 0), ("p2", 1), ("p3", 1)]
    assert [seal.path for seal in reader.seals({b"\0" * 16, b"\2" * 16})] == ["p1", "p3"]
    assert reader.has_seals()


def test_a_seal_is_read_whole(tree: sqlite3.Connection, reader: TreeReader) -> None:
    tree.execute(
        "INSERT INTO seal VALUES (5, x'ab', 2, 'put', 'd/f', NULL, 9, '[3]', 1, 420, 1000, 1001, 10, 11, 12, '',"
        " '{\"user.a\":\"YQ==\"}', 'm:1:00000000', 4, 6, '[\"m:1:00000000\"]', 'm:1:00000000', 1,"
        " '[\"old\",\"m:2:00000000\"]', 'elsewhere', '00ff', x'cd', 'ada', '100')"
    )
    assert reader.seals() == [
        Seal(
            ord=5,
            seal_id=b"\xab",
            round=2,
            op="put",
            path="d/f",
            from_path=None,
            node=9,
            dir_ids=(3,),
            kind=1,
            mode=0o644,
            uid=1000,
            gid=1001,
            size=10,
            mtime_ns=11,
            ctime_ns=12,
            target="",
            xattrs={"user.a": "YQ=="},
            base="m:1:00000000",
            layer=4,
            limit_below=6,
            seen=["m:1:00000000"],
            last="m:1:00000000",
            resolved=True,
            moved_from=PathVersion("old", "m:2:00000000"),
            moved_to="elsewhere",
            link_id="00ff",
            grp=b"\xcd",
            owner="ada",
            owner_group="100",
        )
    ]


def test_spans_of_one_layer(tree: sqlite3.Connection, reader: TreeReader) -> None:
    tree.executemany("INSERT INTO span VALUES (?, ?, ?)", [(1, 10, 20), (1, 0, 5), (2, 0, 99)])
    assert reader.spans(1) == RangeSet([(0, 5), (10, 20)])
    assert reader.spans(3) == RangeSet()
    assert reader.spans_of([3, 1]) == {1: RangeSet([(0, 5), (10, 20)]), 3: RangeSet()}


def test_where_layers_lie(tmp_path: Path) -> None:
    assert layer_path(tmp_path, 0x1234) == tmp_path / "34" / "0000000000001234"


def test_dirty_paths_and_why(tree: sqlite3.Connection, reader: TreeReader) -> None:
    assert not reader.is_sealed_or_dirty()
    for number, kind in ((3, 2), (5, 1), (7, 1), (9, 1), (11, 1), (13, 1), (15, 1), (17, 1)):
        tree.execute(NODE, (number, kind))
    tree.execute("UPDATE node SET unflushed = 1 WHERE id = 7")
    tree.execute("UPDATE node SET lost_path = 'gone/on' WHERE id = 13")
    tree.execute("INSERT INTO attach VALUES (24, 'was/here')")
    columns = "parent, name, node, dirty, local_only, gen, seal_id, sealed_gen"
    entry = f"INSERT INTO entry ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    tree.executemany(
        entry,
        [
            (1, "new", 3, 1, 0, 1, None, None),
            (3, "sealed", 5, 1, 0, 4, b"s", 4),
            (3, "writing", 7, 1, 0, 1, None, None),
            (22, "again", 9, 1, 0, 5, b"t", 4),
            (20, "removed", None, 1, 0, 1, None, None),
            (1, "clean", 11, 0, 0, 1, None, None),
            (1, "local.swp", 11, 1, 1, 1, None, None),
            (24, "kept", 15, 1, 0, 1, None, None),
            (999, "removed below what is gone", None, 1, 0, 1, None, None),
            (999, "written below what is gone", 17, 1, 0, 1, None, None),
        ],
    )
    assert reader.dirty(shown_path) == [
        Dirty("gone/on", DirtyState.UNSEALED, False, None),
        Dirty("new", DirtyState.UNSEALED, False, None),
        Dirty("new/sealed", DirtyState.SEALED, False, b"s"),
        Dirty("new/writing", DirtyState.WRITING, False, None),
        Dirty("shown/below/again", DirtyState.UNSEALED, False, b"t"),
        Dirty("shown/removed", DirtyState.UNSEALED, True, None),
        Dirty("was/here/kept", DirtyState.UNSEALED, False, None),
        Dirty("written below what is gone", DirtyState.UNSEALED, False, None),
    ]
    assert reader.is_sealed_or_dirty()


def test_what_is_dirty_in_one_folder_asks_once_for_the_folder(tree: sqlite3.Connection, reader: TreeReader) -> None:
    tree.executemany(NODE, [(3, 2), (5, 2)])
    entry = "INSERT INTO entry (parent, name, node, dirty, gen) VALUES (?, ?, ?, 1, 1)"
    tree.executemany(entry, [(20, "new", 3), (3, "in", 5), *((5, f"gone-{n}", None) for n in range(100))])
    asked: list[int] = []

    def shown(row_id: int) -> str:
        asked.append(row_id)
        return shown_path(row_id)

    found = reader.dirty(shown)
    assert {item.path for item in found[:3]} == {"shown/new", "shown/new/in", "shown/new/in/gone-0"}
    assert len(found) == 102
    assert asked == [20]


def test_folders_that_lie_in_themselves_end_nobodys_listing(tree: sqlite3.Connection, reader: TreeReader) -> None:
    tree.executemany(NODE, [(3, 2), (5, 2)])
    entry = "INSERT INTO entry (parent, name, node, dirty, gen) VALUES (?, ?, ?, ?, 1)"
    tree.executemany(entry, [(5, "a", 3, 0), (3, "b", 5, 0), (3, "lost", None, 1), (1, "found", None, 1)])
    assert [item.path for item in reader.dirty(shown_path)] == ["found"]


def test_seals_beside_those_that_are_known(tree: sqlite3.Connection, reader: TreeReader) -> None:
    assert not reader.has_seals_beside(())
    seal = "INSERT INTO seal (seal_id, round, op, path) VALUES (?, 1, 'remove', 'x')"
    tree.executemany(seal, [(b"a",), (b"b",)])
    assert reader.has_seals_beside({b"a"})
    assert not reader.has_seals_beside({b"a", b"b"})


def test_the_columns_of_a_seal_are_its_fields_in_their_order() -> None:
    assert tuple(each.strip() for each in _SEAL_COLUMNS.split(",")) == Seal.__struct_fields__
