"""The recovery phrase, the names of chunks and contents, and the encoding of chunks (docs/FORMATS.md, sections 1 to 3).

The root of a fleet's keys is the entropy of a 24-word BIP-39 phrase.
"""

import threading
from collections.abc import Sequence
from typing import Final

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from mnemonic import Mnemonic

from sync.core.errors import BadInput, Integrity
from sync.core.keys import Keys
from sync.core.manifest import ChunkId

Buffer = bytes | bytearray | memoryview

CHUNK_ID_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16
CHUNK_OVERHEAD = NONCE_SIZE + TAG_SIZE  # an encoded chunk is this much longer than its payload
CHUNK_RAW_MAX = 4 << 20  # bytes; no fleet may cut larger chunks
CHUNK_FORMAT = 1
FLAG_ZSTD = 1

_ZSTD_LEVEL = 3


def phrase_from_root(root: bytes) -> str:
    """The 24 English BIP-39 words that are this root."""
    return Mnemonic("english").to_mnemonic(root)


def root_from_phrase(phrase: str) -> bytes:
    """The root of a recovery phrase; case and spacing do not matter. BadInput for unknown words or a wrong checksum."""
    words = phrase.lower().split()
    if len(words) != 24:
        raise BadInput(f"a recovery phrase has 24 words, not {len(words)}")
    try:
        return bytes(Mnemonic("english").to_entropy(words))
    except (ValueError, LookupError) as error:
        raise BadInput("not a recovery phrase", hint="check the spelling and the order of the words") from error


def chunk_id(keys: Keys, data: Buffer) -> ChunkId:
    """The name of a chunk: BLAKE3 of its plain bytes, keyed."""
    return ChunkId(blake3(data, key=keys.chunk_id).digest())


_RUN: Final = 65_536  # equal entries put together: 2.4 MB


class ContentHasher:
    """content_id of a file whose chunks come one by one. A file without chunks has that of the empty sequence."""

    def __init__(self, keys: Keys) -> None:
        self._hasher = blake3(key=keys.content_id)

    def add(self, chunk: ChunkId, size: int) -> None:
        """The next chunk and its plain size in bytes."""
        self._hasher.update(chunk + size.to_bytes(4, "big"))

    def add_run(self, chunk: ChunkId, size: int, count: int) -> None:
        """The same chunk `count` times."""
        entry = chunk + size.to_bytes(4, "big")
        for start in range(0, count, _RUN):
            self._hasher.update(entry * min(_RUN, count - start))

    def content_id(self) -> str:
        """64 hex digits for what was added so far."""
        return self._hasher.hexdigest()


def content_id(keys: Keys, ids: Sequence[ChunkId], sizes: Sequence[int]) -> str:
    """Equal for equal bytes, in 64 hex digits. sizes are the plain sizes of the chunks."""
    packed = b"".join(chunk + size.to_bytes(4, "big") for chunk, size in zip(ids, sizes, strict=True))
    return blake3(packed, key=keys.content_id).hexdigest()


class ChunkCodec:
    """Encodes and decodes chunks of one fleet. Usable from many threads: each has its own zstd contexts."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._local = threading.local()
        AESGCM(bytes(32))  # the first cipher of a process takes a millisecond, for which a first reader would wait

    def encode(self, chunk: ChunkId, data: Buffer, nonce: bytes) -> tuple[bytes, int]:
        """(nonce | ciphertext | tag, flags). The nonce, 12 random bytes, must never be used again for this chunk id.

        Compressed only where that saves 1/16 or more. ValueError if data is empty or larger than CHUNK_RAW_MAX.
        """
        return self.encode_many([(chunk, data)], nonce)[0]

    def encode_many(self, chunks: Sequence[tuple[ChunkId, Buffer]], nonces: bytes) -> list[tuple[bytes, int]]:
        """encode for each, with 12 bytes of nonces after the other.

        They are compressed in one call: a thread that lets go of the interpreter for every small chunk waits for it
        each time, beside a busy one four times as long as the work takes.
        """
        for _, data in chunks:
            if not 0 < len(data) <= CHUNK_RAW_MAX:
                raise ValueError(f"a chunk is 1 to {CHUNK_RAW_MAX} bytes, not {len(data)}")
        if not chunks:
            return []
        compressed = self._compressor().multi_compress_to_buffer([data for _, data in chunks])
        encoded: list[tuple[bytes, int]] = []
        for number, (chunk, data) in enumerate(chunks):
            is_smaller = len(compressed[number]) * 16 <= len(data) * 15
            payload, flags = (compressed[number].tobytes(), FLAG_ZSTD) if is_smaller else (data, 0)
            nonce = nonces[number * NONCE_SIZE : (number + 1) * NONCE_SIZE]
            encoded.append((nonce + self._cipher(chunk).encrypt(nonce, payload, _associated(chunk)), flags))
        return encoded

    def decode(self, chunk: ChunkId, encoded: Buffer, flags: int, raw_length: int) -> bytes:
        """The plain bytes, raw_length of them, whose id is `chunk`; Integrity for anything else.

        Lengths are checked before anything is decompressed, so a hostile index cannot make this allocate more than
        CHUNK_RAW_MAX.
        """
        payload_length = len(encoded) - CHUNK_OVERHEAD
        if flags & ~FLAG_ZSTD or not 0 < raw_length <= CHUNK_RAW_MAX:
            raise Integrity(f"chunk {chunk.hex()}: impossible flags {flags} or length {raw_length}")
        if not (0 < payload_length <= raw_length if flags else payload_length == raw_length):
            raise Integrity(f"chunk {chunk.hex()}: {len(encoded)} bytes stored do not fit {raw_length} bytes")
        view = memoryview(encoded)
        try:
            data = self._cipher(chunk).decrypt(bytes(view[:NONCE_SIZE]), view[NONCE_SIZE:], _associated(chunk))
        except InvalidTag as error:
            raise Integrity(f"chunk {chunk.hex()}: does not decrypt (altered, or another fleet's key)") from error
        if flags:
            data = self._decompress(chunk, data, raw_length)
        if chunk_id(self._keys, data) != chunk:
            raise Integrity(f"chunk {chunk.hex()}: holds other bytes than its name says")
        return data

    def _cipher(self, chunk: ChunkId) -> AESGCM:
        # One key a chunk: random 96-bit nonces then only have to differ among the encodings of that chunk.
        return AESGCM(blake3(chunk, key=self._keys.chunk_cipher).digest())

    def _compressor(self) -> zstandard.ZstdCompressor:
        found: zstandard.ZstdCompressor | None = getattr(self._local, "compressor", None)
        if found is None:
            found = self._local.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        return found

    def _decompress(self, chunk: ChunkId, data: bytes, raw_length: int) -> bytes:
        decompressor: zstandard.ZstdDecompressor | None = getattr(self._local, "decompressor", None)
        if decompressor is None:
            decompressor = self._local.decompressor = zstandard.ZstdDecompressor()
        try:
            # The frame's own size would be allocated as it stands, whatever max_output_size says.
            if zstandard.frame_content_size(data) != raw_length:
                raise Integrity(f"chunk {chunk.hex()}: decompressed size differs from {raw_length}")
            return decompressor.decompress(data, max_output_size=raw_length)
        except zstandard.ZstdError as error:
            raise Integrity(f"chunk {chunk.hex()}: does not decompress: {error}") from error


def encode_chunk(keys: Keys, chunk: ChunkId, data: Buffer, nonce: bytes) -> tuple[bytes, int]:
    """ChunkCodec.encode for a single chunk; many chunks go through one ChunkCodec."""
    return ChunkCodec(keys).encode(chunk, data, nonce)


def decode_chunk(keys: Keys, chunk: ChunkId, encoded: Buffer, flags: int, raw_length: int) -> bytes:
    """ChunkCodec.decode for a single chunk; many chunks go through one ChunkCodec."""
    return ChunkCodec(keys).decode(chunk, encoded, flags, raw_length)


def _associated(chunk: ChunkId) -> bytes:
    return bytes((CHUNK_FORMAT,)) + chunk
