"""user.tcfs.* and user.openvfs.*: made up when somebody asks, in no listing, and not to be set."""

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
from pyfuse3 import FUSEError
from treekit import Machine

from fs.adapter import Adapter
from fs.ops import seen
from fs.ops.volume import Volume
from fs.tree.seen import seen as seen_of

NAMES = [name.decode() for name in seen._ATTRIBUTES]


class Context:
    uid = gid = umask = 0
    pid = 1


def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def guarded() -> Any:
        with trio.fail_after(30):
            return await function(*args)

    return trio.run(guarded)


class Asking:
    """What getfattr, setfattr and listxattr get of the files of a volume."""

    def __init__(self, volume: Volume, machine: Machine) -> None:
        self.adapter = Adapter(volume)
        self.machine = machine

    def get(self, path: str, name: str) -> str | int | None:
        """The value; the number of the error, but for ENODATA, which is None."""
        value = self.raw(path, name)
        return value.decode() if isinstance(value, bytes) else value

    def raw(self, path: str, name: str) -> bytes | int | None:
        try:
            value: bytes = run(self.adapter.getxattr, self.ino(path), name.encode(), Context())
        except FUSEError as error:
            return None if error.errno == errno.ENODATA else error.errno
        return value

    def ino(self, path: str) -> int:
        """As the kernel gets it; it forgets nothing."""
        return self.machine.tree.lookup(*self.machine.place(path)).ino if path else 1

    def state(self, path: str) -> str | int | None:
        return self.get(path, "user.tcfs.state")

    def all(self, path: str) -> dict[str, str | int | None]:
        names = ("state", "pin", "version", "written_by", "hash")
        return {name: self.get(path, f"user.tcfs.{name}") for name in names}


@pytest.fixture
def asking(volume: Volume, yoga: Machine) -> Asking:
    return Asking(volume, yoga)


def publish(machine: Machine, *others: Machine) -> None:
    machine.cycle()
    for other in others:
        other.learn()
        other.note()


def test_a_file_of_another_machine(asking: Asking, yoga: Machine, bates: Machine, client: Any) -> None:
    bates.write("a", b"hello")
    publish(bates, yoga)
    version = yoga.tree.state.view.manifest(seen_of(yoga.tree.state, yoga.ino("a")).version or "")
    expected = {
        "state": "online-only",
        "pin": "0",
        "version": f"bates:{version.seq}",
        "written_by": "bates",
        "hash": version.content_id,
    }
    assert asking.all("a") == expected
    assert asking.get("a", "user.openvfs.state") == "virtual"
    client.cache(version.chunks[0], b"hello")
    assert asking.all("a") == {**expected, "state": "local"}
    assert asking.get("a", "user.openvfs.state") == "hydrated"


def test_some_of_it_is_here(asking: Asking, yoga: Machine, bates: Machine, client: Any) -> None:
    bates.write("a", b"x" * 10)
    publish(bates, yoga)
    ids = [f"{n:064x}" for n in range(3)]
    asking.adapter._volume.reader.absent_from_whole = lambda version: ids  # type: ignore[method-assign]
    for chunk, state in zip(ids, ("partial", "partial", "local"), strict=True):
        client.cache(chunk, b"")
        assert asking.state("a") == state


def test_a_file_of_very_many_chunks_is_looked_at_in_a_thread(asking: Asking, yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"x" * 10)
    publish(bates, yoga)
    many = [f"{n:064x}" for n in range(10 * seen.LOOKS_AT_ONCE)]
    asking.adapter._volume.reader.absent_from_whole = lambda version: many  # type: ignore[method-assign]
    assert asking.state("a") == "online-only"


def test_a_file_that_was_changed_here(asking: Asking, yoga: Machine, bates: Machine) -> None:
    yoga.write("new", b"one")
    changed = {"state": "dirty", "pin": "0", "version": None, "written_by": "yoga", "hash": None}
    assert asking.all("new") == changed
    publish(yoga, bates)
    content = yoga.fleet.content_of(b"one").content_id
    published = {"state": "local", "pin": "0", "version": "yoga:1", "written_by": "yoga", "hash": content}
    assert asking.all("new") == published
    yoga.tree.setattr(yoga.ino("new"), mode=0o600)
    assert asking.all("new") == changed
    publish(yoga, bates)
    bates.write("new", b"another")
    publish(bates, yoga)
    assert asking.all("new")["written_by"] == "bates"


def test_what_waits_in_the_outbox_is_not_safe(asking: Asking, yoga: Machine) -> None:
    yoga.write("a", b"one")
    publish(yoga)
    assert asking.state("a") == "local"
    with yoga.db.transaction() as txn:
        txn._execute("INSERT INTO outbox VALUES (1, 1, ?, x'', x'')", txn.machine_number(yoga.machine_id))
    assert asking.state("a") == "dirty"


def test_a_conflict_is_told_of_both_files(asking: Asking, yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.write("a", b"ours")
    publish(yoga)
    yoga.learn()
    yoga.note()
    sibling = "a.bates.conflict"
    assert [asking.state(path) for path in ("a", sibling)] == ["conflict", "conflict"]
    assert [asking.get(path, "user.tcfs.written_by") for path in ("a", sibling)] == ["yoga", "bates"]
    yoga.unlink(sibling)
    assert asking.state("a") == "dirty"
    publish(yoga)
    assert asking.state("a") == "local"


def test_what_stays_here_is_excluded(asking: Asking, yoga: Machine) -> None:
    yoga.write(".a.swp", b"one")
    assert asking.all(".a.swp") == {
        "state": "excluded",
        "pin": "0",
        "version": None,
        "written_by": "yoga",
        "hash": None,
    }
    assert asking.get(".a.swp", "user.openvfs.pinstate") == "excluded"


def test_folders_and_symlinks(asking: Asking, yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.symlink("d/l", "target")
    publish(bates, yoga)
    for path in ("d", "d/l"):
        assert asking.state(path) == "local"
        assert asking.get(path, "user.tcfs.written_by") == "bates"
        assert asking.get(path, "user.tcfs.hash") is None
        assert asking.get(path, "user.openvfs.state") is None
    yoga.mkdir("d/new")
    assert asking.state("d/new") == "dirty"
    assert asking.state("") == "local"
    assert asking.get("", "user.tcfs.version") is None


def test_an_open_file_tells_of_what_it_shows(asking: Asking, yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    publish(bates, yoga)
    file = yoga.open("a")
    first = seen_of(yoga.tree.state, file.node.id).version
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"two")
    publish(bates, yoga)
    assert seen_of(yoga.tree.state, file.node.id).version == first
    assert seen_of(yoga.tree.state, asking.ino("a")).version != first
    yoga.release(file)


def test_what_dolphin_reads(asking: Asking, yoga: Machine, bates: Machine, client: Any) -> None:
    """nlohmann::json::from_msgpack of a map with these keys: https://github.com/opencloud-eu/openvfs."""
    bates.write("a", b"hello")
    publish(bates, yoga)
    version = seen_of(yoga.tree.state, yoga.ino("a")).version or ""
    raw = asking.raw("a", "user.openvfs.data")
    assert isinstance(raw, bytes)
    expected = {"etag": version, "fileid": str(yoga.ino("a")), "size": 5, "state": 1, "pinstate": 0}
    assert msgspec.msgpack.decode(raw) == expected
    client.cache(yoga.tree.state.view.manifest(version).chunks[0], b"hello")  # type: ignore[arg-type]
    raw = asking.raw("a", "user.openvfs.data")
    assert isinstance(raw, bytes)
    assert msgspec.msgpack.decode(raw) == {**expected, "state": 0}
    assert asking.get("a", "user.openvfs.realsize") in ("512", "0")
    assert asking.get("a", "user.openvfs.pinstate") == "unspecified"


def test_no_listing_has_them_and_none_is_set(asking: Asking, yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"hello")
    bates.tree.setxattr(bates.ino("a"), "user.openvfs.state", b"of an older program")
    bates.tree.setxattr(bates.ino("a"), "user.real", b"1")
    publish(bates, yoga)
    adapter, ino = asking.adapter, yoga.ino("a")
    assert run(adapter.listxattr, ino, Context()) == [b"user.real"]
    assert asking.get("a", "user.openvfs.state") == "virtual"
    for name in [
        *(name for name in NAMES if name != "user.tcfs.pin"),
        "user.tcfs.unknown",
        "user.openvfs.registration",
    ]:
        for change in (
            lambda raw: adapter.setxattr(ino, raw, b"1", Context()),
            lambda raw: adapter.removexattr(ino, raw, Context()),
        ):
            with pytest.raises(FUSEError) as caught:
                run(change, name.encode())
            assert caught.value.errno == errno.EOPNOTSUPP
    assert asking.get("a", "user.tcfs.unknown") is None
    assert not yoga.tree.state.pending


def test_a_pin_is_set_and_taken_away(
    asking: Asking, volume: Volume, yoga: Machine, bates: Machine, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bates.mkdir("d")
    bates.write("d/a", b"hello")
    publish(bates, yoga)
    calls: list[tuple[str, object]] = []

    async def call(verb: str, args: dict[str, object]) -> None:
        assert volume.invalidations.is_busy(yoga.ino("d"))
        calls.append((verb, args["paths"]))
        volume.policies = volume.policies.pinned("d") if verb == "pin" else volume.policies.unpinned("d")

    monkeypatch.setattr(client, "call", call, raising=False)
    adapter, folder = asking.adapter, asking.ino("d")

    def errno_of(change: Callable[..., Awaitable[Any]], *args: Any) -> int:
        with pytest.raises(FUSEError) as caught:
            run(change, *args)
        number: int = caught.value.errno
        return number

    assert errno_of(adapter.removexattr, folder, b"user.tcfs.pin", Context()) == errno.ENODATA
    run(adapter.setxattr, folder, b"user.tcfs.pin", b"1", Context())
    assert calls == [("pin", ["/d"])]
    yoga.write("gone", b"x")
    publish(yoga, yoga)
    number, handle = yoga.ino("gone"), yoga.open("gone")
    yoga.unlink("gone")
    assert errno_of(adapter.setxattr, number, b"user.tcfs.pin", b"1", Context()) == errno.ENOENT
    yoga.release(handle)
    publish(yoga, yoga)
    assert len(calls) == 1
    assert [asking.get(path, "user.tcfs.pin") for path in ("d", "d/a", "")] == ["1", "1", "0"]
    assert asking.get("d/a", "user.openvfs.pinstate") == "alwayslocal"
    assert [asking.state(path) for path in ("d", "d/a")] == ["pinned", "online-only"]
    client.cache(yoga.tree.state.view.manifest(seen_of(yoga.tree.state, asking.ino("d/a")).version).chunks[0], b"hello")  # type: ignore[arg-type]
    assert asking.state("d/a") == "pinned"
    assert errno_of(adapter.setxattr, folder, b"user.tcfs.pin", b"yes", Context()) == errno.EINVAL
    run(adapter.removexattr, folder, b"user.tcfs.pin", Context())
    run(adapter.setxattr, folder, b"user.tcfs.pin", b"0", Context())
    assert [verb for verb, _ in calls] == ["pin", "unpin", "unpin"]
    assert asking.get("d/a", "user.tcfs.pin") == "0"
    assert asking.state("d/a") == "local"
    assert not yoga.tree.state.pending


def test_what_the_kernel_asks_all_the_time_looks_at_nothing(
    asking: Asking, yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    yoga.write("a", b"one")

    def fail(*_: Any) -> Any:
        raise AssertionError("asked")

    monkeypatch.setattr(seen, "seen_of", fail)
    for name in ("security.capability", "system.posix_acl_access", "system.posix_acl_default", "security.selinux"):
        assert asking.get("a", name) in (None, errno.EOPNOTSUPP)
    assert asking.get("a", "user.x") is None


def test_a_number_that_stands_for_nothing_is_stale(asking: Asking) -> None:
    with pytest.raises(FUSEError) as caught:
        run(asking.adapter.getxattr, 4242, b"user.tcfs.state", Context())
    assert caught.value.errno == errno.ESTALE
