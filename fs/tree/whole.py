"""A complete layer that was published becomes a whole file of the cache: renamed, or copied where the cache lies on
another file system. A copy takes long, so a thread makes it before the answer is noted, while the layer still serves.
"""

import errno
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from fs.tree.state import State
from fs.work.workfile import WorkFile
from sync.core.errors import NotFound
from sync.state.rows import file_value


class Copy(NamedTuple):
    """A layer that cannot be renamed to its place in the cache; `size` bytes of it count."""

    source: str
    target: str
    size: int


class Place(NamedTuple):
    """Where a whole file lies, and the content token of what is in it."""

    path: str
    value: int


def place(st: State, layer: WorkFile, size: int, version: str | None) -> Place | None:
    """The place of a layer that is the whole content, `size` bytes, of a version; None if it has none there."""
    if version is None or not size or not layer.is_complete(size):
        return None
    try:
        content = st.view.content(version)
    except NotFound:
        return None
    if not content.content_id or content.file_size != size:
        return None
    return Place(f"{st.whole_folder}/{content.content_id}", file_value(content.content_id))


def keep(st: State, layer: WorkFile, size: int, target: Place) -> bool:
    """Move a complete layer to its place in the cache. True if the file is not at its old place any more."""
    st.env.fault("note.before_rename")
    try:
        _cut(layer.path, size)
    except FileNotFoundError:
        pass  # renamed before, by an answer that was not committed
    except OSError:
        return False
    moved = _move(st, layer.path, target.path)
    if moved:
        st.keep_local(target.value)
        st.env.fault("note.after_rename")
    return moved


def copy_layers(copies: list[Copy]) -> None:
    """For a thread. What the cache cannot take is not copied: it comes from the store when it is read."""
    for source, target, size in copies:
        part = Path(f"{target}.{os.getpid()}.tmp")
        try:
            part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not Path(target).exists():
                shutil.copyfile(source, part)
                _cut(str(part), size)
                part.rename(target)
        except OSError:
            part.unlink(missing_ok=True)


def _cut(path: str, size: int) -> None:
    """What was truncated above a layer, and then taken into it, has left its bytes behind the end."""
    if os.stat(path).st_size > size:  # noqa: PTH116  asked for every file that is published
        os.truncate(path, size)


def is_elsewhere(work_dir: Path, whole_dir: Path) -> bool:
    """True if the two folders are known to lie on different file systems. Either may be missing."""
    return _device(work_dir) != _device(whole_dir)


def _device(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.stat().st_dev


def _move(st: State, source: str, target: str) -> bool:
    """True: `source` is gone. A full cache is no error."""
    if os.access(target, os.F_OK):
        return False
    try:
        try:
            os.rename(source, target)  # noqa: PTH104  pathlib would cost more than the rename
        except FileNotFoundError:
            Path(target).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.rename(source, target)  # noqa: PTH104
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EXDEV:
            st.whole_is_elsewhere = True  # two mounts of one device: from now on layers are copied
        return False
    return True
