import errno
import random
import stat

import pytest
from treekit import Machine

from fs.ops import attr, directory, link, lookup, rename, xattr
from fs.ops import open as open_ops
from fs.ops.volume import Volume
from fs.tree import acl
from fs.tree.model import DIR
from sync.core.errors import AlreadyExists, NotFound, Stale

ROOT = 1


def listing(volume: Volume, handle: int, cookie: int = 0, take: int = 10_000) -> list[directory.Listed]:
    """Without the dots."""
    found = []
    for listed in directory.read_dir(volume, handle, cookie):
        if len(found) == take:
            break
        directory.listed(volume, listed)
        found.append(listed)
    return [listed for listed in found if listed.name not in directory.DOTS]


def test_the_dots_come_first_wherever_a_request_ends(volume: Volume, yoga: Machine) -> None:
    ino = directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0).ino
    inner = directory.mkdir(volume, ino, b"inner", 0o755, 0, 0).ino
    for folder, above, names in ((ROOT, ROOT, [b"d"]), (ino, ROOT, [b"inner"]), (inner, ino, [])):
        for _ in range(2):  # the second one is told from memory
            handle = directory.opendir(volume, folder)
            whole = list(directory.read_dir(volume, handle, 0))
            assert [listed.name for listed in whole] == [b".", b"..", *names]
            assert [listed.attr.ino for listed in whole[:2]] == [folder, above]
            assert {listed.attr.kind for listed in whole} == {DIR}
            for place, listed in enumerate(whole, 1):
                assert listed.cookie == place
                assert [left.name for left in directory.read_dir(volume, handle, place)] == [b".", b"..", *names][
                    place:
                ]
            directory.releasedir(volume, handle)
        handle, found = directory.opendir(volume, folder), []
        while one := next(iter(directory.read_dir(volume, handle, len(found))), None):
            found.append(one.name)
        assert found == [b".", b"..", *names]


def test_dots_are_no_lookups(volume: Volume, yoga: Machine) -> None:
    ino = directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0).ino
    for _ in range(2):
        listing(volume, directory.opendir(volume, ino))
    lookup.forget(volume, [(ino, 1)])
    assert not yoga.tree.is_known(ino)


def test_a_listing_in_steps_is_the_whole_listing(volume: Volume, yoga: Machine) -> None:
    names = [f"n{n:04d}" for n in range(1000)]
    for name in names:
        directory.mkdir(volume, ROOT, name.encode(), 0o755, 0, 0)
    handle = directory.opendir(volume, ROOT)
    found: list[bytes] = []
    cookie = 0
    while step := listing(volume, handle, cookie, 73):
        found += [listed.name for listed in step]
        cookie = step[-1].cookie
    assert found == [name.encode() for name in names]
    directory.releasedir(volume, handle)
    assert not volume.folders


def test_what_stays_comes_once_whatever_comes_and_goes(volume: Volume) -> None:
    for n in range(500):
        directory.mkdir(volume, ROOT, b"s%04d" % n, 0o755, 0, 0)
    handle = directory.opendir(volume, ROOT)
    first = listing(volume, handle, 0, 250)
    for n in range(0, 500, 7):
        directory.rmdir(volume, ROOT, b"s%04d" % n)
    for n in range(100):
        directory.mkdir(volume, ROOT, b"a%04d" % n, 0o755, 0, 0)  # sorts before what was listed
    rest = listing(volume, handle, first[-1].cookie)
    names = [listed.name for listed in (*first, *rest)]
    assert len(names) == len(set(names))
    assert {b"s%04d" % n for n in range(500) if n % 7} <= set(names)


def test_a_listing_starts_again_from_cookie_0_and_from_an_old_one(volume: Volume) -> None:
    for n in range(10):
        directory.mkdir(volume, ROOT, b"n%d" % n, 0o755, 0, 0)
    handle = directory.opendir(volume, ROOT)
    first = listing(volume, handle)
    assert listing(volume, handle, first[-1].cookie) == []
    assert [listed.name for listed in listing(volume, handle, first[4].cookie)] == [b"n%d" % n for n in range(5, 10)]
    directory.mkdir(volume, ROOT, b"new", 0o755, 0, 0)
    volume.changed()
    assert b"new" in [listed.name for listed in listing(volume, handle, 0)]


@pytest.mark.parametrize("count", [10, 120, 700])
@pytest.mark.parametrize("step", [25, 10_000])
def test_a_position_stays_behind_its_name_whatever_comes_and_goes(volume: Volume, count: int, step: int) -> None:
    for n in range(count):
        directory.mkdir(volume, ROOT, b"n%03d" % n, 0o755, 0, 0)
    handle = directory.opendir(volume, ROOT)
    given: dict[int, bytes] = {}

    def pass_from(cookie: int) -> list[bytes]:
        """All that comes behind it; each position is noted, and must be that of the same name for ever."""
        found: list[bytes] = []
        while some := listing(volume, handle, cookie, step):
            for listed in some:
                assert given.setdefault(listed.cookie, listed.name) == listed.name
                found.append(listed.name)
            cookie = some[-1].cookie
        return found

    there = set(pass_from(0))
    choice = random.Random(count)
    for turn in range(30):
        for _ in range(count // 20 + 1):
            gone = choice.choice(sorted(there))
            directory.rmdir(volume, ROOT, gone)
            new = b"n%03d.%02d" % (choice.randrange(count), turn)
            there.discard(gone)
            if new not in there:
                directory.mkdir(volume, ROOT, new, 0o755, 0, 0)
                there.add(new)
        volume.changed()
        for cookie in (0, *choice.sample(sorted(given), 5)):
            found = pass_from(cookie)
            assert found == sorted(name for name in there if name > given.get(cookie, b""))
    assert len(set(given.values())) == len(given)


def test_what_is_new_behind_the_old_end_is_there_after_a_rewind(volume: Volume) -> None:
    names = [b"n%d" % n for n in range(6)]
    for name in names[:3]:
        directory.mkdir(volume, ROOT, name, 0o755, 0, 0)
    handle = directory.opendir(volume, ROOT)
    end = listing(volume, handle)[-1].cookie
    assert listing(volume, handle, end) == []
    for name in names[3:]:
        directory.mkdir(volume, ROOT, name, 0o755, 0, 0)
    volume.changed()
    first = listing(volume, handle, 0, 5)  # the dots, and what was there before
    assert [listed.name for listed in first] == names[:3] and first[-1].cookie == end
    assert [listed.name for listed in listing(volume, handle, end)] == names[3:]
    assert listing(volume, handle, 1_000_000) == []  # never given


def test_who_rewinds_for_ever_fills_no_memory(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fs.ops.openfolder.GONE_MAX", 50)
    handle = directory.opendir(volume, ROOT)
    for n in range(500):
        name = b"n%03d" % n
        directory.mkdir(volume, ROOT, name, 0o755, 0, 0)
        volume.changed()
        (listed,) = listing(volume, handle)
        assert listed.name == name
        assert listing(volume, handle, listed.cookie) == []
        assert listing(volume, handle, listed.cookie - 1)[-1].name == name
        directory.rmdir(volume, ROOT, name)
    assert len(volume.folders[handle].names) < 100


def test_a_calm_folder_is_told_again_and_a_changed_one_is_not(volume: Volume, yoga: Machine, bates: Machine) -> None:
    directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0)
    yoga.write("f", b"1")
    yoga.cycle()
    volume.changed()
    handle = directory.opendir(volume, ROOT)
    first = listing(volume, handle)
    again = listing(volume, directory.opendir(volume, ROOT))
    assert [id(listed) for listed in again] == [id(listed) for listed in first]
    assert attr.getattr_of(volume, first[0].attr.ino) is first[0].attr
    assert listing(volume, handle, first[0].cookie)[0].name == first[1].name  # and it goes on from anywhere
    bates.learn()
    bates.write("f", b"23")
    bates.cycle()
    yoga.learn()  # the engine commits, and the mount has not looked yet
    with pytest.raises(Stale):
        attr.getattr_of(volume, first[1].attr.ino)
    assert [listed.attr.size for listed in listing(volume, handle)] == [0, 2]
    volume.changed()
    assert volume.recent.listing(ROOT) is None


def test_a_listing_counts_as_lookups(volume: Volume, yoga: Machine) -> None:
    ino = directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0).ino
    listing(volume, directory.opendir(volume, ROOT))
    lookup.forget(volume, [(ino, 1)])
    assert yoga.tree.is_known(ino)
    lookup.forget(volume, [(ino, 1)])
    assert not yoga.tree.is_known(ino)


def test_absent_names_are_none(volume: Volume) -> None:
    assert lookup.lookup(volume, ROOT, b"absent") is None


@pytest.mark.parametrize("name, number", [(b"n" * 256, errno.ENAMETOOLONG), ("ü".encode() * 128, errno.ENAMETOOLONG)])
def test_long_names(volume: Volume, name: bytes, number: int) -> None:
    for call in (
        lambda: lookup.lookup(volume, ROOT, name),
        lambda: directory.mkdir(volume, ROOT, name, 0o755, 0, 0),
        lambda: link.symlink(volume, ROOT, name, b"x", 0, 0),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == number


def test_names_that_are_not_utf8(volume: Volume) -> None:
    with pytest.raises(UnicodeDecodeError):
        lookup.lookup(volume, ROOT, b"\xff")
    with pytest.raises(UnicodeDecodeError):
        link.symlink(volume, ROOT, b"name", b"\xff", 0, 0)


def test_a_set_group_id_folder_gives_its_group(volume: Volume) -> None:
    parent = directory.mkdir(volume, ROOT, b"d", 0o2775, 5, 77).ino
    below = directory.mkdir(volume, parent, b"sub", 0o755, 5, 6)
    assert (below.gid, below.mode) == (77, 0o755 | stat.S_ISGID)
    _, file = open_ops.create(volume, parent, b"f", 0o644, 1, 5, 6)
    assert (file.gid, file.mode) == (77, 0o644)


def test_flags_of_rename(volume: Volume) -> None:
    directory.mkdir(volume, ROOT, b"a", 0o755, 0, 0)
    directory.mkdir(volume, ROOT, b"b", 0o755, 0, 0)
    with pytest.raises(AlreadyExists):
        rename.rename(volume, ROOT, b"a", ROOT, b"b", rename.RENAME_NOREPLACE)
    with pytest.raises(OSError) as caught:
        rename.rename(volume, ROOT, b"a", ROOT, b"b", rename.RENAME_EXCHANGE | rename.RENAME_NOREPLACE)
    assert caught.value.errno == errno.EINVAL
    rename.rename(volume, ROOT, b"a", ROOT, b"b", rename.RENAME_EXCHANGE)
    rename.rename(volume, ROOT, b"a", ROOT, b"b", 0)
    with pytest.raises(NotFound):
        directory.rmdir(volume, ROOT, b"a")


def test_extended_attributes(volume: Volume) -> None:
    ino = directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0).ino
    assert not xattr.is_kept(b"system.a") and xattr.is_absent(volume, b"security.capability")
    assert xattr.getxattr(volume, ino, b"user.a") is None
    xattr.setxattr(volume, ino, b"user.a", b"1", 0, 0, set)
    assert xattr.getxattr(volume, ino, b"user.a") == b"1"
    assert xattr.listxattr(volume, ino, 0) == [b"user.a"]
    for name, value, number in (
        (b"system.a", b"1", errno.EOPNOTSUPP),
        (b"user.", b"1", errno.EINVAL),
        (b"user." + b"n" * 255, b"1", errno.ERANGE),
        (b"user.b", b"1" * 65_537, errno.E2BIG),
    ):
        with pytest.raises(OSError) as caught:
            xattr.setxattr(volume, ino, name, value, 0, 0, set)
        assert caught.value.errno == number
    xattr.removexattr(volume, ino, b"user.a")
    with pytest.raises(OSError) as caught:
        xattr.removexattr(volume, ino, b"user.a")
    assert caught.value.errno == errno.ENODATA


@pytest.mark.parametrize(
    ("uid", "gid", "more", "stays"),
    [(0, 0, (), True), (1000, 5, (), True), (1000, 6, (5,), True), (1000, 6, (), False)],
)
def test_an_acl_takes_the_group_id_bit_as_chmod_does(
    volume: Volume, uid: int, gid: int, more: tuple[int, ...], stays: bool
) -> None:
    ino = directory.mkdir(volume, ROOT, b"d", 0o2755, 1000, 5).ino
    entries = ((acl.USER_OBJ, 7), (acl.GROUP_OBJ, 5), (acl.OTHER, 0))
    value = acl.encode(tuple(acl.AclEntry(tag, permissions, 0xFFFFFFFF) for tag, permissions in entries))
    xattr.setxattr(volume, ino, b"system.posix_acl_access", value, uid, gid, lambda: more)
    assert volume.tree.attr(ino).mode == (0o2750 if stays else 0o750)


def test_attributes_that_stay_here(volume: Volume) -> None:
    ino = directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0).ino
    for name in (b"user.a", b"trusted.a", b"security.a"):
        xattr.setxattr(volume, ino, name, b"1", 0, 0, set)
    assert xattr.listxattr(volume, ino, 0) == [b"security.a", b"trusted.a", b"user.a"]
    assert xattr.listxattr(volume, ino, 1000) == [b"security.a", b"user.a"]
    xattr.removexattr(volume, ino, b"trusted.a")
    assert xattr.getxattr(volume, ino, b"trusted.a") is None


@pytest.mark.parametrize("how", ["rmdir", "replace"])
@pytest.mark.parametrize("is_shown", [False, True])
def test_a_removed_folder_that_is_open(volume: Volume, yoga: Machine, how: str, is_shown: bool) -> None:
    """As on ext4: no links, nothing in it, and nothing can be made in it; until nobody knows it any more."""
    yoga.mkdir("d", 0o750)
    if is_shown:
        yoga.cycle()
    found = lookup.lookup(volume, ROOT, b"d")
    assert found is not None
    lookup.forget(volume, [(found.ino, yoga.tree.state.inodes.known[found.ino].count - 1)])
    handle = directory.opendir(volume, found.ino)
    if how == "rmdir":
        directory.rmdir(volume, ROOT, b"d")
    else:
        directory.mkdir(volume, ROOT, b"other", 0o700, 0, 0)
        rename.rename(volume, ROOT, b"other", ROOT, b"d", 0)

    def is_as_expected() -> None:
        shown = attr.getattr_of(volume, found.ino)
        assert (shown.nlink, shown.kind, shown.mode) == (0, DIR, 0o750)
        for again in (handle, directory.opendir(volume, found.ino)):
            assert listing(volume, again) == []
        assert xattr.listxattr(volume, found.ino, 0) == []
        with pytest.raises(NotFound):
            directory.mkdir(volume, found.ino, b"new", 0o755, 0, 0)
        with pytest.raises(NotFound):
            open_ops.create(volume, found.ino, b"new", 0o644, 1, 0, 0)

    is_as_expected()
    yoga.cycle()
    is_as_expected()
    assert yoga.exists("d") == (how == "replace")
    lookup.forget(volume, [(found.ino, 1)])
    with pytest.raises(Stale):
        attr.getattr_of(volume, found.ino)
    assert not yoga.tree.state.inodes.removed


def test_a_folder_that_is_made_again_is_another_one(volume: Volume, yoga: Machine) -> None:
    old = directory.mkdir(volume, ROOT, b"d", 0o755, 0, 0)
    directory.rmdir(volume, ROOT, b"d")
    new = directory.mkdir(volume, ROOT, b"d", 0o700, 0, 0)
    directory.mkdir(volume, new.ino, b"inner", 0o755, 0, 0)
    assert (attr.getattr_of(volume, old.ino).nlink, attr.getattr_of(volume, new.ino).nlink) == (0, 3)
    assert listing(volume, directory.opendir(volume, old.ino)) == []
    assert len(listing(volume, directory.opendir(volume, new.ino))) == 1
    yoga.cycle()
    assert attr.getattr_of(volume, new.ino).mode == 0o700
