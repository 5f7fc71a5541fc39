"""Sealed objects: everything in a store but fleet.json and the chunk areas of packs (docs/FORMATS.md, section 4).

A sealed object is compressed, encrypted with the fleet's key and signed by the machine that wrote it. It opens only
under the fleet and the object key that it was sealed for.
"""

import struct
from dataclasses import dataclass

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sync.core.codec import NONCE_SIZE, TAG_SIZE, Buffer
from sync.core.errors import BadFormat, NotAuthorised, Unsupported
from sync.core.keys import Keys

MAGIC = b"TCFO"
KEY_EPOCH = 0
BODY_MAX = 256 << 20  # bytes, decompressed
SIGNATURE_SIZE = 64
VERIFY_KEY_SIZE = 32
SEED_SIZE = 32

_HEADER = struct.Struct(">4sHIH")  # magic, format, key epoch, length of extra


class SigningKey:
    """An Ed25519 key pair from its 32-byte seed; ValueError for another length."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, data: Buffer) -> bytes:
        """64 bytes over all of data."""
        return self._private.sign(bytes(data))


def verify(public: bytes, data: Buffer, signature: bytes) -> bool:
    """True if the holder of `public` (32 bytes) signed data. False also for keys and signatures that are none."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, bytes(data))
    except (InvalidSignature, ValueError):
        return False
    return True


def object_hash(data: Buffer) -> bytes:
    """BLAKE3 of an object's stored bytes: how a segment names its predecessor, and a journal head its segment."""
    return blake3(data).digest()


@dataclass(frozen=True, slots=True)
class _Parts:
    format: int
    extra: bytes
    nonce: bytes
    ciphertext: bytes
    signed: bytes
    signature: bytes


def seal_object(
    keys: Keys,
    *,
    fleet_id: str,
    key: str,
    fmt: int,
    body: bytes,
    nonce: bytes,
    signer: SigningKey,
    extra: bytes = b"",
) -> bytes:
    """The stored bytes of `body` as the object `key`. extra travels in the clear, and is signed and bound to the body.

    nonce: 12 random bytes, never used twice. ValueError if body is larger than BODY_MAX.
    """
    if len(body) > BODY_MAX:
        raise ValueError(f"{key}: a sealed object holds at most {BODY_MAX} bytes")
    # write_content_size is what lets open_object refuse a bomb before it allocates.
    packed = zstandard.ZstdCompressor(level=3, write_content_size=True).compress(body)
    ciphertext = AESGCM(keys.objects).encrypt(nonce, packed, _associated(fleet_id, key, fmt, KEY_EPOCH, extra))
    signed = b"".join((_HEADER.pack(MAGIC, fmt, KEY_EPOCH, len(extra)), extra, nonce, ciphertext))
    return signed + signer.sign(signed)


def open_object(
    keys: Keys,
    *,
    fleet_id: str,
    key: str,
    fmt: int,
    data: Buffer,
    verify_key: bytes | None,
    extra: bytes = b"",
) -> bytes:
    """The body of a sealed object. With verify_key None the signature is left to the caller (signed_by).

    BadFormat if it is cut, altered, another object or not signed by verify_key; Unsupported for a newer format or key
    epoch; NotAuthorised if it is signed as it should be, but for another fleet key.
    """
    parts = _split(key, data)
    if parts.format != fmt:
        raise Unsupported(f"{key}: format {parts.format}, this program knows {fmt}")
    if parts.extra != extra:
        raise BadFormat(f"{key}: its header speaks of another object")
    if verify_key is not None and not verify(verify_key, parts.signed, parts.signature):
        raise BadFormat(f"{key}: the signature is not its machine's")
    try:
        packed = AESGCM(keys.objects).decrypt(
            parts.nonce, parts.ciphertext, _associated(fleet_id, key, fmt, KEY_EPOCH, extra)
        )
    except InvalidTag as error:
        if verify_key is None:
            raise BadFormat(f"{key}: does not decrypt (altered, or another fleet's key)") from error
        raise NotAuthorised(
            f"{key}: intact, but sealed with another fleet's key", hint="compare `tcfs key show` on both machines"
        ) from error
    return _decompress(key, packed)


def sealed_extra(key: str, data: Buffer) -> bytes:
    """The clear part of a sealed object. Nothing vouches for it until open_object has been given the same bytes."""
    return _split(key, data).extra


def signed_by(key: str, data: Buffer, public: bytes) -> bool:
    """True if the whole object is signed by `public`; BadFormat if it is no sealed object."""
    parts = _split(key, data)
    return verify(public, parts.signed, parts.signature)


def _split(key: str, data: Buffer) -> _Parts:
    if len(data) < _HEADER.size:
        raise BadFormat(f"{key}: cut short at {len(data)} bytes")
    magic, fmt, epoch, extra_length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadFormat(f"{key}: not a sealed object")
    if epoch != KEY_EPOCH:
        raise Unsupported(f"{key}: key epoch {epoch}, this program knows {KEY_EPOCH}")
    raw = bytes(data)
    extra_end = _HEADER.size + extra_length
    if len(raw) < extra_end + NONCE_SIZE + TAG_SIZE + SIGNATURE_SIZE:
        raise BadFormat(f"{key}: cut short at {len(raw)} bytes")
    return _Parts(
        format=fmt,
        extra=raw[_HEADER.size : extra_end],
        nonce=raw[extra_end : extra_end + NONCE_SIZE],
        ciphertext=raw[extra_end + NONCE_SIZE : -SIGNATURE_SIZE],
        signed=raw[:-SIGNATURE_SIZE],
        signature=raw[-SIGNATURE_SIZE:],
    )


def _associated(fleet_id: str, key: str, fmt: int, epoch: int, extra: bytes) -> bytes:
    fields = (fleet_id.encode(), key.encode(), struct.pack(">HI", fmt, epoch), extra)
    # Each with its length before it: no two different tuples give the same bytes.
    return b"".join(len(item).to_bytes(2, "big") + item for item in fields)


def _decompress(key: str, packed: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= BODY_MAX:
            raise BadFormat(f"{key}: a body of {size} bytes is not allowed")
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=BODY_MAX)
    except zstandard.ZstdError as error:
        raise BadFormat(f"{key}: does not decompress: {error}") from error
