"""Which call makes which watchers hear of which change."""

from fs.replay.plan import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    Poke,
    ends_of_watches,
    inside_first,
    left_old,
    made_again,
    pokes,
)
from fs.tree.change import Change
from fs.tree.model import DIR, FILE, SYMLINK, Attr
from sync.state.changes import What

FOLDER, OTHER, INO = 10, 20, 30
OLD = Attr(INO, FILE, 0o644, 1, 0, 0, 3, 0, 0, 0, 1, 5)


def change(what: What, kind: int = FILE, *, size: int = 5, ino: int = INO, old: Attr | None = None) -> Change:
    return Change(what, kind, FOLDER, "d", "a", 0o644, size, ino, old)


def calls(changed: Change, **watches: int) -> list[str]:
    numbers = {"folder": FOLDER, "other": OTHER, "itself": INO}
    return [poke.what for poke in pokes(changed, {numbers[name]: mask for name, mask in watches.items()})]


def test_nobody_who_watches_for_something_else_costs_anything() -> None:
    every = 0xFFF
    for what, bits in (
        (What.CREATED, IN_CREATE | IN_CLOSE_WRITE),
        (What.REMOVED, IN_DELETE),
        (What.MODIFIED, IN_MODIFY | IN_CLOSE_WRITE),
        (What.ATTRIBUTES, IN_ATTRIB),
    ):
        assert calls(change(what)) == []
        assert calls(change(what), folder=every & ~bits) == []
        assert calls(change(what), folder=every) != []
        assert calls(change(what), other=every) == []


def test_the_end_of_writing_is_made_for_those_who_wait_for_it() -> None:
    assert calls(change(What.MODIFIED), folder=IN_MODIFY) == ["touch"]
    assert calls(change(What.MODIFIED), folder=IN_CLOSE_WRITE) == ["rewrite"]
    assert calls(change(What.MODIFIED), itself=IN_CLOSE_WRITE) == ["rewrite"]
    assert calls(change(What.MODIFIED, SYMLINK), folder=IN_CLOSE_WRITE | IN_MODIFY) == ["touch"]
    assert calls(change(What.CREATED), folder=IN_CREATE) == ["create"]
    assert calls(change(What.CREATED), folder=IN_CLOSE_WRITE) == ["create", "rewrite"]
    assert calls(change(What.CREATED, size=0), folder=IN_CLOSE_WRITE) == ["create"]
    assert calls(change(What.CREATED, DIR), folder=IN_CLOSE_WRITE) == ["create"]


def test_who_watches_the_thing_itself() -> None:
    assert calls(change(What.MODIFIED), itself=IN_MODIFY) == ["touch"]
    assert calls(change(What.ATTRIBUTES), itself=IN_ATTRIB) == ["chmod"]
    assert calls(change(What.REMOVED), itself=0xFFF) == []  # the kernel is told that it is gone: that is heard
    assert calls(change(What.MODIFIED, ino=0), itself=IN_MODIFY) == []


def test_a_mode_of_a_symlink_cannot_be_set() -> None:
    assert calls(change(What.ATTRIBUTES, SYMLINK), folder=IN_ATTRIB) == []


def test_a_move_is_heard_at_both_ends() -> None:
    origin = Change(What.REMOVED, FILE, OTHER, "e", "b", 0o644, 5, INO)
    moved = Change(What.MOVED, FILE, FOLDER, "d", "a", 0o644, 5, INO, None, origin)
    for watches in ({OTHER: IN_MOVED_FROM}, {FOLDER: IN_MOVED_TO}, {INO: IN_MOVE_SELF}):
        (poke,) = pokes(moved, watches)
        assert (poke.what, poke.folder, poke.name, poke.to_folder, poke.to_name) == ("move", "e", "b", "d", "a")
    assert pokes(moved, {OTHER: IN_MOVED_TO, FOLDER: IN_MOVED_FROM, INO: IN_MODIFY}) == []


def test_a_watch_of_a_content_that_is_gone_ends() -> None:
    changed = change(What.MODIFIED, old=OLD)
    assert ends_of_watches([changed], {FOLDER: 0xFFF}) == []
    (item,) = ends_of_watches([changed], {INO: IN_MODIFY})
    assert (item.parent, item.name, item.ino, item.kind) == (FOLDER, "a", INO, "gone")
    assert ends_of_watches([change(What.MODIFIED)], {INO: IN_MODIFY}) == []
    assert [(item.name, item.kind) for item in left_old([changed, change(What.MODIFIED)])] == [("a", "entry")]


def test_a_watch_of_what_was_moved_ends_where_it_is_now() -> None:
    def moved(kind: int, *, is_another: bool) -> Change:
        origin = Change(What.REMOVED, kind, OTHER, "e", "b", 0o644, 5, INO)
        return Change(What.MOVED, kind, FOLDER, "d", "a", 0o644, 5, INO, None, origin, is_another)

    every = {FOLDER: 0xFFF, INO: 0xFFF}
    (item,) = ends_of_watches([moved(DIR, is_another=True)], every)
    assert (item.parent, item.name, item.ino, item.kind) == (FOLDER, "a", INO, "gone")
    (poke,) = made_again([moved(DIR, is_another=True)], every)
    assert (poke.what, poke.folder, poke.name) == ("create", "d", "a")
    assert len(ends_of_watches([moved(FILE, is_another=True)], every)) == 1
    assert made_again([moved(FILE, is_another=True)], every) == []
    for nobody in ({FOLDER: 0xFFF}, {INO: 0xFFF}, {FOLDER: 0xFFF & ~IN_CREATE, INO: 0xFFF}):
        assert made_again([moved(DIR, is_another=True)], nobody) == []
    for kind in (FILE, DIR):  # names of one file keep its number
        assert ends_of_watches([moved(kind, is_another=False)], every) == []
        assert made_again([moved(kind, is_another=False)], every) == []


def test_a_folder_is_removed_behind_all_that_happens_in_it() -> None:
    def poke(what: str, path: str) -> Poke:
        folder, _, name = path.rpartition("/")
        return Poke(Change(What.REMOVED, FILE, FOLDER, folder, name, 0o644), what, folder, name)

    found = ["a/b/c/1", "a/b/c", "a/b", "a2", "a", "a/b/c/2", "x", "x/late", "a/b/c/3", "z"]
    ordered = inside_first([poke("remove", path) for path in found])
    assert [each.change.path for each in ordered] == [
        "a/b/c/1", "a2", "a/b/c/2", "x/late", "x", "a/b/c/3", "a/b/c", "a/b", "a", "z",
    ]  # fmt: skip
    created = [poke("create", path) for path in ("a", "a/1")]
    assert inside_first(created) == created
