import struct

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from sync.core import sealed
from sync.core.errors import BadFormat, NotAuthorised, Unsupported
from sync.core.keys import Keys
from sync.core.sealed import SigningKey, object_hash, open_object, seal_object, sealed_extra, signed_by, verify

KEYS = Keys.from_root(bytes(range(32)))
NONCE = bytes(range(100, 112))
SIGNER = SigningKey(bytes(32))
OTHER = SigningKey(bytes([1]) * 32)
FLEET = "5f0f6b9e-0000-4000-8000-000000000000"
GOLDEN = bytes.fromhex(
    "5443464f0007000000000005636c6561726465666768696a6b6c6d6e6fa6655a12288188a024b8ef356e87887f1f421497a5"
    "43b74a977083b9bcdd92b2b8b447880b46024432e0fb1f70e6a83bac909f6edd18829016119db81935619e87cd241c19b158"
    "0b4b0dcb475bc481d54fa79bdc0bf34d0c3bf3afd47d5b1c89a05722c354ade6d2056706"
)


def seal(body: bytes, extra: bytes = b"", key: str = "heads/m", fleet: str = FLEET) -> bytes:
    return seal_object(KEYS, fleet_id=fleet, key=key, fmt=7, body=body, nonce=NONCE, signer=SIGNER, extra=extra)


def open_(data: bytes, **changes: object) -> bytes:
    arguments = {"fleet_id": FLEET, "key": "heads/m", "fmt": 7, "verify_key": SIGNER.public, "extra": b""} | changes
    return open_object(arguments.pop("keys", KEYS), data=data, **arguments)


def test_the_signing_key_is_plain_ed25519() -> None:
    # RFC 8032, section 7.1, test 2
    signer = SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert signer.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = signer.sign(b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verify(signer.public, b"\x72", signature)
    assert not verify(signer.public, b"\x73", signature)
    assert not verify(OTHER.public, b"\x72", signature)
    assert not verify(b"short", b"\x72", signature)
    assert not verify(signer.public, b"\x72", b"short")


def test_object_hash_is_blake3() -> None:
    assert object_hash(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_layout() -> None:
    data = seal(b"body", extra=b"clear")
    assert data[:17] == b"TCFO" + struct.pack(">HIH", 7, 0, 5) + b"clear"
    assert data[17:29] == NONCE
    assert verify(SIGNER.public, data[:-64], data[-64:])
    associated = b"".join(
        struct.pack(">H", len(part)) + part for part in (FLEET.encode(), b"heads/m", struct.pack(">HI", 7, 0), b"clear")
    )
    packed = AESGCM(KEYS.objects).decrypt(NONCE, data[29:-64], associated)
    assert zstandard.ZstdDecompressor().decompress(packed) == b"body"


def test_an_object_of_today_stays_readable() -> None:
    assert open_(GOLDEN, extra=b"clear") == b"golden body " * 4


@given(st.binary(max_size=500), st.binary(max_size=40))
def test_round_trip(body: bytes, extra: bytes) -> None:
    data = seal(body, extra)
    assert open_(data, extra=extra) == body
    assert open_(data, extra=extra, verify_key=None) == body
    assert sealed_extra("heads/m", data) == extra
    assert signed_by("heads/m", data, SIGNER.public)
    assert not signed_by("heads/m", data, OTHER.public)


@given(st.data(), st.booleans())
def test_any_flipped_byte_is_refused(data: st.DataObject, with_key: bool) -> None:
    broken = bytearray(seal(b"body", b"ex"))
    end = len(broken) if with_key else len(broken) - 64
    broken[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((BadFormat, Unsupported)):
        open_(bytes(broken), extra=b"ex", verify_key=SIGNER.public if with_key else None)


@given(st.data())
def test_a_cut_object_is_refused(data: st.DataObject) -> None:
    whole = seal(b"body")
    with pytest.raises(BadFormat):
        open_(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_it_opens_only_as_what_it_was_sealed_for() -> None:
    data = seal(b"body")
    with pytest.raises(NotAuthorised):
        open_(data, key="heads/n")
    with pytest.raises(NotAuthorised):
        open_(data, fleet_id="other")
    with pytest.raises(NotAuthorised):
        open_(data, keys=Keys.from_root(bytes(32)))
    with pytest.raises(BadFormat):
        open_(data, keys=Keys.from_root(bytes(32)), verify_key=None)
    with pytest.raises(BadFormat, match="signature"):
        open_(data, verify_key=OTHER.public)
    with pytest.raises(BadFormat):
        open_(data, extra=b"x")
    with pytest.raises(Unsupported):
        open_(data, fmt=8)


def test_a_later_key_epoch_is_unsupported() -> None:
    data = bytearray(seal(b"body"))
    data[9] = 1
    with pytest.raises(Unsupported):
        open_(bytes(data))


def test_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = seal(bytes(1000))
    monkeypatch.setattr(sealed, "BODY_MAX", 999)
    with pytest.raises(BadFormat, match="1000 bytes"):
        open_(data)
    with pytest.raises(ValueError, match="at most"):
        seal(bytes(1000))
