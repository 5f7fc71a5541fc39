"""Nodes and entries as rows of tree.db, and back."""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from fs.tree.model import Entry, Node
from fs.work.workfile import WorkFile

NODE_COLUMNS: Final = (
    "id, kind, mode, uid, gid, size, atime_ns, mtime_ns, ctime_ns, target, xattrs, base, layer, work, gen, seal_id,"
    " sealed_gen, lost_path, lost_seen, unflushed, synced, rdev,"
    " link_id, owner, owner_group"
)
ENTRY_COLUMNS: Final = (
    "parent, name, node, dirty, local_only, resolved, seen, last, gen, seal_id, sealed_gen, moved_from, moved_to,"
    " moved_node, origin"
)

K = TypeVar("K")

# What SQLite says of a value that it cannot hold, whatever the disk is like.
_BAD_VALUE: Final = (OverflowError, UnicodeError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError)

_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(tuple[str, ...])
_pair = msgspec.json.Decoder(tuple[str, str])
_mapping = msgspec.json.Decoder(dict[str, str])


def json_text(value: object) -> str:
    """Compact JSON."""
    return _encode(value).decode()


def node_row(node: Node) -> tuple[Any, ...]:
    return (
        node.id,
        node.kind,
        node.mode,
        node.uid,
        node.gid,
        node.size,
        node.atime_ns,
        node.mtime_ns,
        node.ctime_ns,
        node.target,
        json_text(node.xattrs) if node.xattrs else None,
        node.base,
        node.layer.id if node.layer is not None else None,
        node.work.id if node.work is not None else None,
        node.gen,
        node.seal_id,
        node.sealed_gen,
        node.lost_path,
        json_text(node.lost_seen) if node.lost_path is not None else None,
        int(node.unflushed),
        int(node.synced),
        node.rdev,
        node.link_id,
        node.owner,
        node.owner_group,
    )


def entry_row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.parent,
        entry.name,
        entry.node,
        int(entry.dirty),
        int(entry.local_only),
        int(entry.resolved),
        json_text(entry.seen) if entry.seen else "[]",
        entry.last,
        entry.gen,
        entry.seal_id,
        entry.sealed_gen,
        json_text(entry.moved_from) if entry.moved_from else None,
        entry.moved_to,
        entry.moved_node,
        entry.origin,
    )


def entry_of(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(ENTRY_COLUMNS.split(", "), row, strict=True))
    for column in ("dirty", "local_only", "resolved"):
        values[column] = bool(values[column])
    values["seen"] = _texts.decode(values["seen"])
    values["moved_from"] = _pair.decode(values["moved_from"]) if values["moved_from"] else None
    return Entry(**values)


def node_values(row: tuple[Any, ...]) -> dict[str, Any]:
    """The fields of a node by name; layer and work still as ids."""
    values = dict(zip(NODE_COLUMNS.split(", "), row, strict=True))
    values["xattrs"] = _mapping.decode(values["xattrs"]) if values["xattrs"] else None
    values["lost_seen"] = _texts.decode(values["lost_seen"]) if values["lost_seen"] else ()
    values["unflushed"], values["synced"] = bool(values["unflushed"]), bool(values["synced"])
    return values


def make_node(values: dict[str, Any], layer: WorkFile | None, work: WorkFile | None) -> Node:
    return Node(**{**values, "layer": layer, "work": work, "row_unflushed": values["unflushed"]})


def put_rows(connection: sqlite3.Connection, statement: str, rows: Mapping[K, tuple[Any, ...]]) -> dict[K, str]:
    """Execute an INSERT OR REPLACE for each row; those with values that no database can hold, and why, are left out.

    There should be none, but one must not keep all others from being saved for ever.
    """
    try:
        connection.executemany(statement, list(rows.values()))
        return {}
    except _BAD_VALUE:
        pass  # which one it was is not told
    refused: dict[K, str] = {}
    for key, row in rows.items():
        try:
            connection.execute(statement, row)
        except _BAD_VALUE as error:
            refused[key] = str(error) or type(error).__name__
    return refused


def decode_mapping(text: str) -> dict[str, str]:
    """Attributes as stored: {name: base64}."""
    return _mapping.decode(text)


def decode_pair(text: str) -> tuple[str, str]:
    """moved_from as stored: [rel_path, identity]."""
    return _pair.decode(text)
