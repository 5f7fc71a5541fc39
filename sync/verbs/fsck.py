"""fsck: store, heads, what is shown, overlay and cache against each other."""

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import msgspec

from sync.core.errors import NoSpace, NotAuthorised, ReadOnly, StoreAway, TcfsError
from sync.verbs import Progress, parse_args, with_error
from sync.worker.fsck import Tally, failure
from sync.worker.fsck import fsck as run_fsck

if TYPE_CHECKING:
    from sync.engine import Engine

FINDINGS_MAX: Final = 100_000  # of one answer, which must fit into a frame
SETTLE_S: Final = 60.0  # for a round of seals to end: it may have much to bring to the disk


class FsckArgs(msgspec.Struct, forbid_unknown_fields=True):
    """deep: decode every chunk of every pack, and read all of the cache."""

    deep: bool = False


async def fsck(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """All findings; the result carries Integrity if one of them is an error, StoreAway if the store is away."""
    asked = parse_args(args, FsckArgs)
    tally = Tally()
    engine.publisher.survey_again()  # what our journal lacks in the store we put again ourselves
    try:
        await engine.learner.learn()
        if engine.context.db.queued_seqs():
            with contextlib.suppress(NoSpace, ReadOnly, NotAuthorised):  # the findings tell what the store lacks
                await engine.publisher.drain()
    except StoreAway as error:
        tally.away = error

    async def settle() -> None:
        if engine.server.mount is not None:
            with contextlib.suppress(TcfsError):  # without an answer two looks must do
                await engine.server.mount.seal_now([], "wait", SETTLE_S)

    findings = await run_fsck(
        engine.context, engine.paths, deep=asked.deep, progress=progress, tally=tally, settle=settle
    )
    data: dict[str, object] = {
        "findings": [asdict(finding) for finding in findings[:FINDINGS_MAX]],
        "total": len(findings),
        "checked": tally.as_data(),
        "unverified": tally.unverified,
    }
    return with_error(data, failure(findings, tally))
