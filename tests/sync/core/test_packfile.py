import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from sync.core.codec import chunk_id, decode_chunk, encode_chunk
from sync.core.errors import BadFormat, Integrity, Unsupported
from sync.core.keys import Keys
from sync.core.manifest import PackedChunk
from sync.core.packfile import (
    HEADER,
    TRAILER_SIZE,
    Pack,
    PackBuilder,
    check_packed_chunks,
    pack_key,
    pack_tail_size,
    parse_pack_index,
    parse_pack_key,
    verify_pack,
)
from sync.core.sealed import SigningKey

KEYS = Keys.from_root(bytes(range(32)))
NONCE = bytes(range(100, 112))
SIGNER = SigningKey(bytes(32))
FLEET, MACHINE = "fleet", "machine"
GOLDEN_ID = bytes.fromhex("ed8294cad92a4406d9dc93e28b9bd02cd4725074b39486fb04996b979045cbb7")
GOLDEN = bytes.fromhex(
    "5443465000016465666768696a6b6c6d6e6f2f881f1897553a8fca197d082494ac1eaf545c8c7bbe35d98dab4e6465666768"
    "696a6b6c6d6e6f51311559f96d4fcf1f39e9a5edb74b7fb511e42aa0ff60f96470a87bfa6965e9bc3467c121605443464f00"
    "010000000000006465666768696a6b6c6d6e6fa6655a12281078a324ca82401343d81e1bc905f30017dd246b30c629e31944"
    "575b29cbc0c79a5d4d2f623638460c71ccb0cce14f0e3094e0590d047b9b276c04cc477b0388f95ab677821214518d923003"
    "1c9c47bbc708349285a352aa9c69728fe8c578ff98f7333f01101b61724f89f6f35fb14d528937ab35ac926b131aa7c3d68d"
    "60932a00e3e45e6ae50f04ed1adb8e701171df2c66d451298502ce72b3910e9cb8ac5833654b09b5d095c1e190c32e67d1e5"
    "7fdd9886a23940911f7716c722376b01000000dda47d02886865484a2a61cb8466044cdeb71cb1d4b3ff05f90befb9c1df9e"
    "002e"
)


def build(datas: list[bytes], target: int = 1 << 20) -> Pack:
    builder = PackBuilder(KEYS, FLEET, MACHINE, SIGNER, target)
    for data in datas:
        name = chunk_id(KEYS, data)
        encoded, flags = encode_chunk(KEYS, name, data, NONCE)
        builder.add(name, encoded, flags, len(data))
    return builder.finish(NONCE)


def index_of(pack_id: bytes, data: bytes) -> list[PackedChunk]:
    return parse_pack_index(KEYS, FLEET, MACHINE, pack_id, data, SIGNER.public)


def test_a_pack_of_today_stays_readable() -> None:
    verify_pack(GOLDEN_ID, GOLDEN)
    assert [
        (
            chunk.offset,
            decode_chunk(
                KEYS, bytes.fromhex(chunk.id), GOLDEN[chunk.offset :][: chunk.length], chunk.flags, chunk.raw_length
            ),
        )
        for chunk in index_of(GOLDEN_ID, GOLDEN)
    ] == [(6, b"first chunk"), (45, b"second" * 20)]


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=8))
def test_round_trip(datas: list[bytes]) -> None:
    pack = build(datas)
    raw = b"".join(pack.parts)
    assert len(raw) == pack.size
    assert blake3(raw).digest() == pack.pack_id
    assert raw[:6] == HEADER == b"TCFP\0\1"
    assert blake3(raw[:-32]).digest() == raw[-32:]
    verify_pack(pack.pack_id, raw)
    tail = pack_tail_size(pack.pack_id, raw[-TRAILER_SIZE:])
    assert index_of(pack.pack_id, raw[-tail:]) == index_of(pack.pack_id, raw) == pack.chunks
    assert [
        decode_chunk(KEYS, bytes.fromhex(c.id), raw[c.offset : c.offset + c.length], c.flags, c.raw_length)
        for c in pack.chunks
    ] == datas


@given(st.data())
def test_any_flipped_byte_is_found_by_verify(data: st.DataObject) -> None:
    pack = build([b"one", b"two" * 100])
    broken = bytearray(b"".join(pack.parts))
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Integrity):
        verify_pack(pack.pack_id, broken)


@given(st.integers(0, 300))
def test_a_cut_pack_is_refused(cut: int) -> None:
    pack = build([b"one", b"two" * 100])
    raw = b"".join(pack.parts)
    with pytest.raises(Integrity):
        verify_pack(pack.pack_id, raw[:cut])
    with pytest.raises(BadFormat):
        index_of(pack.pack_id, raw[: len(raw) - 1 - cut])


def test_the_tail_must_reach_the_index() -> None:
    pack = build([b"one"])
    raw = b"".join(pack.parts)
    with pytest.raises(BadFormat, match="that hold its index"):
        index_of(pack.pack_id, raw[-pack_tail_size(pack.pack_id, raw) + 1 :])


def test_another_machines_index_is_refused() -> None:
    pack = build([b"one"])
    with pytest.raises(BadFormat):
        parse_pack_index(KEYS, FLEET, MACHINE, pack.pack_id, b"".join(pack.parts), SigningKey(bytes([1]) * 32).public)


def test_a_newer_format_is_unsupported() -> None:
    pack = build([b"one"])
    raw = bytearray(b"".join(pack.parts))
    raw[5] = 2
    with pytest.raises(Unsupported):
        index_of(pack.pack_id, bytes(raw))


def test_full_at_target() -> None:
    builder = PackBuilder(KEYS, FLEET, MACHINE, SIGNER, target=100)
    assert builder.is_empty
    builder.add(chunk_id(KEYS, b"a"), bytes(93), 0, 65)
    assert (builder.size, builder.is_full, builder.is_empty) == (99, False, False)
    builder.add(chunk_id(KEYS, b"b"), bytes(29), 0, 1)
    assert builder.is_full


def test_an_empty_pack_is_not_made() -> None:
    with pytest.raises(ValueError, match="at least one"):
        PackBuilder(KEYS, FLEET, MACHINE, SIGNER).finish(NONCE)


@pytest.mark.parametrize(
    "chunk",
    [
        PackedChunk("00" * 31, 6, 40, 12, 0),
        PackedChunk("00" * 32, 5, 40, 12, 0),
        PackedChunk("00" * 32, 6, 28, 12, 0),
        PackedChunk("00" * 32, 6, 5 << 20, 12, 0),
        PackedChunk("00" * 32, 6, 40, 0, 0),
        PackedChunk("00" * 32, 6, 40, 5 << 20, 0),
    ],
)
def test_impossible_places_are_refused(chunk: PackedChunk) -> None:
    with pytest.raises(BadFormat):
        check_packed_chunks("pack", [chunk])


def test_key() -> None:
    assert pack_key("m", "abcd") == "packs/m/ab/abcd"
    assert parse_pack_key("packs/m/ab/abcd") == ("m", "abcd")
    for key in ("packs/m/ab", "packs/m/ac/abcd", "journal/m/ab/abcd", "packs/m/ab/abcd/e", ""):
        with pytest.raises(BadFormat):
            parse_pack_key(key)
