"""docs/FORMATS.md says what the code does: its examples, checked against both."""

import re
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from sync.core import journal, packfile, sealed
from sync.core.codec import CHUNK_RAW_MAX, chunk_id, content_id, phrase_from_root
from sync.core.errors import BadFormat
from sync.core.keys import Keys
from sync.core.manifest import (
    CHUNKS_INLINE_MAX,
    Clocks,
    Kind,
    Manifest,
    PackedChunk,
    PackRecord,
    decode_record,
    encode_record,
    version_id,
)

FORMATS = (Path(__file__).parents[3] / "docs" / "FORMATS.md").read_text()
ROOT = bytes(range(32))
KEYS = Keys.from_root(ROOT)
MACHINE = "3c0a2a6e-0000-4000-8000-000000000001"
HELLO = b"fleet sync test\n"
CHUNK = chunk_id(KEYS, HELLO)
MANIFEST = Manifest(
    version=2,
    seq=7,
    rel_path="docs/a.txt",
    kind=Kind.FILE,
    vclock=Clocks({MACHINE: 7}),
    written_by=MACHINE,
    machine_name="yoga",
    written_at=1700000000,
    file_size=len(HELLO),
    content_id=content_id(KEYS, [CHUNK], [len(HELLO)]),
    file_hash=blake3(HELLO).hexdigest(),
    chunks=[CHUNK.hex()],
    chunk_sizes=[len(HELLO)],
    mode=0o644,
    mtime_ns=1700000000123456789,
    batch=(7, 7),
)


def test_the_manifest_of_the_page() -> None:
    line = encode_record(MANIFEST)
    assert f"```json\n{line.decode()}\n```" in FORMATS
    assert f"`{version_id(MACHINE, 7, line)}`" in FORMATS
    assert decode_record(line) == MANIFEST


def test_the_keys_and_ids_of_the_page() -> None:
    for value in (KEYS.check.hex(), CHUNK.hex(), MANIFEST.content_id, content_id(KEYS, [], [])):
        assert f"`{value}`" in FORMATS
    assert str(KEYS.chunker_seed) in FORMATS
    words = phrase_from_root(ROOT).split()
    assert f"`{' '.join(words[:6])} … {' '.join(words[-3:])}`" in FORMATS


@pytest.mark.parametrize(
    ("purpose", "value"),
    [
        ("chunk id", KEYS.chunk_id),
        ("content id", KEYS.content_id),
        ("chunk cipher", KEYS.chunk_cipher),
        ("objects cipher", KEYS.objects),
        ("key check", KEYS.check),
    ],
)
def test_the_context_strings_of_the_page(purpose: str, value: bytes) -> None:
    (context,) = re.findall(rf"`(tcfs [0-9-]+ {purpose} v1)`", FORMATS)
    assert blake3(ROOT, derive_key_context=context).digest() == value


def test_the_numbers_of_the_page() -> None:
    formats = (packfile.INDEX_FORMAT, journal.SEGMENT_FORMAT, journal.HEAD_FORMAT, journal.MACHINE_FORMAT)
    assert "Formats: {} index of a pack, {} segment, {} journal head, {} machine.".format(*formats) in FORMATS
    assert f"magic `{sealed.MAGIC.decode()}`" in FORMATS
    assert f"magic `{packfile.MAGIC.decode()}`" in FORMATS
    assert f"a plain chunk is at most {CHUNK_RAW_MAX >> 20} MiB" in FORMATS
    assert f"{sealed.BODY_MAX >> 20} MiB" in FORMATS
    assert f"reach {packfile.PACK_TARGET >> 20} MiB" in FORMATS
    assert f"above {CHUNKS_INLINE_MAX} chunks" in FORMATS


def test_every_field_of_a_manifest_is_on_the_page() -> None:
    table = FORMATS[FORMATS.index("**Manifest") : FORMATS.index("The **identity**")]
    for field in Manifest.__struct_fields__:
        assert re.search(rf"^\|.*\b{field}\b.*\|", table, re.MULTILINE), field


def with_chunks(chunks: list[str], sizes: list[int]) -> Manifest:
    return msgspec.structs.replace(MANIFEST, chunks=chunks, chunk_sizes=sizes, file_size=sum(sizes))


@pytest.mark.parametrize(
    "broken",
    [
        with_chunks(["ab" * 31], [16]),
        with_chunks(["AB" * 32], [16]),
        with_chunks(["zz" * 32], [16]),
        with_chunks([" a" * 32], [16]),
        with_chunks([CHUNK.hex()], [1 << 32]),
        with_chunks([CHUNK.hex()], [0]),
        with_chunks([CHUNK.hex()], [8, 8]),
        msgspec.structs.replace(MANIFEST, file_size=17),
        msgspec.structs.replace(MANIFEST, version=3),
        msgspec.structs.replace(MANIFEST, rel_path="../a"),
        msgspec.structs.replace(MANIFEST, chunk_pages=["ab" * 32]),
        PackRecord(seq=1, pack_id="ab", size=1, chunks=[]),
        PackRecord(seq=1, pack_id="ab" * 32, size=1, chunks=[PackedChunk("xy" * 32, 6, 40, 12, 0)]),
        PackRecord(seq=1, pack_id="ab" * 32, size=1, chunks=[PackedChunk("ab" * 32, -1, 40, 12, 0)]),
        PackRecord(seq=1, pack_id="ab" * 32, size=1, chunks=[PackedChunk("ab" * 32, 6, 0, 12, 0)]),
        PackRecord(seq=1, pack_id="ab" * 32, size=1, chunks=[PackedChunk("ab" * 32, 6, 40, 0, 0)]),
    ],
)
def test_records_that_cannot_be_are_refused(broken: Manifest | PackRecord) -> None:
    with pytest.raises(BadFormat):
        decode_record(encode_record(broken))
