"""The tree of everything that can go wrong, in one place.

    TcfsError
    |-- BadInput                 what a person or another program gave us makes no sense
    |   |-- BadPath              a rel_path that is not allowed
    |   |-- BadConfig            a setting or a state file that cannot be read
    |   `-- BadFormat            bytes of the store, the cache or the socket that do not parse or do not verify
    |       `-- Unsupported      a newer format, or a version whose `requires` we do not know
    |-- NotFound                 no such path, version or object
    |-- AlreadyExists            the name is taken
    |-- NotEmpty                 a directory that still has names in it
    |-- Stale                    an inode whose content has moved on: look the name up again
    |-- NotAuthorised            wrong key, or the store refuses us
    |-- Unavailable              the store, a peer or the daemon cannot be reached now
    |   |-- StoreAway
    |   |   `-- RequestFailed    one request went wrong on the way: trying again may help at once
    |   `-- NoDaemon
    |-- TimedOut                 it may still happen, but not within the deadline
    |-- NotYet                   refused until something that is pending is done (dirty data, a busy file)
    |-- Refused                  what is not local is not fetched for this program
    |   `-- NeverFetched         nor for any: the policy of the path says so
    |-- Conflict                 another version stands against this one; nothing was overwritten
    |-- Integrity                an object is missing, cut or altered: never wrong bytes, always this
    |   `-- ObjectMissing
    |-- TooLarge                 a file that is larger than may be
    |-- NoSpace                  a quota or a disk is full
    |-- ReadOnly                 a sibling, or a store that refuses writes
    `-- Fork                     the store holds a journal under our machine_id that we did not write

`exit_code` is the CLI's (one table for every verb); fs/errno.py maps the same classes to errnos.
"""


class TcfsError(Exception):
    """Base of all expected failures. `hint` is the next step for the person who reads it, or empty."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.hint = hint


class BadInput(TcfsError):
    code = "bad-input"
    exit_code = 64


class BadPath(BadInput):
    code = "bad-path"


class BadConfig(BadInput):
    code = "bad-config"
    exit_code = 1


class BadFormat(BadInput):
    code = "bad-format"
    exit_code = 8


class Unsupported(BadFormat):
    code = "unsupported"


class NotFound(TcfsError):
    code = "not-found"
    exit_code = 5


class AlreadyExists(TcfsError):
    code = "exists"
    exit_code = 4


class NotEmpty(TcfsError):
    code = "not-empty"


class Stale(TcfsError):
    code = "stale"


class NotAuthorised(TcfsError):
    code = "not-authorised"
    exit_code = 3


class Unavailable(TcfsError):
    code = "unavailable"
    exit_code = 2


class StoreAway(Unavailable):
    code = "store-away"


class RequestFailed(StoreAway):
    code = "request-failed"


class NoDaemon(Unavailable):
    code = "no-daemon"


class TimedOut(TcfsError):
    code = "timed-out"
    exit_code = 7


class NotYet(TcfsError):
    code = "not-yet"
    exit_code = 7


class Refused(TcfsError):
    code = "refused"
    exit_code = 7


class NeverFetched(Refused):
    code = "never-fetched"


class Conflict(TcfsError):
    code = "conflict"
    exit_code = 6


class Integrity(TcfsError):
    code = "integrity"
    exit_code = 8


class ObjectMissing(Integrity):
    code = "object-missing"


class TooLarge(TcfsError):
    code = "too-large"


class NoSpace(TcfsError):
    code = "no-space"


class ReadOnly(TcfsError):
    code = "read-only"
    exit_code = 3


class Fork(TcfsError):
    code = "fork"
