"""What may overtake a seal that waits, and what may not."""

import pytest

from sync.core.manifest import PathVersion
from sync.state.rows import DIR, FILE
from sync.state.tree.reader import Seal
from sync.worker.order import Held, in_order


def seal(op: str, path: str, *, kind: int | None = FILE, **more: object) -> Seal:
    values: dict[str, object] = dict.fromkeys(Seal.__struct_fields__)
    values |= {"op": op, "path": path, "kind": kind, "seal_id": path.encode(), "seen": [], "resolved": False} | more
    return Seal(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "later",
    [
        seal("put", "d/other"),
        seal("put", "d", kind=DIR),
        seal("put", "d/huge2"),
        seal("put", "dd"),
        seal("remove", "d/other", kind=None),
        seal("remove", "other", kind=None, moved_to="elsewhere"),
        seal("movedir", "f", kind=DIR, from_path="e"),
        seal("put", "elsewhere", moved_from=PathVersion("d/other", "v")),
    ],
)
def test_what_may_go_before_a_large_file(later: Seal) -> None:
    held = Held()
    held.add(seal("put", "d/huge"))
    assert not held.holds(later)


@pytest.mark.parametrize(
    "later",
    [
        seal("put", "d/huge"),
        seal("put", "d/huge/below"),  # it is a folder by then
        seal("put", "d"),  # it is a file by then
        seal("remove", "d", kind=None),
        seal("remove", "d/huge", kind=None),
        seal("remove", "old", kind=None, moved_to="d/huge"),
        seal("movedir", "e", kind=DIR, from_path="d"),
        seal("movedir", "d", kind=DIR, from_path="e"),
        seal("put", "elsewhere", moved_from=PathVersion("d/huge", "")),
    ],
)
def test_what_waits_for_a_large_file(later: Seal) -> None:
    held = Held()
    assert not held.holds(later)
    held.add(seal("put", "d/huge"))
    assert held.holds(later)


def test_what_waits_is_waited_for() -> None:
    held = Held()
    held.add(seal("put", "d/huge"))
    held.add(seal("movedir", "e", kind=DIR, from_path="d"))
    assert held.holds(seal("put", "e/f"))
    assert held.holds(seal("put", "e/sub", kind=DIR))
    assert held.holds(seal("put", "d/new"))
    assert not held.holds(seal("put", "f"))


def test_all_names_of_a_file_go_out_or_none() -> None:
    a, other, b, c = seal("put", "a", grp=b"a"), seal("put", "o"), seal("put", "d/b", grp=b"a"), seal("put", "d/b/x")
    held = Held()
    held.add(seal("put", "d"))  # a file, where the folder of one name is to be
    assert in_order([a, other, b, c], set(), held) == [other]
    assert held.holds(seal("put", "a")) and held.holds(c)
    assert in_order([a, other, b], {b"a"}, Held()) == [other]
    assert in_order([a, other, b], {b"d/b"}, Held()) == [other]
    assert in_order([a, other, b], set(), Held()) == [a, other, b]
    twin = seal("put", "d/t", grp=b"t"), seal("put", "o", grp=b"t")  # one held name holds another file's
    assert in_order([*twin, a, seal("put", "d/t", seal_id=b"2", grp=b"a")], {b"o"}, Held()) == []


def test_who_steps_aside_goes_all_the_way_or_nowhere() -> None:
    before, aside = seal("put", "a/huge"), seal("movedir", "1", kind=DIR, from_path="b", node=2)
    other, onward = seal("movedir", "b", kind=DIR, from_path="a", node=1), seal("movedir", "a", from_path="1", node=2)
    free = seal("put", "x")
    assert in_order([before, aside, other, free, onward], {b"a/huge"}, held := Held()) == [free]
    assert held.holds(seal("put", "b/y"))
    assert in_order([before, aside, other, onward], set(), Held()) == [before, aside, other, onward]
