"""The fleet's .tcfsignore: its text comes into fleet.db when another version of it is shown."""

from typing import Final

from sync.core.errors import BadInput
from sync.core.ignore import IGNORE_FILE, Ignore
from sync.state.rows import FILE, ROOT_ID
from sync.worker.context import Context, ProblemKind
from sync.worker.fetch import Fetcher

SIZE_MAX: Final = 1 << 20  # bytes; every name in the fleet is held against it
LINES_NAMED: Final = 5


class IgnoreFile:
    """What stands at the fleet's root under this name, no sibling of it, decides on every machine."""

    def __init__(self, context: Context, fetcher: Fetcher) -> None:
        self._context = context
        self._fetcher = fetcher
        self._told: str | None = None  # of which version the problems tell, which live no longer than this process

    async def follow(self) -> bool:
        """Take over the text that is shown now, '' where there is no such file; True if that is news.

        Until it can be read the text of before counts. Errors as of Fetcher.fetch; BadInput if it is too large.
        """
        db = self._context.db
        row = db.view.lookup(ROOT_ID, IGNORE_FILE)
        is_file = row is not None and row.kind == FILE and row.version is not None
        version = db.view.identity(row.version) if row is not None and row.version is not None and is_file else ""
        is_new = version != db.view.tcfsignore_version()
        if is_new:
            text = await self._text(version, row.size) if row is not None and version else ""
            await self._context.env.run(self._take, text, version)
        if version != self._told:
            self._tell_of(db.view.tcfsignore())
            self._told = version
        return is_new

    def _take(self, text: str, version: str) -> None:
        with self._context.db.transaction() as txn:
            txn.set_tcfsignore(text, version)

    async def _text(self, version: str, size: int) -> str:
        if size > SIZE_MAX:
            message = f"{IGNORE_FILE} has {size} bytes, more than {SIZE_MAX}: the patterns of before count"
            raise BadInput(message, path=IGNORE_FILE, hint="make it smaller")
        _, sizes = await self._fetcher.chunk_list(version)
        pieces = await self._fetcher.base_bytes(version, range(len(sizes)))
        return b"".join(pieces[index] for index in range(len(sizes))).decode(errors="replace")

    def _tell_of(self, text: str) -> None:
        """Lines that are no patterns match nothing, which nobody would notice."""
        lines = Ignore(text).invalid_lines
        if not lines:
            self._context.problems.clear(ProblemKind.IGNORE, IGNORE_FILE)
            return
        named = ", ".join(repr(line) for line in lines[:LINES_NAMED]) + (", …" if len(lines) > LINES_NAMED else "")
        message = f"{IGNORE_FILE}: no patterns of gitignore, or of a kind that is not known here: {named}"
        self._context.problems.report(ProblemKind.IGNORE, IGNORE_FILE, message, "correct them")
