"""Whether something may be fetched for an open file: by policy, by program; and what on-open brings."""

import os
from typing import Any

import pytest
import trio
from treekit import Machine

from fs.hydrate.callers import Callers
from fs.ops import open as open_ops
from fs.ops import read as read_ops
from fs.ops import write as write_ops
from fs.ops.volume import Volume
from sync.core.errors import NeverFetched, Refused
from sync.core.policy import Policies, Policy
from sync.ipc import frames

DATA = b"the content of another machine"


@pytest.fixture
def shown(bates: Machine, yoga: Machine, client: Any) -> Machine:
    """bates has written d/a, d/b and e; yoga has learned them. The client keeps the hints."""
    bates.mkdir("d")
    for path in ("d/a", "d/b", "e"):
        bates.write(path, DATA + path.encode())
    bates.cycle()
    yoga.learn()
    client.hints = []
    client.is_connected = True
    client.hint = client.hints.append
    client.prefetch_all = client.prefetch
    return yoga


def opened(volume: Volume, yoga: Machine, path: str, flags: int = os.O_RDONLY, pid: int = 0) -> int:
    parent, name = yoga.place(path)
    return open_ops.open_file(volume, yoga.tree.lookup(parent, name).ino, flags, pid)


def read(volume: Volume, handle: int, offset: int = 0, size: int = 100) -> bytes:
    async def guarded() -> bytes:
        with trio.fail_after(30):
            return await read_ops.read(volume, handle, offset, size)

    return trio.run(guarded)


def test_never_fetches_nothing_but_reads_what_is_here(volume: Volume, shown: Machine, client: Any) -> None:
    volume.policies = Policies({"d": Policy.NEVER})
    handle = opened(volume, shown, "d/a", os.O_RDWR)
    with pytest.raises(NeverFetched):
        read(volume, handle)
    assert client.fetched == [] and client.ahead == []
    write_ops.write(volume, handle, 0, b"MINE")
    assert read(volume, handle, 0, 4) == b"MINE"
    assert read(volume, opened(volume, shown, "e")) == DATA + b"e"
    manifest = shown.tree.state.view.manifest(client.fetched[0][0])
    assert manifest.rel_path == "e"
    (refused,) = client.hints
    assert (refused.reason, refused.path, refused.count) == ("never", "d/a", 1)


def test_what_is_local_is_never_refused(volume: Volume, shown: Machine, client: Any) -> None:
    read(volume, opened(volume, shown, "d/a"))
    volume.policies = Policies({"": Policy.NEVER})
    assert read(volume, opened(volume, shown, "d/a")) == DATA + b"d/a"


def test_a_named_program_is_refused_and_nobody_else(volume: Volume, shown: Machine, client: Any) -> None:
    class Named(Callers):
        def refused(self, pid: int) -> str | None:
            return "tumblerd" if pid == 5 else None

    volume.callers = Named(())
    handle = opened(volume, shown, "d/a", pid=5)
    for _ in range(2):
        with pytest.raises(Refused, match="tumblerd"):
            read(volume, handle)
    with pytest.raises(Refused):
        read(volume, opened(volume, shown, "d/b", pid=5))
    assert client.fetched == []
    assert read(volume, opened(volume, shown, "d/a", pid=6)) == DATA + b"d/a"
    assert read(volume, opened(volume, shown, "d/a", pid=5)) == DATA + b"d/a"
    assert [(one.program, one.count) for one in client.hints if isinstance(one, frames.Refused)] == [("tumblerd", 1)]
    assert [(one.program, one.times, one.path) for one in volume.refusals.take_untold()] == [("tumblerd", 2, "d/b")]


def test_to_open_brings_all_of_it_where_that_is_the_policy(volume: Volume, shown: Machine, client: Any) -> None:
    volume.policies = Policies({"d": Policy.ON_OPEN})
    opened(volume, shown, "e")
    assert client.ahead == []
    opened(volume, shown, "d/a")
    assert [indexes for _, indexes in client.ahead] == [[0]]


def test_a_walk_through_a_folder_brings_it(volume: Volume, shown: Machine, client: Any) -> None:
    read(volume, opened(volume, shown, "d/a", pid=9))
    assert client.hints == []
    read(volume, opened(volume, shown, "d/b", pid=9))
    assert [type(one) for one in client.hints] == [frames.FetchFolder]
    assert client.hints[0].folder == shown.tree.state.view.resolve_path("d").id


def test_listing_and_opening_bring_nothing(volume: Volume, shown: Machine, client: Any) -> None:
    for path in ("d/a", "d/b", "e"):
        parent, name = shown.place(path)
        shown.tree.attr(shown.tree.lookup(parent, name).ino)
        opened(volume, shown, path, pid=9)
    assert client.hints == [] and client.fetched == [] and client.ahead == []


def test_a_program_that_reads_each_file_gets_the_next_local_one_with_its_open(
    volume: Volume, shown: Machine, client: Any
) -> None:
    given: list[tuple[int, bytes]] = []
    volume.invalidations.give = lambda ino, data: given.append((ino, data))  # type: ignore[method-assign]
    for path in ("d/a", "d/b"):
        read(volume, opened(volume, shown, path, pid=1))  # local now
    assert given == []
    first = opened(volume, shown, "d/a", pid=2)
    assert given == []  # nobody knows yet what this one does
    read(volume, first)
    opened(volume, shown, "e", pid=2)
    assert given == []  # not local
    second = opened(volume, shown, "e", pid=2)
    read(volume, second)
    volume.eager._given.clear()
    opened(volume, shown, "d/b", os.O_RDWR, pid=2)
    opened(volume, shown, "e", pid=2)
    assert given == []  # to be written; open already: a read may be under way
    for handle in list(volume.handles):
        volume.handles.pop(handle).file.release()
    opened(volume, shown, "d/b", pid=2)
    ((ino, data),) = given
    assert (ino, data) == (volume.handles[volume.last_handle].ino, DATA + b"d/b")


def test_what_was_changed_here_is_never_given(volume: Volume, shown: Machine, client: Any) -> None:
    given: list[int] = []
    volume.invalidations.give = lambda ino, data: given.append(ino)  # type: ignore[method-assign]
    volume.eager.has_read(2, 0)
    writing = opened(volume, shown, "d/a", os.O_RDWR)
    write_ops.write(volume, writing, 0, b"MINE")
    open_ops.flush(volume, writing)
    trio.run(open_ops.release, volume, writing)
    opened(volume, shown, "d/a", pid=2)
    assert given == []
