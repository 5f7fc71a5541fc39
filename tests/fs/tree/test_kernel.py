import errno
import logging

import pytest

from fs.tree import kernel
from fs.tree.kernel import Invalidations
from fs.tree.model import Invalidation

Call = tuple[object, ...]


class FakeKernel:
    """Remembers what it was told; refuses with the errno in `refuse`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.refuse = 0

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:
        self._call("attr" if attr_only else "data", inode)

    def invalidate_entry(self, inode_p: int, name: bytes, deleted: int = 0) -> None:
        self._call("entry", inode_p, name, deleted)

    def _call(self, *call: object) -> None:
        self.calls.append(call)
        if self.refuse:
            raise OSError(self.refuse, "no")


@pytest.fixture
def told() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def queue(told: FakeKernel) -> Invalidations:
    return Invalidations(told, {10, 12}.__contains__)


def send(queue: Invalidations) -> None:
    queue.deliver(queue.take())


def test_each_kind_is_the_call_it_should_be(queue: Invalidations, told: FakeKernel) -> None:
    queue.add(
        [
            Invalidation(1, "a", 10, "attr"),
            Invalidation(1, "b", 12, "data"),
            Invalidation(4, "é", 14, "entry"),
            Invalidation(6, "d", 16, "gone"),
        ]
    )
    send(queue)
    assert told.calls == [
        ("attr", 10),
        ("data", 12),
        ("entry", 4, "é".encode(), 0),
        ("entry", 6, b"d", 16),
        ("attr", 4),
        ("attr", 6),
    ]
    assert len(queue) == 0


def test_a_new_name_that_the_kernel_has_asked_for_meanwhile_is_left_to_it(
    queue: Invalidations, told: FakeKernel
) -> None:
    queue.add([Invalidation(4, "asked", 10, "new"), Invalidation(4, "unknown", 14, "new")])
    send(queue)
    assert told.calls == [("attr", 10), ("entry", 4, b"unknown", 0), ("attr", 4)]


def test_equal_items_are_sent_once(queue: Invalidations, told: FakeKernel) -> None:
    queue.add([Invalidation(1, "a", 10, "attr")] * 3)
    queue.add([Invalidation(1, "a", 10, "attr")])
    send(queue)
    assert told.calls == [("attr", 10)]


@pytest.mark.parametrize("kind", ["data", "gone"])
def test_what_would_wait_for_a_request_is_put_back(queue: Invalidations, told: FakeKernel, kind: str) -> None:
    held, other = Invalidation(1, "a", 10, kind), Invalidation(1, "b", 12, kind)
    queue.add([held, other])
    with queue.request(10), queue.request(10):
        assert queue.take() == [other]
        assert queue.take() == []
        with queue.request(10):
            pass
        assert queue.take() == []
    assert queue.take() == [held]


def test_attributes_are_told_while_a_read_waits(queue: Invalidations) -> None:
    queue.add([Invalidation(1, "a", 10, "attr"), Invalidation(1, "a", 10, "entry")])
    with queue.request(10):
        assert len(queue.take()) == 2


def test_batches_have_a_limit(queue: Invalidations) -> None:
    queue.add(Invalidation(1, str(n), n, "attr") for n in range(kernel.BATCH_MAX + 5))
    assert len(queue.take()) == kernel.BATCH_MAX
    assert len(queue.take()) == 5


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY, errno.ENOTCONN])
def test_what_the_kernel_does_not_have_is_no_failure(
    queue: Invalidations, told: FakeKernel, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    told.refuse = number
    queue.add([Invalidation(1, "a", 10, "gone"), Invalidation(1, "b", 12, "attr")])
    with caplog.at_level(logging.INFO):
        send(queue)
    assert len(told.calls) == 3
    assert not caplog.records


def test_any_other_refusal_is_logged_and_the_rest_is_sent(
    queue: Invalidations, told: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    told.refuse = errno.EPERM
    queue.add([Invalidation(1, "a", 10, "attr"), Invalidation(1, "b", 12, "attr")])
    send(queue)
    assert len(told.calls) == 2
    assert len(caplog.records) == 2
