"""From a URL to a store with its wrappers: the one place that assembles them."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sync.core.errors import BadInput
from sync.env import Env
from sync.store.base import Store
from sync.store.local import LocalStore
from sync.store.meter import Meter, MeteredStore
from sync.store.retry import RetryStore


def open_store(url: str, env: Env, *, create_root: bool = False, meter: Meter | None = None) -> Store:
    """The store at `url`; nothing is read or made yet, so that a store that is away opens as well.

    create_root: only for `init` of a new fleet, whose fleet.json must be the first object that is put. BadInput for a
    URL of another kind.
    """
    store: Store = LocalStore(env, store_folder(url), create_root=create_root)
    if meter is not None:
        store = MeteredStore(store, meter)
    return RetryStore(env, store)


def store_url(text: str) -> str:
    """The URL, as fleet.toml keeps it, of what a person wrote: a URL or a path, which may be relative."""
    return store_folder(text).as_uri()


def store_folder(text: str) -> Path:
    """The absolute folder of a directory store; BadInput if `text` is no path and no file URL of this host."""
    if not text:
        raise BadInput("a store is named by a path or a file:// URL")
    if "://" not in text and not text.startswith("file:"):
        return Path(os.path.normpath(Path(text).expanduser().absolute()))
    parts = urlsplit(text)
    if parts.scheme != "file":
        raise BadInput(f"stores of this kind are not known: {text}", hint="give a folder, or file:///folder")
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise BadInput(
            f"not a folder of this machine: {text}", hint="write file:///folder, with %23 for # and %3F for ?"
        )
    return Path(os.path.normpath(unquote(parts.path)))
