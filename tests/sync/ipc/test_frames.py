import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.errors import BadFormat, NoDaemon, StoreAway, TcfsError
from sync.ipc import frames
from sync.ipc.frames import Call, Failed, Fetch, FetchDone, FrameDecoder, Hello, SealNow, SealResult, encode

MESSAGES = st.one_of(
    st.builds(Hello, role=st.sampled_from(["mount", "cli"]), pid=st.integers(0, 2**31), mountpoint=st.text()),
    st.builds(Fetch, id=st.integers(0, 2**40), version=st.text(), indexes=st.lists(st.integers(0, 2**31))),
    st.builds(FetchDone, id=st.integers(0, 9), inline=st.dictionaries(st.integers(0, 99), st.binary())),
    st.builds(SealNow, id=st.integers(0, 9), paths=st.none() | st.lists(st.text())),
    st.builds(SealResult, id=st.integers(0, 9), busy=st.lists(st.text())),
    st.builds(
        Call,
        id=st.integers(0, 9),
        verb=st.text(),
        args=st.dictionaries(st.text(), st.integers(-(2**63), 2**63) | st.text()),
    ),
    st.builds(Failed, id=st.integers(0, 9), code=st.text(), message=st.text()),
)


def test_golden_bytes_of_hello():
    frame = encode(Hello(role="mount", fleet_schema=1, pid=7))
    expected = b"\x84\xa1t\xa5hello\xa4role\xa5mount\xacfleet_schema\x01\xa3pid\x07"
    assert struct.pack(">I", len(expected)) + expected == frame


def test_golden_bytes_of_fetch():
    frame = encode(Fetch(3, "m:1:00000000", [0, 5]))
    expected = b"\x84\xa1t\xa5fetch\xa2id\x03\xa7version\xacm:1:00000000\xa7indexes\x92\x00\x05"
    assert struct.pack(">I", len(expected)) + expected == frame


def test_golden_bytes_of_a_hint():
    assert encode(frames.Sealed()) == b"\x00\x00\x00\x0a\x81\xa1t\xa6sealed"


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 7))
def test_any_cut_of_the_stream_gives_the_same_messages(messages, step):
    stream = b"".join(encode(message) for message in messages)
    decoder = FrameDecoder()
    seen = [message for at in range(0, len(stream), step) for message in decoder.feed(stream[at : at + step])]
    assert messages == seen
    assert decoder.pending == 0


def test_an_incomplete_frame_is_pending():
    decoder = FrameDecoder()
    frame = encode(frames.Ping(1))
    assert decoder.feed(frame[:-1]) == []
    assert len(frame) - 1 == decoder.pending


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x00\x00\x00",
        struct.pack(">I", frames.FRAME_MAX + 1),
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x08\x81\xa1t\xa4nope",
        b"\x00\x00\x00\x09\x81\xa1t\xa5fetch",
    ],
)
def test_nonsense_is_bad_format(stream):
    with pytest.raises(BadFormat):
        FrameDecoder().feed(stream)


def test_a_message_larger_than_a_frame_is_refused():
    with pytest.raises(BadFormat, match="larger than a frame"):
        encode(FetchDone(1, {0: bytes(frames.FRAME_MAX)}))


def test_unknown_fields_are_skipped():
    body = b"\x83\xa1t\xa4ping\xa2id\x01\xa3new\x01"
    assert [frames.Ping(1)] == FrameDecoder().feed(struct.pack(">I", len(body)) + body)


@pytest.mark.parametrize("kind", [TcfsError, StoreAway, NoDaemon, BadFormat])
def test_errors_survive_the_socket(kind):
    error = frames.error_of(frames.failed_of(4, kind("what", path="a/b", hint="do this")))
    assert (kind, "what", "a/b", "do this") == (type(error), error.message, error.path, error.hint)


def test_an_error_from_a_newer_program_is_a_plain_one():
    assert type(frames.error_of(Failed(1, "new-kind", "what"))) is TcfsError
