"""The messages of the Unix socket between the engine, the mount and the CLI; sans-I/O.

    offset  size  what
    0       4     length n of the message, big-endian unsigned, 1 to 64 MiB
    4       n     one message: a msgpack map of its fields, with its name under the key "t"

Fields that hold their default are left out. Unknown fields are skipped, an unknown name is BadFormat: a new message
needs a new PROTOCOL. Both sides begin with Hello and say Bye before they close on purpose.

Who sends what: the mount Fetch, FetchFolder, Sealed, Noted, Used, Refused, MountTrouble, SealResult, Pong; a CLI Call;
the engine all else.
"""

import struct

import msgspec

from sync.core.errors import BadFormat, TcfsError
from sync.core.filekey import FileKey

PROTOCOL = 3
FRAME_MAX = 64 * 1024 * 1024  # bytes of one message
_LENGTH = struct.Struct(">I")


class _Message(msgspec.Struct, frozen=True, tag_field="t", omit_defaults=True):
    pass


class Hello(_Message, frozen=True, tag="hello"):
    """The first frame of either side. fleet_schema and tree_schema: of the databases as this program reads them."""

    role: str  # 'engine', 'mount' or 'cli'
    protocol: int = PROTOCOL
    fleet_schema: int = 0
    tree_schema: int = 0
    pid: int = 0
    mountpoint: str = ""
    fleet_epoch: str = ""


class Bye(_Message, frozen=True, tag="bye"):
    """The sender closes now. reason: for the other side's log."""

    reason: str = ""


class Fetch(_Message, frozen=True, tag="fetch"):
    """Bring these chunks of a version into the cache. priority: 0 = a reader waits, larger = later.

    Answered by any number of FetchProgress (one a second, and for each chunk that nobody waits for) and one FetchDone
    or Failed with the same id.
    """

    id: int
    version: str
    indexes: list[int]
    priority: int = 0


class FetchProgress(_Message, frozen=True, tag="fetch-progress"):
    """written: as in FetchDone, as soon as it is known."""

    id: int
    written: dict[bytes, FileKey] = {}


class FetchDone(_Message, frozen=True, tag="fetch-done"):
    """All asked for is in the cache, but for what the cache could not take: `inline` (index -> plain bytes).

    written: chunk id -> the file of the cache that now holds the bytes which the engine has just compared with it.
    """

    id: int
    inline: dict[int, bytes] = {}
    written: dict[bytes, FileKey] = {}


class Failed(_Message, frozen=True, tag="failed"):
    """The answer to Fetch, SealNow or Call that did not work out; code is that of sync.core.errors."""

    id: int
    code: str
    message: str
    hint: str = ""
    path: str = ""


class Sealed(_Message, frozen=True, tag="sealed"):
    """Hint of the mount: tree.db has new seals."""


class Noted(_Message, frozen=True, tag="noted"):
    """The mount has noted all answers up to `taken_upto`; durable: a FULL commit of tree.db carries that."""

    taken_upto: int
    durable: bool = False


class FetchFolder(_Message, frozen=True, tag="fetch-folder"):
    """Hint of the mount: a program reads the files of this folder (shown.id) one after the other."""

    folder: int


class Used(_Message, frozen=True, tag="used"):
    """Chunks of the cache that were read since the last such frame: the LRU's input.

    damaged: how many files of the cache the mount has found wrong since its start.
    """

    chunks: list[bytes]
    damaged: int = 0


class Refused(_Message, frozen=True, tag="refused"):
    """A program was refused content that is not local. The newest one counts, of each program and reason.

    reason: 'no_hydrate' (the program is on that list) or 'never' (the policy of the path). count: since the mount's
    start. path: the last one refused, at: when (unix s).
    """

    program: str
    reason: str
    count: int
    path: str
    at: int


class MountTrouble(_Message, frozen=True, tag="mount-trouble"):
    """Why the mount cannot commit what is changed in it; '' once it can again, and until told otherwise."""

    message: str = ""


class FeedMoved(_Message, frozen=True, tag="feed-moved"):
    """Hint of the engine: the feed has entries up to n."""

    n: int


class TakenMoved(_Message, frozen=True, tag="taken-moved"):
    """Hint of the engine: there are answers to seals up to n."""

    n: int


class PolicyMoved(_Message, frozen=True, tag="policy-moved"):
    """Hint of the engine: policies.toml has changed."""


class ContentMoved(_Message, frozen=True, tag="content-moved"):
    """Hint of the engine: these contents (shown.value) have come into the cache, or, dropped, were freed.

    None dropped: some were evicted, nobody knows which.
    """

    values: list[int]
    dropped: bool = False


class SealNow(_Message, frozen=True, tag="seal-now"):
    """Seal these rel_paths (folders: all below) as they are now; None: everything that is not busy.

    reason: 'push' (busy and interrupted files too: as they are), 'wait' or 'down' (what is not busy).
    """

    id: int
    paths: list[str] | None = None
    reason: str = "wait"


class SealResult(_Message, frozen=True, tag="seal-result"):
    """What SealNow left unsealed: open for writing, written when a mount died, not there at all."""

    id: int
    busy: list[str] = []
    interrupted: list[str] = []
    missing: list[str] = []


class Ping(_Message, frozen=True, tag="ping"):
    """The watchdog's question to the mount; its request loop answers Pong with the same id."""

    id: int


class Pong(_Message, frozen=True, tag="pong"):
    id: int


class Call(_Message, frozen=True, tag="call"):
    """One verb of the CLI. Answered by any number of Progress and one Result or Failed with the same id."""

    id: int
    verb: str
    args: dict[str, object] = {}


class Progress(_Message, frozen=True, tag="progress"):
    id: int
    data: dict[str, object] = {}


class Result(_Message, frozen=True, tag="result"):
    id: int
    data: dict[str, object] = {}


Message = (
    Hello
    | Bye
    | Fetch
    | FetchProgress
    | FetchDone
    | Failed
    | Sealed
    | Noted
    | FetchFolder
    | Used
    | Refused
    | MountTrouble
    | FeedMoved
    | TakenMoved
    | PolicyMoved
    | ContentMoved
    | SealNow
    | SealResult
    | Ping
    | Pong
    | Call
    | Progress
    | Result
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The frame of a message; BadFormat if it is larger than a frame may be."""
    body = _encoder.encode(message)
    if len(body) > FRAME_MAX:
        raise BadFormat(f"a message of {len(body)} bytes is larger than a frame may be")
    return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Cuts a byte stream into messages. After BadFormat the connection is of no use any more: close it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[Message]:
        """The messages that are complete now, in order; BadFormat for a length or a body that cannot be."""
        self._buffer += data
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if not 0 < length <= FRAME_MAX:
                raise BadFormat(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete: at the end of the stream anything but 0 is a cut connection."""
        return len(self._buffer)


def _decode(body: bytes) -> Message:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFormat(f"broken message on the socket: {error}") from error


def failed_of(request_id: int, error: TcfsError) -> Failed:
    return Failed(request_id, error.code, error.message, error.hint, error.path)


def error_of(failed: Failed) -> TcfsError:
    """The exception that a Failed stands for; a code that is not known here gives a plain TcfsError."""
    kind = _by_code(TcfsError, failed.code) or TcfsError
    return kind(failed.message, path=failed.path, hint=failed.hint)


def _by_code(kind: type[TcfsError], code: str) -> type[TcfsError] | None:
    if kind.code == code:
        return kind
    return next((found for sub in kind.__subclasses__() if (found := _by_code(sub, code))), None)
