"""fsck: store, heads, what is shown, overlay and cache against each other."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from sync.core.errors import StoreAway
from sync.verbs import Progress, parse_args, with_error
from sync.worker.fsck import Tally, failure
from sync.worker.fsck import fsck as run_fsck

if TYPE_CHECKING:
    from sync.engine import Engine

FINDINGS_MAX = 100_000  # of one answer, which must fit into a frame


class FsckArgs(msgspec.Struct, forbid_unknown_fields=True):
    """deep: decode every chunk of every pack, and read all of the cache."""

    deep: bool = False


async def fsck(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """All findings; the result carries Integrity if one of them is an error, StoreAway if the store is away."""
    asked = parse_args(args, FsckArgs)
    tally = Tally()
    try:
        await engine.learner.learn()
    except StoreAway as error:
        tally.away = error
    findings = await run_fsck(engine.context, engine.paths, deep=asked.deep, progress=progress, tally=tally)
    data: dict[str, object] = {
        "findings": [asdict(finding) for finding in findings[:FINDINGS_MAX]],
        "total": len(findings),
        "checked": tally.as_data(),
        "unverified": tally.unverified,
    }
    return with_error(data, failure(findings, tally))
