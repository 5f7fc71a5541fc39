"""Records from elsewhere: what this machine could not keep, or could not do, is refused at parsing."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.errors import BadFormat
from sync.core.journal import JournalHead, decode_head, encode_head
from sync.core.keys import Keys
from sync.core.manifest import (
    Manifest,
    PathVersion,
    RefilledRecord,
    decode_manifest,
    decode_moves,
    decode_record,
    encode_record,
    record_seq,
)
from sync.core.sealed import SigningKey

ID = "a" * 64


def line(**fields: Any) -> bytes:
    """A record as another machine might have written it."""
    record = {
        "type": "version",
        "version": 2,
        "seq": 1,
        "rel_path": "f",
        "kind": "file",
        "vclock": {"clocks": {"m": 1}},
        "written_by": "m",
        "machine_name": "bates",
        "written_at": 1,
    }
    return json.dumps(record | fields).encode()


def pack(**fields: Any) -> bytes:
    return json.dumps({"type": "pack", "seq": 1, "pack_id": ID, "size": 9, "chunks": []} | fields).encode()


def test_a_segment_that_was_put_again_is_told_of() -> None:
    raw = b'{"type":"refilled","seq":7,"first":3}'
    assert encode_record(RefilledRecord(seq=7, first=3)) == raw
    assert decode_record(raw) == RefilledRecord(seq=7, first=3)


def test_the_record_as_it_should_be() -> None:
    record = decode_record(line(xattrs={"user.a": "YQ=="}, mode=0o7777, batch=[1, 2]))
    assert isinstance(record, Manifest)


def test_a_name_of_a_file_with_several() -> None:
    raw = (
        b'{"type":"version","version":2,"seq":1,"rel_path":"f","kind":"symlink","vclock":{"clocks":{"m":1}},'
        b'"written_by":"m","machine_name":"bates","written_at":1,"mode":511,"target":"t",'
        b'"link_id":"000102030405060708090a0b0c0d0e0f","batch":[1,2]}'
    )
    record = decode_record(raw)
    assert isinstance(record, Manifest) and record.link_id == bytes(range(16)).hex()
    assert encode_record(record) == raw


def test_whose_a_file_is() -> None:
    raw = (
        b'{"type":"version","version":2,"seq":1,"rel_path":"d","kind":"dir","vclock":{"clocks":{"m":1}},'
        b'"written_by":"m","machine_name":"bates","written_at":1,"mode":493,"batch":[1,2],"group":"100","owner":"ada"}'
    )
    record = decode_record(raw)
    assert isinstance(record, Manifest) and (record.owner, record.group) == ("ada", "100")
    assert encode_record(record) == raw
    without = encode_record(msgspec.structs.replace(record, owner="", group=""))
    assert without == raw.replace(b',"group":"100","owner":"ada"', b"")


_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=256)


@given(_NAMES, _NAMES)
def test_any_owner_and_group_come_back(owner: str, group: str) -> None:
    record = decode_record(line(owner=owner, group=group))
    assert isinstance(record, Manifest) and (record.owner, record.group) == (owner, group)
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": 0},
        {"seq": 10**16},
        {"file_size": 2**63, "chunk_pages": [ID]},
        {"mtime_ns": 2**63},
        {"mtime_ns": -(2**63) - 1},
        {"written_at": 2**62},
        {"mode": -1},
        {"link_id": "0" * 65},
        {"owner": "a" * 257},
        {"group": "a\0b"},
        {"group": 100},
        {"mode": 0o10000},
        {"batch": [1, 2**70]},
        {"kind": "symlink", "target": "a\0b"},
        {"content_id": "../../../home/someone/file"},
        {"content_id": ".."},
        {"xattrs": {"user.a": "no base64!"}},
        {"xattrs": {"user.\0": "YQ=="}},
    ],
)
def test_a_version_that_cannot_be_kept(fields: dict[str, Any]) -> None:
    with pytest.raises(BadFormat):
        decode_record(line(**fields))


@pytest.mark.parametrize("fields", [{"size": 2**63}, {"chunks": [[ID, 2**63, 1, 1, 0]]}])
def test_a_pack_that_cannot_be_kept(fields: dict[str, Any]) -> None:
    with pytest.raises(BadFormat):
        decode_record(pack(**fields))


def test_a_record_that_is_nested_too_deep() -> None:
    deep = b'{"type":"remark","seq":1,"text":"","more":' + b"[" * 5000 + b"]" * 5000 + b"}"
    with pytest.raises(BadFormat):
        decode_record(deep)
    with pytest.raises(BadFormat):
        record_seq(deep)


def test_the_ends_of_a_rename_alone() -> None:
    moved = decode_moves(line(moved_from={"path": "old", "version": "m:1:00000000"}, chunks=[ID], chunk_sizes=[1]))
    assert (moved.moved_from, moved.moved_to) == (PathVersion("old", "m:1:00000000"), None)
    assert decode_moves(line(kind="tombstone", moved_to={"path": "new"})).moved_to == PathVersion("new")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", pack(), line(moved_from="old"), line()[:-1], line() + b"}", b"\xff"])
def test_what_is_no_manifest_fails_alike(raw: bytes) -> None:
    for decode in (decode_manifest, decode_moves):
        with pytest.raises(BadFormat, match="broken record"):
            decode(raw)


def test_a_journal_head_that_cannot_be_kept() -> None:
    keys, signer = Keys.from_root(bytes(32)), SigningKey(bytes(32))
    data = encode_head(keys, "fleet", "m", JournalHead(1, 10**16, bytes(32)), bytes(12), signer)
    with pytest.raises(BadFormat):
        decode_head(keys, "fleet", "m", data, signer.public)
