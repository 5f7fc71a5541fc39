"""Seals on request."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from worldkit import World, WorldMachine

from fs.pace import Pace
from fs.tasks.sealing import SEAL_NOW_S, Sealer
from fs.tree import sealing
from fs.tree.owners import Names
from sync.ipc import frames


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


class LateAnswer:
    """A name service that answers when it has been looked at for the third time."""

    looks = 0

    def find(self, number: int) -> str | None:
        self.looks += 1
        return f"name-{number}" if self.looks > 2 else None

    def valid_s(self, _: int) -> float | None:
        return None

    def asked_s(self, _: int) -> float | None:
        return 0.1 if self.looks <= 2 else None

    def is_asking(self) -> bool:
        return self.looks <= 2


class Client:
    def __init__(self) -> None:
        self.answered = trio.Event()
        self.said: list[object] = []

    def hint(self, message: object) -> None:
        self.said.append(message)
        self.answered.set()


class NoReports:
    def say_trouble(self) -> None:
        raise AssertionError("all goes well")

    def say_sealed(self) -> None:
        pass


def push(machine: WorldMachine, client: "Client") -> None:
    """Ask for a seal of f, which is answered soon."""

    async def main() -> None:
        sealer = Sealer(machine.tree.state, client, Pace(time.monotonic), NoReports(), None)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sealer.seal)
            sealer.seal_now(frames.SealNow(1, ["f"], "push"))
            with trio.fail_after(SEAL_NOW_S / 2):
                await client.answered.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_request_does_not_sleep_over_the_answer_of_a_name_service(world: World) -> None:
    nobody: dict[str, int] = {}

    class Unknown(LateAnswer):
        looks = 3

        def find(self, name: object) -> None:  # type: ignore[override]
            return nobody.get(str(name))  # type: ignore[return-value]

    machine = world.machine("yoga")
    machine.owner_names = Names(LateAnswer(), LateAnswer(), Unknown(), Unknown())  # type: ignore[arg-type]
    machine.crash_mount()
    machine.write("f", b"one")
    client = Client()

    push(machine, client)
    assert client.said == [frames.SealResult(1, [], [], [])]
    assert not machine.tree.state.pending


def test_a_request_finds_an_answer_that_was_noted_before_it_waited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = world.machine("yoga")
    machine.write("f", b"one")
    machine.seal()
    machine.write("f", b"two")
    client, begin = Client(), sealing.begin

    def noted_behind(*args: Any, **kwargs: Any) -> sealing.SealRound:
        found = begin(*args, **kwargs)
        if found.waiting:
            machine.work(), machine.note()
        return found

    monkeypatch.setattr(sealing, "begin", noted_behind)

    push(machine, client)
    assert not machine.tree.state.pending
