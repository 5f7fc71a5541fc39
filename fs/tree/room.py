"""Room on the disk that holds tree.db and the work files, and what may be done when there is none."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sync.core.errors import NoSpace
from sync.state import ballast

T = TypeVar("T")

log = logging.getLogger(__name__)


class Room:
    """Short of room from when the ballast was given up until it can be made again.

    Then only what gives space back, or changes what is there already, is let through: `need` is asked before all else.
    So the ballast's space stays for commits, and a copy of many files does not use it up. trouble: why changes cannot
    be committed, '' while they can.
    """

    def __init__(self, path: Path | None) -> None:
        """path: of the ballast; None: there is always room (tree.db is in memory)."""
        self._path = path
        self._path_text = str(path)  # looked at behind every close
        self.is_short = False
        self.trouble = ""
        self.look()

    def commit(self, work: Callable[[], T]) -> T:
        """work(), which writes tree.db or does nothing, with the ballast's help; NoSpace if even that is not enough."""
        try:
            done = work() if self._path is None else ballast.with_ballast(self._path, work)
        except Exception as error:
            if isinstance(error, NoSpace):
                self._find_short()
            self.trouble = str(error) or type(error).__name__
            raise
        self.trouble = ""
        self.look()
        return done

    def was_refused(self, error: OSError) -> None:
        """A write to a work file failed. If the disk is full the ballast is for commits now, and for nothing else."""
        if self._path is not None and ballast.is_full(error):
            ballast.give_up(self._path)
            self._find_short()

    def need(self) -> None:
        """Before the disk is filled further. NoSpace while it is short."""
        if self.is_short and self._path is not None:
            self.look()
            if self.is_short:
                raise ballast.no_space(self._path)

    def look(self) -> None:
        """See whether there is room, as after each commit. The engine, and the mount before this one, give the ballast
        up, too.
        """
        if self._path is None:
            return
        if not self.is_short:
            if not ballast.is_kept(self._path_text) and not ballast.has_room(self._path):
                self._find_short()
        elif ballast.keep(self._path):
            self.is_short = False
            log.info("the disk of %s has room again", self._path.parent)

    def _find_short(self) -> None:
        if not self.is_short and self._path is not None:
            self.is_short = True
            log.warning("the disk of %s is full: what needs space is refused until there is room", self._path.parent)
