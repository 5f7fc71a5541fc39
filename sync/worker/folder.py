"""The small files of a folder that a program walks through reading, brought ahead of it by few requests."""

import asyncio
import contextlib
import logging
from typing import Final

from sync.cas.cache import ChunkCache
from sync.core.errors import TcfsError
from sync.core.manifest import ChunkId
from sync.core.paths import join_path
from sync.core.policy import Policy
from sync.state.globs import children
from sync.state.policies import PolicyFile
from sync.state.rows import DIR, FILE
from sync.worker.context import Context
from sync.worker.fetch import NEIGHBOUR_MAX, Fetcher, Priority

BYTES_MAX: Final = 32 << 20  # of one folder, plain
FILES_MAX: Final = 4000
WAITING_MAX: Final = 16  # folders; a program that is so far ahead reads them before they come

_log = logging.getLogger("tcfs.folder")


class FolderFetcher:
    """One folder at a time, in the order of asking, as something that nobody waits for."""

    def __init__(self, context: Context, cache: ChunkCache, fetcher: Fetcher, policies: PolicyFile) -> None:
        self._context = context
        self._cache = cache
        self._fetcher = fetcher
        self._policies = policies
        self._waiting: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def ask(self, folder: int) -> None:
        """folder: shown.id. Bring its small files, unless too many folders wait already. Never fails."""
        if folder in self._waiting or len(self._waiting) >= WAITING_MAX:
            return
        self._waiting.append(folder)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            folder = self._waiting[0]
            try:
                with contextlib.suppress(TcfsError):  # whoever reads it is told
                    wanted = await self._context.env.run_io(self._missing, folder)
                    if wanted:
                        _log.debug("folder %d: %d chunks", folder, len(wanted))
                        await self._fetcher.bring(wanted, Priority.BACKGROUND)
            finally:
                self._waiting.remove(folder)

    def _missing(self, folder: int) -> list[ChunkId]:
        """The chunks of small files in this folder that are not here; not those that are only for who asks."""
        view = self._context.db.view
        row = view.row(folder)
        if row is None or row.kind != DIR:
            return []
        policies = self._policies.read()
        path = view.path_of(folder) if policies.words else ""
        wanted: dict[ChunkId, None] = {}
        size = files = 0
        for child in children(view, folder):
            if child.kind != FILE or child.version is None or not 0 < child.size <= NEIGHBOUR_MAX:
                continue
            if policies.words and policies.of(join_path(path, child.name)) is Policy.NEVER:
                continue
            content = view.content_of(child.version)
            ids = [ChunkId(bytes.fromhex(chunk)) for chunk in content.chunks]
            if not content.is_readable or self._cache.has_whole(content.content_id):
                continue
            missing = [chunk for chunk in ids if not self._cache.has(chunk)]
            wanted |= dict.fromkeys(missing)
            size += child.size if missing else 0
            files += 1 if missing else 0
            if size >= BYTES_MAX or files >= FILES_MAX:
                break
        return list(wanted)
