"""Our own journal in the store, compared with our books: is it ours, rolled back, or somebody else's too?

Books = the confirmed journal head and the rows of the outbox in order. All of it happens under context.journal_lock.
"""

from sync.core.errors import BadFormat, Fork, Integrity, ObjectMissing
from sync.core.journal import (
    JournalHead,
    decode_head,
    encode_head,
    head_key,
    journal_prefix,
    object_hash,
    segment_first,
    segment_key,
)
from sync.worker.context import Context, ProblemKind
from sync.worker.refill import refill, refilling


class OwnJournal:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._is_surveyed = False  # the store was seen to hold all that was confirmed
        self.was_refilled = False  # it had lost some, or all of a newer state

    async def check(self) -> None:
        """Return if the store's own journal is ours (a rollback is reported and made good); Fork, StoreAway."""
        await self._check_head()
        await self._check_keys()
        if not self._is_surveyed:
            if await refill(self._context):
                self._report_refilled()
            self._is_surveyed = True

    def survey_again(self) -> None:
        """At the next check look whether the store holds all that was confirmed, as at the first one."""
        self._is_surveyed = False

    async def drain(self) -> None:
        """Put what the outbox holds: segments, then the journal head; then they are confirmed. Fork, StoreAway."""
        context = self._context
        rows = context.db.outbox()
        if not rows:
            return
        for row in rows:
            await self._put_segment(segment_key(row.machine_id, row.first), row.segment)
            context.env.fault("publish.after_segment_put")
        machine_id, last = rows[-1].machine_id, rows[-1].last
        # One head for all of them: a reader sees a batch that fills several segments not before its end.
        await context.store.put(head_key(machine_id), rows[-1].head)
        context.env.fault("publish.after_head_put")
        with context.db.transaction() as txn:
            for row in rows:
                txn.confirm(row.first, row.last, object_hash(row.segment))
        context.env.fault("publish.after_confirm")
        await context.events.publish(machine_id, last)

    async def _put_segment(self, key: str, segment: bytes) -> None:
        if await self._context.store.put_if_absent(key, segment):
            return
        if await self._context.store.get(key) != segment:
            raise Fork(f"{key} holds what this machine has not written", path=key)

    async def _check_head(self) -> None:
        context = self._context
        machine_id, confirmed = context.db.machine_id, context.db.confirmed
        key = head_key(machine_id)
        found = await self._stored_head(key, machine_id)
        pending = [JournalHead(row.first, row.last, object_hash(row.segment)) for row in context.db.outbox()]
        if found == confirmed or found in pending:
            return  # a store that was set back stays reported: its head is whole again, what lay before it may not be
        if confirmed is None:
            if found is None:
                return
            raise Fork(f"{key}: this machine has published nothing yet", path=key)
        if found is not None and not self._is_older(found, confirmed):
            raise Fork(f"{key} ends with {found.last}, which this machine has not written", path=key)
        message = f"{key} was at {confirmed.last} and is not any more: the store holds an older state"
        context.problems.report(ProblemKind.ROLLBACK, key, message)
        await self._check_keys()  # whoever went on from there under our machine_id would be a fork
        if await refill(context):
            self._report_refilled()
            return  # the journal head goes out behind what is queued now
        if pending:
            return
        sealed = encode_head(context.keys, context.fleet_id, machine_id, confirmed, context.nonce(), context.signer)
        await context.store.put(key, sealed)

    def _is_older(self, found: JournalHead, confirmed: JournalHead) -> bool:
        """True if the journal head is one that we had before the confirmed one, or before its segment was put again."""
        db = self._context.db
        refilled = {*db.refilled(db.machine_id), *refilling(db)}
        for segment in db.segments(db.machine_id):
            if (segment.first, segment.last) == (found.first, found.last):
                return segment.first in refilled or (segment == found and found.last < confirmed.last)
        return False

    def _report_refilled(self) -> None:
        self.was_refilled = True
        prefix = journal_prefix(self._context.db.machine_id)
        message = f"the store had lost some of what this machine has published: {prefix} was put again"
        hint = "'tcfs fsck' names the files whose content it has lost too: 'tcfs push --force' them"
        self._context.problems.report(ProblemKind.ROLLBACK, prefix, message, hint)

    async def _stored_head(self, key: str, machine_id: str) -> JournalHead | None:
        """None if it is missing or unreadable."""
        context = self._context
        try:
            data = await context.store.get(key)
            return decode_head(context.keys, context.fleet_id, machine_id, data, context.signer.public)
        except (ObjectMissing, Integrity, BadFormat):
            return None

    async def _check_keys(self) -> None:
        """No segment behind what was confirmed but those that wait: an idle clone must notice too."""
        context = self._context
        machine_id, confirmed = context.db.machine_id, context.db.confirmed
        waiting = {first for first, _ in context.db.queued_seqs()}
        start_after = segment_key(machine_id, confirmed.first) if confirmed is not None else ""
        async for item in context.store.list(journal_prefix(machine_id), start_after):
            first = segment_first(item.key)
            if first is not None and first not in waiting:
                raise Fork(f"{item.key} holds what this machine has not written", path=item.key)
