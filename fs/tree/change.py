"""A change made elsewhere."""

from dataclasses import dataclass

from fs.tree.model import Attr, Key
from sync.core.paths import join_path
from sync.state.changes import What


@dataclass(slots=True, frozen=True)
class Change:
    """kind: FILE, DIR or SYMLINK. parent: the folder's number as the kernel has it; folder: its rel_path here. size:
    bytes of a file.

    ino: the number that the kernel has there, or had; 0 if it knows none. old: what the kernel was told of ino, which
    is changed or gone, and is to go on believing; None if it was told something else, or that is as true as ever.
    origin: of what was moved, its removal where it stood before. is_another: of what was moved, that it has another
    number than ino by now.
    """

    what: What
    kind: int
    parent: int
    folder: str
    name: str
    mode: int
    size: int = 0
    ino: int = 0
    old: Attr | None = None
    origin: "Change | None" = None
    is_another: bool = False

    @property
    def key(self) -> Key:
        return (self.parent, self.name)

    @property
    def path(self) -> str:
        return join_path(self.folder, self.name)
