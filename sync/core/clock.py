"""Vector clocks of one path: who has seen whose versions.

A clock maps an actor (machine_id, or machine_id~n) to the seq of its newest version of that path that was seen. Missing
means 0, and whatever is not positive counts as missing. Comparison is the usual partial order (Fidge 1988, Mattern
1989).
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import count

from sync.core.manifest import Actor, MachineId

Clock = Mapping[str, int]


class Order(Enum):
    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


def covers(a: Clock, b: Clock) -> bool:
    """True if a has seen everything that b has (a >= b)."""
    for actor, number in b.items():  # noqa: SIM110 - twice as fast as all(), and the innermost step of every insert
        if number > 0 and a.get(actor, 0) < number:
            return False
    return True


def compare(a: Clock, b: Clock) -> Order:
    """Where a stands relative to b: BEFORE means that b has seen all that a has, and more."""
    if covers(b, a):
        return Order.EQUAL if covers(a, b) else Order.BEFORE
    return Order.AFTER if covers(a, b) else Order.CONCURRENT


def strictly_less(a: Clock, b: Clock) -> bool:
    return covers(b, a) and not covers(a, b)


def join(clocks: Iterable[Clock]) -> dict[str, int]:
    """The least clock that covers all of them, without zeros; {} of none."""
    joined: dict[str, int] = {}
    for clock in clocks:
        for actor, number in clock.items():
            if number > joined.get(actor, 0):
                joined[actor] = number
    return joined


def next_actor(machine_id: str, seen_clock: Clock, own_newest: Mapping[str, int]) -> Actor:
    """Under whose name this machine writes the next version of a path, so that each actor's versions form a chain.

    seen_clock: join of the clocks of the versions of this path that the writer had seen. own_newest: for each actor of
    this machine its newest number at this path, published or queued. The answer is machine_id if its newest had been
    seen, else the first of machine_id~1, machine_id~2… for which that holds.
    """
    actor = machine_id
    for n in count(1):
        if seen_clock.get(actor, 0) >= own_newest.get(actor, 0):
            break
        actor = f"{machine_id}~{n}"
    return Actor(actor)


def machine_of(actor: str) -> MachineId:
    """The machine_id of an actor."""
    return MachineId(actor.partition("~")[0])
