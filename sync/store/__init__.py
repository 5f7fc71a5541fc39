"""Objects by key: the Store protocol, a directory and a memory that fulfil it, and wrappers around them."""

from sync.store.base import ObjectInfo, Store
from sync.store.open import open_store

__all__ = ["ObjectInfo", "Store", "open_store"]
