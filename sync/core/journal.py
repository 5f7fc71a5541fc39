"""Segments, journal heads, machine objects and fleet.json: what a store holds besides packs (docs/FORMATS.md)."""

import struct
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from sync.core.chunking import ChunkParams
from sync.core.errors import BadFormat, Unsupported
from sync.core.keys import Keys
from sync.core.manifest import SEQ_MAX
from sync.core.packfile import pack_key
from sync.core.sealed import (
    VERIFY_KEY_SIZE,
    SigningKey,
    object_hash,
    open_object,
    seal_object,
    sealed_extra,
    signed_by,
)

__all__ = [
    "FLEET_KEY",
    "NO_PREDECESSOR",
    "Chunking",
    "FleetInfo",
    "JournalHead",
    "MachineInfo",
    "Segment",
    "decode_fleet",
    "decode_head",
    "decode_machine",
    "decode_segment",
    "encode_fleet",
    "encode_head",
    "encode_machine",
    "encode_segment",
    "head_key",
    "journal_prefix",
    "machine_key",
    "object_hash",
    "pack_key",
    "segment_first",
    "segment_key",
]

FLEET_KEY = "fleet.json"
FLEET_FORMAT = 1
SEGMENT_FORMAT = 2
HEAD_FORMAT = 3
MACHINE_FORMAT = 4
HASH_SIZE = 32
NO_PREDECESSOR = bytes(HASH_SIZE)  # of a journal's first segment

_EXTRA = struct.Struct(">QQ32s")  # first, last, predecessor
_T = TypeVar("_T")


class Segment(msgspec.Struct, frozen=True):
    """A run of records, lines[i] with seq first + i. predecessor: hash of the stored bytes of the segment before."""

    first: int
    last: int
    predecessor: bytes
    lines: list[bytes]


class JournalHead(msgspec.Struct, frozen=True):
    """The newest segment of a journal: its seqs and the hash of its stored bytes."""

    first: int
    last: int
    segment_hash: bytes


class MachineInfo(msgspec.Struct, frozen=True):
    """What a machine says of itself. verify_key: 32 bytes, Ed25519; created: unix seconds."""

    machine_id: str
    name: str
    verify_key: bytes
    created: int


class Chunking(msgspec.Struct, frozen=True):
    """Sizes in bytes, as ChunkParams has them."""

    min: int
    avg: int
    max: int


class FleetInfo(msgspec.Struct, frozen=True):
    """fleet.json. key_check: hex of Keys.check."""

    format: int
    fleet_id: str
    name: str
    chunking: Chunking
    key_check: str

    def is_key(self, keys: Keys) -> bool:
        return self.key_check == keys.check.hex()

    def chunk_params(self, keys: Keys) -> ChunkParams:
        return ChunkParams(
            seed=keys.chunker_seed, min_size=self.chunking.min, avg_size=self.chunking.avg, max_size=self.chunking.max
        )


class _Format(msgspec.Struct, frozen=True):
    format: int


class _Seq(msgspec.Struct, frozen=True):
    seq: int


_encoder = msgspec.json.Encoder()
_format = msgspec.json.Decoder(_Format)
_seq = msgspec.json.Decoder(_Seq)
_head = msgspec.json.Decoder(JournalHead)
_machine = msgspec.json.Decoder(MachineInfo)
_fleet = msgspec.json.Decoder(FleetInfo)


def journal_prefix(machine_id: str) -> str:
    return f"journal/{machine_id}/"


def segment_key(machine_id: str, first: int) -> str:
    return f"journal/{machine_id}/{first:016d}"


def segment_first(key: str) -> int | None:
    """The first seq that a segment's key names; None for a key that is no segment's."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] != "journal" or len(parts[2]) != 16 or not parts[2].isdecimal():
        return None
    return int(parts[2])


def head_key(machine_id: str) -> str:
    return f"heads/{machine_id}"


def machine_key(machine_id: str) -> str:
    return f"machines/{machine_id}"


def encode_segment(
    keys: Keys,
    fleet_id: str,
    machine_id: str,
    lines: Sequence[bytes],
    first: int,
    last: int,
    predecessor: bytes,
    nonce: bytes,
    signer: SigningKey,
) -> bytes:
    """The stored bytes of a segment. lines[i] is the record of seq first + i; nonce: 12 random bytes.

    ValueError if lines and seqs do not agree.
    """
    if not lines or first < 1 or last != first + len(lines) - 1 or len(predecessor) != HASH_SIZE:
        raise ValueError(f"{len(lines)} records are not the seqs {first} to {last}")
    return seal_object(
        keys,
        fleet_id=fleet_id,
        key=segment_key(machine_id, first),
        fmt=SEGMENT_FORMAT,
        body=b"\n".join(lines),
        nonce=nonce,
        signer=signer,
        extra=_EXTRA.pack(first, last, predecessor),
    )


def decode_segment(keys: Keys, fleet_id: str, machine_id: str, first: int, data: bytes, verify_key: bytes) -> Segment:
    """A segment as its machine wrote it, every line with the seq of its place; errors as of open_object."""
    key = segment_key(machine_id, first)
    extra = sealed_extra(key, data)
    if len(extra) != _EXTRA.size:
        raise BadFormat(f"{key}: not a segment")
    named_first, last, predecessor = _EXTRA.unpack(extra)
    body = open_object(
        keys, fleet_id=fleet_id, key=key, fmt=SEGMENT_FORMAT, data=data, verify_key=verify_key, extra=extra
    )
    lines = body.split(b"\n")
    if named_first != first or last != first + len(lines) - 1:
        raise BadFormat(f"{key}: {len(lines)} records for the seqs {named_first} to {last}")
    for offset, line in enumerate(lines):
        if _decode(_seq, key, line).seq != first + offset:
            raise BadFormat(f"{key}: record {offset} does not have seq {first + offset}")
    return Segment(first, last, predecessor, lines)


def encode_head(
    keys: Keys, fleet_id: str, machine_id: str, head: JournalHead, nonce: bytes, signer: SigningKey
) -> bytes:
    """The stored bytes of heads/<machine_id>."""
    return seal_object(
        keys,
        fleet_id=fleet_id,
        key=head_key(machine_id),
        fmt=HEAD_FORMAT,
        body=_encoder.encode(head),
        nonce=nonce,
        signer=signer,
    )


def decode_head(keys: Keys, fleet_id: str, machine_id: str, data: bytes, verify_key: bytes) -> JournalHead:
    """Errors as of open_object."""
    key = head_key(machine_id)
    body = open_object(keys, fleet_id=fleet_id, key=key, fmt=HEAD_FORMAT, data=data, verify_key=verify_key)
    head = _decode(_head, key, body)
    if not 1 <= head.first <= head.last <= SEQ_MAX or len(head.segment_hash) != HASH_SIZE:
        raise BadFormat(f"{key}: names no segment")
    return head


def encode_machine(keys: Keys, fleet_id: str, info: MachineInfo, nonce: bytes, signer: SigningKey) -> bytes:
    """The stored bytes of machines/<machine_id>, signed with the key they name. ValueError if that is not signer's."""
    if info.verify_key != signer.public:
        raise ValueError("a machine object is signed by the machine itself")
    return seal_object(
        keys,
        fleet_id=fleet_id,
        key=machine_key(info.machine_id),
        fmt=MACHINE_FORMAT,
        body=_encoder.encode(info),
        nonce=nonce,
        signer=signer,
    )


def decode_machine(keys: Keys, fleet_id: str, machine_id: str, data: bytes) -> MachineInfo:
    """Errors as of open_object; BadFormat also if it is not signed with the key inside it, or is another machine's."""
    key = machine_key(machine_id)
    body = open_object(keys, fleet_id=fleet_id, key=key, fmt=MACHINE_FORMAT, data=data, verify_key=None)
    info = _decode(_machine, key, body)
    if info.machine_id != machine_id or len(info.verify_key) != VERIFY_KEY_SIZE:
        raise BadFormat(f"{key}: speaks of another machine")
    if not signed_by(key, data, info.verify_key):
        raise BadFormat(f"{key}: not signed with its own key")
    return info


def encode_fleet(info: FleetInfo) -> bytes:
    """fleet.json: plain JSON, one line."""
    return _encoder.encode(info) + b"\n"


def decode_fleet(data: bytes) -> FleetInfo:
    """BadFormat if it is broken or its chunk sizes are not allowed, Unsupported if it is newer."""
    found = _decode(_format, FLEET_KEY, data).format
    if found != FLEET_FORMAT:
        raise Unsupported(f"{FLEET_KEY}: format {found}, this program knows {FLEET_FORMAT}")
    info = _decode(_fleet, FLEET_KEY, data)
    if not info.fleet_id or len(info.key_check) != 2 * HASH_SIZE:
        raise BadFormat(f"{FLEET_KEY}: no fleet id or key check")
    try:
        ChunkParams(seed=1, min_size=info.chunking.min, avg_size=info.chunking.avg, max_size=info.chunking.max)
    except ValueError as error:
        raise BadFormat(f"{FLEET_KEY}: {error}") from error
    return info


def _decode(decoder: msgspec.json.Decoder[_T], key: str, data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFormat(f"{key}: {error}") from error
