import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.errors import BadFormat, NotAuthorised, Unsupported
from sync.core.journal import (
    FLEET_KEY,
    NO_PREDECESSOR,
    Chunking,
    FleetInfo,
    JournalHead,
    MachineInfo,
    Segment,
    decode_fleet,
    decode_head,
    decode_machine,
    decode_segment,
    encode_fleet,
    encode_head,
    encode_machine,
    encode_segment,
    head_key,
    journal_prefix,
    machine_key,
    object_hash,
    segment_first,
    segment_key,
)
from sync.core.keys import Keys
from sync.core.manifest import RemarkRecord, encode_record
from sync.core.sealed import SigningKey, seal_object

KEYS = Keys.from_root(bytes(range(32)))
NONCE = bytes(range(100, 112))
SIGNER = SigningKey(bytes(32))
OTHER = SigningKey(bytes([1]) * 32)
FLEET, MACHINE = "fleet", "3c0a2a6e-0000-4000-8000-000000000001"
GOLDEN_SEGMENT = bytes.fromhex(
    "5443464f000200000000003000000000000000050000000000000007000102030405060708090a0b0c0d0e0f101112131415"
    "161718191a1b1c1d1e1f6465666768696a6b6c6d6e6fa6655a122832d0a1244c8a21209794615a0241d1ae06db2baa8d8550"
    "b26e60462dd1567c95be881bdddd4ca4819e45b2938f65c1ff6cbc6e89230a77c4846a2c16b141948cc9abe3f05107ef6685"
    "216d5b4d3877fae0d7e3da76bf2dd4d6609ba19154880721578e947fa2074861e9c187943ae00aff27f00846b3f678f159bb"
    "2643ac5327758f3dff0f208b90633367a90c"
)
GOLDEN_HEAD = bytes.fromhex(
    "5443464f00030000000000006465666768696a6b6c6d6e6fa6655a1228e38ca224a3aa3c6b919e651d1a4edffe0fd739acc4"
    "9d4bbc3f76526886063ec3958502da955ebcdedf16a88bce2ec5b40b8b4ec2491cd7f1149ab1a9e02643eeb3713a12f97211"
    "50233e4e1be842a539c0998dc98485268482670e40d783c914cb4a90acbedebfeabc5440f4b190f40ebbc0475e94f22b4229"
    "18ab459d111fed7cbc2141decc4ffbb3d64f406c5d17dd1b232768e1cd120b9c1b43598c46303fa1b93ed39d09"
)
GOLDEN_MACHINE = bytes.fromhex(
    "5443464f00040000000000006465666768696a6b6c6d6e6fa6655a122825e8a3246a4f411ca3826464d500430a7472588a20"
    "ce23b7d3dba70ba87a1917337052a53efc11f1b8845bb70a4313d4ec980ca53120b7c7afafa6c993c821ac8d1ac50e820a6a"
    "82e04a4546d2baf90e837ef7c953d94f3e0d231998d0f1c8a53190573072b8dbe3a9e06ccc2d627fea74871b7746a0fe3b63"
    "c2025f8f23505388ec43fbe6f1af9ab55efd4bdf270ba263390bf551c0281d1c866f07190f423718f59b7f48fe72a599c83c"
    "1a104573a79ec500fa6a39a2f04de9851be8967de39d89c8ff87de57ab55b5775f5d6f1a7efd0c"
)
GOLDEN_FLEET = (
    b'{"format":1,"fleet_id":"fleet","name":"default","chunking":{"min":262144,"avg":1048576,"max":4194304},'
    b'"key_check":"991f5452b55f1b8f7019e3979d80750b90896db2768f99d885ad4f75ef6200c3"}\n'
)
FLEET_INFO = FleetInfo(1, "fleet", "default", Chunking(262144, 1048576, 4194304), KEYS.check.hex())


def remarks(first: int, count: int) -> list[bytes]:
    return [encode_record(RemarkRecord(seq=first + i, text=f"remark {i}")) for i in range(count)]


def encode(lines: list[bytes], first: int, last: int, predecessor: bytes = NO_PREDECESSOR) -> bytes:
    return encode_segment(KEYS, FLEET, MACHINE, lines, first, last, predecessor, NONCE, SIGNER)


def decode(data: bytes, first: int = 1, machine: str = MACHINE, verify_key: bytes = SIGNER.public) -> Segment:
    return decode_segment(KEYS, FLEET, machine, first, data, verify_key)


def test_keys() -> None:
    assert segment_key("m", 42) == "journal/m/0000000000000042"
    assert segment_key("m", 42).startswith(journal_prefix("m"))
    assert (head_key("m"), machine_key("m"), FLEET_KEY) == ("heads/m", "machines/m", "fleet.json")


@given(st.integers(1, 10**16 - 1))
def test_segment_first_undoes_segment_key(first: int) -> None:
    assert segment_first(segment_key("m", first)) == first


@pytest.mark.parametrize(
    "key", ["heads/m", "journal/m/v/0000000000000001", "journal/m/1", "journal/m/000000000000000x"]
)
def test_other_keys_are_no_segments(key: str) -> None:
    assert segment_first(key) is None


def test_objects_of_today_stay_readable() -> None:
    predecessor = bytes(range(32))
    assert decode(GOLDEN_SEGMENT, 5) == Segment(5, 7, predecessor, remarks(5, 3))
    assert decode_head(KEYS, FLEET, MACHINE, GOLDEN_HEAD, SIGNER.public) == JournalHead(
        5, 7, object_hash(GOLDEN_SEGMENT)
    )
    assert decode_machine(KEYS, FLEET, MACHINE, GOLDEN_MACHINE) == MachineInfo(
        MACHINE, "yoga", SIGNER.public, 1700000000
    )
    assert decode_fleet(GOLDEN_FLEET) == FLEET_INFO
    assert encode_fleet(FLEET_INFO) == GOLDEN_FLEET


@given(st.integers(1, 10**9), st.integers(1, 20), st.binary(min_size=32, max_size=32))
def test_segment_round_trip(first: int, count: int, predecessor: bytes) -> None:
    lines = remarks(first, count)
    data = encode(lines, first, first + count - 1, predecessor)
    assert decode(data, first) == Segment(first, first + count - 1, predecessor, lines)


def test_records_of_unknown_types_travel_as_they_came() -> None:
    line = b'{"seq": 1, "type":"future", "x":[1, 2]}'
    assert decode(encode([line], 1, 1)).lines == [line]


def test_a_segment_belongs_to_its_machine_and_place() -> None:
    data = encode(remarks(1, 2), 1, 2)
    with pytest.raises((BadFormat, NotAuthorised)):
        decode(data, 2)
    with pytest.raises((BadFormat, NotAuthorised)):
        decode(data, machine="other")
    with pytest.raises(BadFormat):
        decode(data, verify_key=OTHER.public)


def test_the_clear_part_of_a_segment_is_bound() -> None:
    data = bytearray(encode(remarks(1, 2), 1, 2))
    data[12 + 16] ^= 1  # the first byte of the predecessor's hash
    with pytest.raises(BadFormat):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("lines", "first", "last"), [([], 1, 0), ([], 1, 1), (remarks(1, 2), 1, 1), (remarks(0, 1), 0, 0)]
)
def test_segments_that_do_not_add_up_are_not_written(lines: list[bytes], first: int, last: int) -> None:
    with pytest.raises(ValueError, match="are not the seqs"):
        encode(lines, first, last)


@pytest.mark.parametrize(
    "lines", [remarks(2, 2), [*remarks(1, 1), *remarks(1, 1)], [b"{}", b"{}"], [b"x", b"y"], [b"", b""], [b'{"seq":1}']]
)
def test_segments_that_do_not_add_up_are_not_read(lines: list[bytes]) -> None:
    # first and last say 1 and 2: encode_segment would not write most of these
    extra = (1).to_bytes(8, "big") + (2).to_bytes(8, "big") + NO_PREDECESSOR
    data = seal_object(
        KEYS,
        fleet_id=FLEET,
        key=segment_key(MACHINE, 1),
        fmt=2,
        body=b"\n".join(lines),
        nonce=NONCE,
        signer=SIGNER,
        extra=extra,
    )
    with pytest.raises(BadFormat):
        decode(data)


@given(st.binary(max_size=300))
def test_rubbish_is_bad_format(data: bytes) -> None:
    for read in (
        lambda: decode(data),
        lambda: decode_head(KEYS, FLEET, MACHINE, data, SIGNER.public),
        lambda: decode_machine(KEYS, FLEET, MACHINE, data),
        lambda: decode_fleet(data),
    ):
        with pytest.raises(BadFormat):
            read()


def test_head_round_trip_and_its_bounds() -> None:
    def encoded(head: JournalHead) -> bytes:
        return encode_head(KEYS, FLEET, MACHINE, head, NONCE, SIGNER)

    head = JournalHead(3, 9, bytes(32))
    assert decode_head(KEYS, FLEET, MACHINE, encoded(head), SIGNER.public) == head
    with pytest.raises((BadFormat, NotAuthorised)):
        decode_head(KEYS, FLEET, "other", encoded(head), SIGNER.public)
    for wrong in (JournalHead(0, 1, bytes(32)), JournalHead(3, 2, bytes(32)), JournalHead(1, 2, bytes(31))):
        with pytest.raises(BadFormat):
            decode_head(KEYS, FLEET, MACHINE, encoded(wrong), SIGNER.public)


def test_a_machine_vouches_for_itself_only() -> None:
    info = MachineInfo(MACHINE, "yoga", SIGNER.public, 1)
    data = encode_machine(KEYS, FLEET, info, NONCE, SIGNER)
    assert decode_machine(KEYS, FLEET, MACHINE, data) == info
    with pytest.raises(ValueError, match="itself"):
        encode_machine(KEYS, FLEET, info, NONCE, OTHER)
    body = msgspec.json.encode(info)
    forged = seal_object(KEYS, fleet_id=FLEET, key=machine_key(MACHINE), fmt=4, body=body, nonce=NONCE, signer=OTHER)
    with pytest.raises(BadFormat, match="own key"):
        decode_machine(KEYS, FLEET, MACHINE, forged)
    with pytest.raises(BadFormat):
        decode_machine(KEYS, FLEET, "other", data)


def test_fleet_tells_its_key() -> None:
    assert FLEET_INFO.is_key(KEYS)
    assert not FLEET_INFO.is_key(Keys.from_root(bytes(32)))
    assert FLEET_INFO.chunk_params(KEYS).seed == KEYS.chunker_seed
    assert FLEET_INFO.chunk_params(KEYS).avg_size == 1 << 20


def test_a_newer_fleet_is_unsupported_whatever_it_looks_like() -> None:
    with pytest.raises(Unsupported):
        decode_fleet(b'{"format":2}')


@pytest.mark.parametrize("chunking", [(1, 1048576, 4194304), (262144, 1048576, 8 << 20), (262144, 100000, 4194304)])
def test_impossible_chunking_is_refused(chunking: tuple[int, int, int]) -> None:
    info = msgspec.structs.replace(FLEET_INFO, chunking=Chunking(*chunking))
    with pytest.raises(BadFormat):
        decode_fleet(encode_fleet(info))
