"""fsck of fleet.db: its own rules, what it knows to be missing, and our journal as the outbox and the store have it."""

from typing import Final

from sync.core.errors import BadFormat, NotFound
from sync.core.journal import (
    NO_PREDECESSOR,
    JournalHead,
    decode_head,
    decode_segment,
    head_key,
    object_hash,
    segment_key,
)
from sync.core.manifest import Manifest, decode_record, version_id
from sync.state.check import check as check_fleet_db
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths
from sync.state.moments import ShortMoments
from sync.worker.fsck.check import UNREADABLE, Check
from sync.worker.fsck.findings import HINT_REBUILD

FLEET_DB: Final = "fleet.db"
STEPS: Final = 10_000  # of SQLite, a few ms, after which a check that is over ends

# Versions of ours that no segment carries and that are not queued: nobody else would ever see them.
_UNCARRIED = """
SELECT v.path, v.seq FROM version AS v JOIN machine AS m ON m.num = v.machine
WHERE m.own = 1 AND NOT coalesce((
    SELECT s.last FROM segment AS s WHERE s.machine = v.machine AND s.first <= v.seq ORDER BY s.first DESC LIMIT 1
) >= v.seq, 0) AND NOT EXISTS (
    SELECT 1 FROM outbox AS o WHERE o.machine = v.machine AND v.seq BETWEEN o.first AND o.last
) ORDER BY v.path LIMIT 1000"""
_TAKEN = "SELECT DISTINCT version FROM taken WHERE version IS NOT NULL"
_PLAIN = "SELECT DISTINCT version, remote, local FROM plain"


async def check_books(check: Check, paths: FleetPaths) -> None:
    """Needs no store. A database that cannot be read raises sqlite3.DatabaseError."""
    await check.context.env.run(_check_database, check, paths)


def _check_database(check: Check, paths: FleetPaths) -> None:
    """On a connection of its own: the engine goes on writing. Its WAL grows while a moment lasts, so none does for long
    but those of single statements.
    """
    connection = check.context.env.connect(paths.fleet_db, readonly=True)
    connection.set_progress_handler(lambda: check.is_over, STEPS)  # tcfsd cannot end before its threads
    db = FleetDb(check.context.env, connection)
    try:
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(20)") if row[0] != "ok"]
        for sentence in damage:
            check.findings.error(FLEET_DB, f"{FLEET_DB} is damaged: {sentence}", hint=HINT_REBUILD)
        if damage:
            return
        with ShortMoments(check.context.env, connection, db).follow() as moments:
            for sentence in _broken_rules(db, moments):
                check.findings.error(FLEET_DB, f"{FLEET_DB}: {sentence}", hint=HINT_REBUILD)
        for path, seq in db.query(_UNCARRIED):
            message = f"version {seq} of ours is neither queued nor in a segment of the journal"
            check.findings.error(FLEET_DB, message, path=path, hint="write the file anew")
        _check_references(check, db)
    finally:
        db.close()


def _broken_rules(db: FleetDb, moments: ShortMoments) -> list[str]:
    try:
        return check_fleet_db(db, moments)
    except (NotFound, BadFormat) as error:  # rows that name what is not there: no tree can be made of them
        return [error.message]


def _check_references(check: Check, db: FleetDb) -> None:
    for (identity,) in db.query(_TAKEN):
        if db.view.number(identity) is None:
            message = f"{FLEET_DB}: the answer to a seal names version {identity}, which is not known"
            check.findings.error(FLEET_DB, message, hint=HINT_REBUILD)
    for identity, remote, local in db.query(_PLAIN):
        if db.view.number(identity) is None:
            message = f"{FLEET_DB}: version {identity} of the last push or pull of {local} is not known"
            check.findings.warning(FLEET_DB, message, path=remote, hint="push or pull it again")


def check_holes(check: Check) -> None:
    """Segments that could not be applied, beside those that the store was just found to lack."""
    for hole in check.context.db.holes():
        key = segment_key(hole.machine_id, hole.first)
        if check.findings.names(key):
            continue
        if check.tally.away is None:
            message = f"{key} was missing or broken, and is there now: {hole.reason}"
            check.findings.warning(key, message, hint="it is read at the next look at the store")
        else:
            check.findings.error(key, f"{key} could not be applied: {hole.reason}")


async def check_outbox(check: Check) -> None:
    """What is queued opens and follows what is confirmed; the store's head of our journal is one of them. StoreAway.

    Nobody may publish meanwhile, so this does not take long.
    """
    context = check.context
    async with context.journal_lock:
        heads = await context.env.run(_check_queued, check)
        key = head_key(context.db.machine_id)
        try:
            data = await context.store.get(key)
            found = decode_head(context.keys, context.fleet_id, context.db.machine_id, data, context.signer.public)
        except UNREADABLE:
            return  # check_journals has said so
        confirmed = context.db.confirmed
    if found in heads:
        return
    if confirmed is not None and found.last < confirmed.last:
        message = f"{key} ends with {found.last}, but {confirmed.last} was confirmed: the store holds an older state"
        check.findings.error(key, message, hint="was it brought back from a copy? publishing puts what is still held")
    else:
        message = f"{key} names a segment that this machine did not write: a clone of it is at work"
        check.findings.error(key, message, hint="start tcfsd: it takes a new machine id by itself")


def _check_queued(check: Check) -> list[JournalHead]:
    """The heads that our journal may have: the confirmed one and those queued, one row of the outbox at a time."""
    db = check.context.db
    confirmed = db.confirmed
    heads = [confirmed] if confirmed is not None else []
    expected = confirmed.last + 1 if confirmed is not None else 1
    predecessor = confirmed.segment_hash if confirmed is not None else NO_PREDECESSOR
    for first, last in db.queued_seqs():
        name = f"outbox {first}"
        segment, head = db.query("SELECT segment, head FROM outbox WHERE first = ?", first)[0]
        digest = object_hash(segment)
        heads.append(JournalHead(first, last, digest))
        if first != expected:
            check.findings.error(FLEET_DB, f"{name}: follows {expected - 1}, which is not the end of what comes before")
        _check_row(check, name, segment, head, heads[-1], predecessor)
        expected, predecessor = last + 1, digest
    return heads


def _check_row(check: Check, name: str, segment: bytes, head: bytes, expected: JournalHead, predecessor: bytes) -> None:
    context, machine_id = check.context, check.context.db.machine_id
    public = context.signer.public
    try:
        found = decode_segment(context.keys, context.fleet_id, machine_id, expected.first, segment, public)
        named = decode_head(context.keys, context.fleet_id, machine_id, head, public)
        records = [decode_record(line) for line in found.lines]
    except UNREADABLE as error:
        check.findings.error(FLEET_DB, f"{name} does not open: {error.message}", hint=HINT_REBUILD)
        return
    if named != expected or found.last != expected.last or found.predecessor != predecessor:
        check.findings.error(FLEET_DB, f"{name}: its segment, its head and what comes before do not fit together")
    for line, record in zip(found.lines, records, strict=True):
        if isinstance(record, Manifest):
            identity = version_id(machine_id, record.seq, line)
            if context.db.view.number(identity) is None:
                message = f"{name}: the queued version {identity} is not known"
                check.findings.error(FLEET_DB, message, path=record.rel_path)
