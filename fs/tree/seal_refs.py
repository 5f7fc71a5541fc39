"""The seals that wait for their answer, in memory."""

from typing import Any

from fs.tree.marks import Marks
from fs.tree.model import SealRef
from fs.tree.rows import json_text
from fs.tree.stored import Stored


class SealRefs(dict[bytes, SealRef]):
    """By seal_id. One that is frozen is set as in any dict; `put` makes it one that the next commit stores."""

    def __init__(self, marks: Marks, stored: Stored) -> None:
        super().__init__()
        self.groups: dict[bytes, list[SealRef]] = {}  # committed seals of files with several names
        self._marks = marks
        self._stored = stored

    def load(self) -> None:
        for ref in self._stored.seals():
            self._hold(ref)

    def put(self, row: tuple[Any, ...], ref: SealRef) -> None:
        """`row` in the order of SEAL_COLUMNS."""
        self._marks.seals_new.append(row)
        self._hold(ref)

    def drop(self, seal_id: bytes) -> None:
        """The row goes."""
        ref = self.pop(seal_id, None)
        self._marks.seals_gone.append(seal_id)
        if ref is not None and ref.group is not None:
            group = self.groups[ref.group]
            group.remove(ref)
            if not group:
                del self.groups[ref.group]

    def withdraw(self, seal_id: bytes) -> None:
        """A seal that was never committed is none."""
        self.pop(seal_id, None)
        self._marks.seals_new[:] = [row for row in self._marks.seals_new if row[0] != seal_id]

    def sealed_mtime(self, seal_id: bytes) -> int:
        """mtime_ns of what a committed seal has frozen; 0 if it has none."""
        return self._stored.sealed_mtime(seal_id)

    def numbers(self) -> list[tuple[bytes, int | None, str]]:
        """(seal_id, node, dir_ids as JSON) of every committed seal."""
        return self._stored.seal_numbers()

    def renumber(self, rows: list[tuple[int | None, list[int], bytes]]) -> None:
        """Other numbers for (node, dir_ids) of seals, with the next commit."""
        self._marks.seals_moved[:] = [(node, json_text(dir_ids), seal_id) for node, dir_ids, seal_id in rows]

    def _hold(self, ref: SealRef) -> None:
        self[ref.seal_id] = ref
        if ref.group is not None:
            self.groups.setdefault(ref.group, []).append(ref)
