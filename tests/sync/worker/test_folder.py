"""The small files of a folder come together, by few requests; nothing else does."""

import random

from workerkit import Fleet, Machine, run

from sync.core.policy import Policies, Policy
from sync.state.policies import PolicyFile
from sync.worker import folder as folder_module
from sync.worker.folder import FolderFetcher


async def scattered(fleet: Fleet) -> Machine:
    """d/0 to d/5, each in a pack of its own, between those of another folder."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    for number in range(6):
        yoga.write(f"d/{number}", random.Random(number).randbytes(1000))
        yoga.write(f"e/{number}", random.Random(100 + number).randbytes(1000))
        yoga.write("d/sub/x", "below")
        await yoga.push("d", "e")
    yoga.write("d/large", random.Random(99).randbytes(folder_module.NEIGHBOUR_MAX + 1))
    await yoga.push("d")
    await bates.learner.poll()
    return bates


def fetcher(machine: Machine) -> FolderFetcher:
    policies = PolicyFile(machine.folder / "policies.toml")
    return FolderFetcher(machine.context, machine.cache, machine.fetcher, policies)


def here(machine: Machine) -> set[str]:
    found = set()
    for path in [f"{folder}/{n}" for folder in "de" for n in range(6)] + ["d/sub/x", "d/large"]:
        row = machine.db.view.resolve_path(path)
        assert row is not None and row.version is not None
        ids, _ = machine.db.view.chunk_list(machine.db.view.identity(row.version))
        found |= {path} if all(machine.cache.has(chunk) for chunk in ids) else set()
    return found


async def asked(machine: Machine, folders: FolderFetcher, path: str) -> None:
    row = machine.db.view.resolve_path(path)
    folders.ask(row.id if row is not None else 999_999)
    while folders._waiting:
        await machine.env.sleep(0.01)


def test_the_small_files_of_the_folder_come(fleet: Fleet) -> None:
    async def go() -> None:
        bates = await scattered(fleet)
        folders = fetcher(bates)
        await asked(bates, folders, "d")
        assert here(bates) == {f"d/{n}" for n in range(6)}
        requests = bates.reader.statistics().requests
        await asked(bates, folders, "d")
        await asked(bates, folders, "d/0")
        await asked(bates, folders, "nothing")
        assert bates.reader.statistics().requests == requests
        await folders.aclose()

    run(go(), fleet.clock)


def test_not_what_may_never_come(fleet: Fleet) -> None:
    async def go() -> None:
        bates = await scattered(fleet)
        words = Policies({"d": Policy.NEVER, "d/3": Policy.ON_READ})
        PolicyFile(bates.folder / "policies.toml").write(words)
        await asked(bates, fetcher(bates), "d")
        assert here(bates) == {"d/3"}

    run(go(), fleet.clock)


def test_many_folders_are_not_queued_without_end(fleet: Fleet) -> None:
    async def go() -> None:
        folders = fetcher(fleet.machine("yoga"))
        for number in range(1000):
            folders.ask(number)
        assert len(folders._waiting) <= folder_module.WAITING_MAX
        await folders.aclose()

    run(go(), fleet.clock)
