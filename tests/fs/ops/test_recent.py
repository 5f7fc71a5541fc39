from fs.ops.recent import NAMES_MAX, Listed, Listing, Recent
from fs.tree.model import Attr


class Database:
    def __init__(self) -> None:
        self.version = 1

    def __call__(self) -> int:
        return self.version


def listing(first: int, count: int) -> Listing:
    entries = [
        Listed(b"%d" % ino, Attr(ino, 1, 0o644, 1, 0, 0, 5, 1, 2, 3, 1, 9), place + 1)
        for place, ino in enumerate(range(first, first + count))
    ]
    return Listing([entry.name.decode() for entry in entries], entries, [])


def test_what_was_kept_is_told_until_something_changes() -> None:
    database = Database()
    recent = Recent(database)
    found = listing(10, 3)
    recent.keep(recent.begin(), 1, found)
    assert recent.listing(1) is found and recent.attr(11) is found.entries[1].attr
    assert recent.listing(2) is None and recent.attr(99) is None
    recent.forget()
    assert recent.listing(1) is None and recent.attr(11) is None


def test_a_commit_of_the_engine_is_a_change() -> None:
    database = Database()
    recent = Recent(database)
    recent.keep(recent.begin(), 1, listing(10, 3))
    database.version = 2
    assert recent.attr(11) is None and recent.listing(1) is None


def test_what_was_read_during_a_commit_is_not_kept() -> None:
    database = Database()
    recent = Recent(database)
    began = recent.begin()
    database.version = 2
    recent.keep(began, 1, listing(10, 3))
    assert recent.listing(1) is None


def test_it_is_bounded() -> None:
    recent = Recent(Database())
    for folder in range(30):
        recent.keep(recent.begin(), folder, listing(1000 * folder + 100, 900))
    kept = sum(recent.attr(ino) is not None for ino in range(31_000))
    assert 0 < kept <= NAMES_MAX
    assert recent.listing(29) is not None and recent.listing(0) is None
