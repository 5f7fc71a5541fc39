import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.codec import (
    CHUNK_OVERHEAD,
    CHUNK_RAW_MAX,
    FLAG_ZSTD,
    NONCE_SIZE,
    ChunkCodec,
    ContentHasher,
    chunk_id,
    content_id,
    decode_chunk,
    encode_chunk,
    phrase_from_root,
    root_from_phrase,
)
from sync.core.errors import BadInput, Integrity
from sync.core.keys import Keys, new_root

ROOT = bytes(range(32))
KEYS = Keys.from_root(ROOT)
NONCE = bytes(range(100, 112))
HELLO = b"fleet sync test\n"


def test_keys_golden() -> None:
    assert {
        "chunk_id": "e86037d3031a38dcc818bad92aa7a5300142d8b8d4d5881296f078fc8c2178fd",
        "content_id": "3e701a2cd6ae8806a7990bed6c374d3cad31a51c21e2dace25c36fe46d8f928f",
        "chunk_cipher": "eb08494a9f39f39a4c73506746de00890a6ea9d60d7302e10df32664ecdde662",
        "objects": "687ef07bad3145a6d9fc3d7d95dada4d2d2735c4c40a1ec81d3f8472e1ea38ca",
        "check": "991f5452b55f1b8f7019e3979d80750b90896db2768f99d885ad4f75ef6200c3",
        "chunker_seed": "430818b72d058401",
    } == {
        "chunk_id": KEYS.chunk_id.hex(),
        "content_id": KEYS.content_id.hex(),
        "chunk_cipher": KEYS.chunk_cipher.hex(),
        "objects": KEYS.objects.hex(),
        "check": KEYS.check.hex(),
        "chunker_seed": f"{KEYS.chunker_seed:016x}",
    }


def test_keys_differ_from_each_other_and_are_not_shown() -> None:
    derived = {KEYS.chunk_id, KEYS.content_id, KEYS.chunk_cipher, KEYS.objects, KEYS.check, KEYS.root}
    assert len(derived) == 6
    assert repr(KEYS) == "Keys()"


@pytest.mark.parametrize("root", [b"", bytes(31), bytes(33)])
def test_a_root_has_32_bytes(root: bytes) -> None:
    with pytest.raises(BadInput):
        Keys.from_root(root)
    with pytest.raises(BadInput):
        new_root(root)


def test_phrase_golden() -> None:
    assert phrase_from_root(bytes(32)) == "abandon " * 23 + "art"


@given(st.binary(min_size=32, max_size=32))
def test_phrase_round_trip(root: bytes) -> None:
    assert root_from_phrase("  " + phrase_from_root(root).upper().replace(" ", "\n ")) == root


@pytest.mark.parametrize(
    "phrase", ["", "abandon " * 23, "abandon " * 24, "abandon " * 23 + "zzz", "abandon " * 11 + "about"]
)
def test_bad_phrases_are_refused(phrase: str) -> None:
    with pytest.raises(BadInput):
        root_from_phrase(phrase)


def test_ids_golden() -> None:
    name = chunk_id(KEYS, HELLO)
    assert name.hex() == "ee15b08fb1b266c427a21c8db800cd87e1cd97835ecec8099624bbdaeb507686"
    assert content_id(KEYS, [name], [len(HELLO)]) == "fdcadaf2a2d6d8ecaacf83736303082d9a9061ac08c04916ca83d52f666ffbfc"
    assert content_id(KEYS, [], []) == "8f098b801acd1db79c5376b276b647d45bf61ce20497a5e769bfd292b75c2a51"


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, CHUNK_RAW_MAX)), max_size=5))
def test_content_hasher_equals_content_id(pairs: list) -> None:
    hasher = ContentHasher(KEYS)
    for name, size in pairs:
        hasher.add(name, size)
    assert hasher.content_id() == content_id(KEYS, [name for name, _ in pairs], [size for _, size in pairs])


def test_encode_golden() -> None:
    name = chunk_id(KEYS, HELLO)
    encoded, flags = encode_chunk(KEYS, name, HELLO, NONCE)
    assert (encoded.hex(), flags) == (
        "6465666768696a6b6c6d6e6f9f13da112a253e9fc8fc73439e133c2581ab3b3d4777e3212a693f0a6b071937",
        0,
    )


def test_a_compressed_chunk_of_today_stays_readable() -> None:
    data = b"abcd" * 64
    golden = bytes.fromhex(
        "6465666768696a6b6c6d6e6f2243acdb2a0b7ab2e81b99ef2bd4d1b0a2b3cb3792192acdf9519032d2be56d95050b29049"
    )
    assert decode_chunk(KEYS, chunk_id(KEYS, data), golden, FLAG_ZSTD, len(data)) == data


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 20))
def test_chunk_round_trip(piece: bytes, repeat: int) -> None:
    data = piece * repeat
    name = chunk_id(KEYS, data)
    encoded, flags = encode_chunk(KEYS, name, memoryview(data), NONCE)
    saved = len(data) - (len(encoded) - CHUNK_OVERHEAD)
    assert saved * 16 >= len(data) if flags else saved == 0
    assert decode_chunk(KEYS, name, memoryview(encoded), flags, len(data)) == data


@given(st.data())
def test_any_flipped_byte_is_an_integrity_error(data: st.DataObject) -> None:
    plain = data.draw(st.sampled_from([HELLO, b"abcd" * 100]))
    name = chunk_id(KEYS, plain)
    encoded, flags = encode_chunk(KEYS, name, plain, NONCE)
    broken = bytearray(encoded)
    broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Integrity):
        decode_chunk(KEYS, name, broken, flags, len(plain))


@pytest.mark.parametrize("plain", [HELLO, b"abcd" * 100])
def test_wrong_lengths_flags_names_and_keys_are_integrity_errors(plain: bytes) -> None:
    name = chunk_id(KEYS, plain)
    encoded, flags = encode_chunk(KEYS, name, plain, NONCE)
    wrong = [
        (KEYS, name, encoded, flags, len(plain) - 1),
        (KEYS, name, encoded, flags, len(plain) + 1),
        (KEYS, name, encoded, flags, 0),
        (KEYS, name, encoded, flags, CHUNK_RAW_MAX + 1),
        (KEYS, name, encoded, flags ^ FLAG_ZSTD, len(plain)),
        (KEYS, name, encoded, flags | 2, len(plain)),
        (KEYS, name, encoded[:-1], flags, len(plain)),
        (KEYS, name, b"", flags, len(plain)),
        (KEYS, chunk_id(KEYS, b"other"), encoded, flags, len(plain)),
        (Keys.from_root(bytes(32)), name, encoded, flags, len(plain)),
    ]
    for arguments in wrong:
        with pytest.raises(Integrity):
            decode_chunk(*arguments)


def test_a_chunk_encoded_under_a_name_that_is_not_its_own_is_found_out() -> None:
    name = chunk_id(KEYS, b"other")
    encoded, flags = encode_chunk(KEYS, name, HELLO, NONCE)
    with pytest.raises(Integrity, match="other bytes"):
        decode_chunk(KEYS, name, encoded, flags, len(HELLO))


def test_a_compressed_size_that_lies_is_refused_before_decompressing() -> None:
    plain = bytes(CHUNK_RAW_MAX)
    name = chunk_id(KEYS, plain)
    encoded, flags = encode_chunk(KEYS, name, plain, NONCE)
    assert len(encoded) < 4096
    with pytest.raises(Integrity, match="decompressed size"):
        decode_chunk(KEYS, name, encoded, flags, 4096)


@pytest.mark.parametrize("size", [0, CHUNK_RAW_MAX + 1])
def test_impossible_chunks_are_not_encoded(size: int) -> None:
    with pytest.raises(ValueError, match="a chunk is"):
        encode_chunk(KEYS, chunk_id(KEYS, b""), bytes(size), NONCE)


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=8), st.randoms(use_true_random=False))
def test_many_chunks_at_once_are_each_encoded_under_a_nonce_of_their_own(datas: list[bytes], random: Random) -> None:
    codec = ChunkCodec(KEYS)
    nonces = random.randbytes(NONCE_SIZE * len(datas))
    chunks = [(chunk_id(KEYS, data * 3), data * 3) for data in datas]
    encoded = codec.encode_many(chunks, nonces)
    assert [body[:NONCE_SIZE] for body, _ in encoded] == [
        nonces[start : start + NONCE_SIZE] for start in range(0, len(nonces), NONCE_SIZE)
    ]
    for (name, data), (body, flags) in zip(chunks, encoded, strict=True):
        assert codec.decode(name, body, flags, len(data)) == data


def test_one_codec_in_many_threads() -> None:
    codec = ChunkCodec(KEYS)
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(100):
            data = f"{number} {i} ".encode() * (50 + i)
            name = chunk_id(KEYS, data)
            encoded, flags = codec.encode(name, data, NONCE)
            if codec.decode(name, encoded, flags, len(data)) != data:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
