"""Packs: one immutable object that holds many encoded chunks (docs/FORMATS.md, section 5).

    magic | format | encoded chunks back to back | sealed index | u32 length of the index | BLAKE3 of all before

The journal's pack record is the authority on where chunks lie; the index inside a pack serves repair.
"""

import struct

import msgspec
from blake3 import blake3

from sync.core.codec import CHUNK_ID_SIZE, CHUNK_OVERHEAD, CHUNK_RAW_MAX, Buffer
from sync.core.errors import BadFormat, Integrity, Unsupported
from sync.core.keys import Keys
from sync.core.manifest import ChunkId, PackedChunk
from sync.core.sealed import SigningKey, open_object, seal_object

MAGIC = b"TCFP"
PACK_FORMAT = 1
INDEX_FORMAT = 1
PACK_TARGET = 16 << 20  # bytes
HEADER = MAGIC + PACK_FORMAT.to_bytes(2, "big")
TRAILER_SIZE = 4 + 32  # length of the index, digest

_TRAILER = struct.Struct(">I32s")
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[PackedChunk])


class Pack(msgspec.Struct, frozen=True):
    """A finished pack. parts, in order, are its bytes: `size` of them, whose BLAKE3 is pack_id."""

    pack_id: bytes
    size: int
    parts: list[bytes]
    chunks: list[PackedChunk]


class PackBuilder:
    """Collects encoded chunks for one pack; nothing is copied, and hashing goes along with adding. Not thread-safe."""

    def __init__(
        self, keys: Keys, fleet_id: str, machine_id: str, signer: SigningKey, target: int = PACK_TARGET
    ) -> None:
        self._keys = keys
        self._fleet_id = fleet_id
        self._machine_id = machine_id
        self._signer = signer
        self._target = target
        self._parts: list[bytes] = [HEADER]
        self._chunks: list[PackedChunk] = []
        self._hasher = blake3(HEADER)
        self.size = len(HEADER)  # bytes so far, without the index

    @property
    def is_empty(self) -> bool:
        return not self._chunks

    @property
    def is_full(self) -> bool:
        """True once the target size is reached: finish it now. A pack may exceed the target by one chunk."""
        return self.size >= self._target

    def add(self, chunk: ChunkId, encoded: bytes, flags: int, raw_length: int) -> None:
        """Append what encode_chunk made of a chunk of raw_length plain bytes."""
        self._chunks.append(PackedChunk(chunk.hex(), self.size, len(encoded), raw_length, flags))
        self._parts.append(encoded)
        self._hasher.update(encoded)
        self.size += len(encoded)

    def finish(self, nonce: bytes) -> Pack:
        """The pack; the builder must not be used again. nonce: 12 random bytes. ValueError if nothing was added."""
        if self.is_empty:
            raise ValueError("a pack holds at least one chunk")
        index = seal_object(
            self._keys,
            fleet_id=self._fleet_id,
            key=_index_key(self._machine_id),
            fmt=INDEX_FORMAT,
            body=_encoder.encode(self._chunks),
            nonce=nonce,
            signer=self._signer,
        )
        length = len(index).to_bytes(4, "big")
        self._hasher.update(index)
        self._hasher.update(length)
        digest = self._hasher.digest()
        self._hasher.update(digest)
        return Pack(
            pack_id=self._hasher.digest(),
            size=self.size + len(index) + TRAILER_SIZE,
            parts=[*self._parts, index, length + digest],
            chunks=self._chunks,
        )


def pack_key(machine_id: str, pack_id: str) -> str:
    """The object that is a pack; pack_id in hex."""
    return f"packs/{machine_id}/{pack_id[:2]}/{pack_id}"


def parse_pack_key(key: str) -> tuple[str, str]:
    """(machine_id, pack_id in hex) of a key that pack_key made; BadFormat for any other."""
    parts = key.split("/")
    if len(parts) != 4 or key != pack_key(parts[1], parts[3]):
        raise BadFormat(f"not the key of a pack: {key}")
    return parts[1], parts[3]


def verify_pack(pack_id: bytes, data: Buffer) -> None:
    """Integrity unless data are all bytes of that very pack, unaltered."""
    if len(data) < len(HEADER) + TRAILER_SIZE or bytes(data[: len(MAGIC)]) != MAGIC:
        raise Integrity(f"pack {pack_id.hex()}: not a pack, or cut short at {len(data)} bytes")
    if blake3(data).digest() != pack_id:
        raise Integrity(f"pack {pack_id.hex()}: its bytes are not those its name says")


def pack_tail_size(pack_id: bytes, tail: Buffer) -> int:
    """How many bytes from the end of a pack parse_pack_index needs; tail: at least its last TRAILER_SIZE bytes."""
    if len(tail) < TRAILER_SIZE:
        raise BadFormat(f"pack {pack_id.hex()}: cut short")
    length, _ = _TRAILER.unpack(tail[-TRAILER_SIZE:])
    return int(length) + TRAILER_SIZE


def parse_pack_index(
    keys: Keys, fleet_id: str, machine_id: str, pack_id: bytes, data: Buffer, verify_key: bytes | None
) -> list[PackedChunk]:
    """The index of a pack from its end, pack_tail_size bytes or more (all of them do as well).

    BadFormat if it is cut or altered, or says what no pack can hold; Unsupported for a newer format. That the pack's
    bytes are whole is for verify_pack to say.
    """
    name = f"pack {pack_id.hex()}"
    needed = pack_tail_size(pack_id, data)
    if len(data) < needed:
        raise BadFormat(f"{name}: {len(data)} bytes of the {needed} that hold its index")
    if bytes(data[: len(MAGIC)]) == MAGIC and bytes(data[: len(HEADER)]) != HEADER:
        raise Unsupported(f"{name}: a newer format")
    sealed = data[len(data) - needed : len(data) - TRAILER_SIZE]
    body = open_object(
        keys,
        fleet_id=fleet_id,
        key=_index_key(machine_id),
        fmt=INDEX_FORMAT,
        data=sealed,
        verify_key=verify_key,
    )
    try:
        chunks = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFormat(f"{name}: broken index: {error}") from error
    check_packed_chunks(name, chunks)
    return chunks


def check_packed_chunks(name: str, chunks: list[PackedChunk]) -> None:
    """BadFormat unless the chunks lie back to back from the header on, with possible ids and lengths."""
    offset = len(HEADER)
    for chunk in chunks:
        if len(chunk.id) != 2 * CHUNK_ID_SIZE or chunk.offset != offset:
            raise BadFormat(f"{name}: a chunk without a proper id or place")
        if not (
            CHUNK_OVERHEAD < chunk.length <= CHUNK_RAW_MAX + CHUNK_OVERHEAD and 0 < chunk.raw_length <= CHUNK_RAW_MAX
        ):
            raise BadFormat(f"{name}: a chunk of {chunk.length} bytes for {chunk.raw_length}")
        offset += chunk.length


def _index_key(machine_id: str) -> str:
    # The object's own key cannot be bound in: pack_id is the hash of bytes that the index is part of.
    return f"packs/{machine_id}"
