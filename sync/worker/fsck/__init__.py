"""fsck: the store, the heads, what is shown, the overlay and the cache against each other.

Reads only, but for what it remembers in fleet.db of packs that the store has lost: whoever pushes them puts them again.
"""

import sqlite3
from collections.abc import Awaitable

from sync.core.errors import BadFormat, NotFound, StoreAway
from sync.state.home import FleetPaths
from sync.worker.context import Context
from sync.worker.fsck.books import FLEET_DB, check_books, check_holes, check_outbox
from sync.worker.fsck.cache import Wholes, check_cache
from sync.worker.fsck.check import Check, Progress
from sync.worker.fsck.contents import check_contents
from sync.worker.fsck.findings import HINT_REBUILD, Finding, Severity, Tally, failure
from sync.worker.fsck.journals import check_fleet, check_journals
from sync.worker.fsck.overlay import TREE_DB, Settle, check_overlay
from sync.worker.fsck.packs import check_packs, remember_lost, tell_of_packs

__all__ = ["Finding", "Progress", "Severity", "Tally", "failure", "fsck"]


async def _settled() -> None:
    """No mount runs."""


async def fsck(
    context: Context,
    paths: FleetPaths,
    *,
    deep: bool = False,
    progress: Progress = lambda data: None,
    tally: Tally | None = None,
    settle: Settle = _settled,
) -> list[Finding]:
    """Everything that is wrong, errors first; [] if nothing is. Learn before, so that fleet.db is up to date.

    deep: decode every chunk of every pack, and read all of the cache. tally: filled with how much was looked at; a
    store that is away is no finding but stands there. settle: as of check_overlay.

    Memory: what is fetched together (ahead.py), a page of rows, the names of one folder; but for the rows of tree.db.
    """
    check = Check(context, deep, progress, tally=tally if tally is not None else Tally())
    try:
        await _guarded(check, FLEET_DB, check_books(check, paths))
        await _guarded(check, FLEET_DB, _check_store(check))
        await _guarded(check, FLEET_DB, _check_contents(check, paths))
        tell_of_packs(check)
        await context.env.run(remember_lost, check)
        await _guarded(check, TREE_DB, check_overlay(check, paths, settle))
        return check.findings.all()
    finally:
        check.is_over = True


async def _check_store(check: Check) -> None:
    try:
        await check_fleet(check)
        await check_journals(check)
        await check_outbox(check)
        await check_packs(check)
    except StoreAway as error:
        _note_away(check, error)
    check_holes(check)


async def _check_contents(check: Check, paths: FleetPaths) -> None:
    wholes: Wholes = await check_cache(check, paths.cache_dir)
    try:
        await check_contents(check, wholes)
    except StoreAway as error:
        _note_away(check, error)


def _note_away(check: Check, error: StoreAway) -> None:
    check.tally.away = error
    check.tally.unverified.append(f"the store, or the rest of it: {error.message}")


async def _guarded(check: Check, database: str, part: Awaitable[None]) -> None:
    """A database that cannot be read, or contradicts itself, is a finding; the other parts are looked at as well."""
    try:
        await part
    except (sqlite3.DatabaseError, NotFound, BadFormat) as error:
        hint = HINT_REBUILD if database == FLEET_DB else ""
        check.findings.error(database, f"{database} cannot be read: {error}", hint=hint)
