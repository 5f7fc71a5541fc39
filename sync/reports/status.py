"""What is not safe yet, and why: one reason and one next step a path."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sync.core.errors import BadConfig
from sync.core.paths import STAYS_BY_NAME, is_below, is_too_long, join_path, parents_of
from sync.machines.ask import Asked
from sync.reports.history import contested_paths
from sync.reports.state import LocalState
from sync.state import ballast
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths
from sync.state.lock import is_held
from sync.state.policies import PolicyFile
from sync.state.tree import aside
from sync.state.tree.reader import Dirty, DirtyState, TreeReader

_QUEUED = """
SELECT DISTINCT v.path FROM outbox AS o JOIN version AS v ON v.machine = o.machine AND v.seq BETWEEN o.first AND o.last
ORDER BY v.path"""
_TAKEN = "SELECT seal_id, answer, reason FROM taken"


Answers = Mapping[bytes, tuple[str, str]]  # seal_id -> (answer, reason)
Refused = Mapping[str, tuple[str, str]]  # path -> (reason, next step)
NOTHING: Final[Refused] = MappingProxyType({})


class Unsafe(NamedTuple):
    """A path whose newest state is not confirmed in the store. state: writing, unsealed, sealed, refused or queued."""

    path: str
    state: str
    reason: str
    next_step: str


class Running(NamedTuple):
    """What runs, as the reasons need it. store_trouble: '' while the engine reaches the store. silence: why it is not
    known whether it does, and what helps: the engine does not answer us.
    """

    engine: bool
    mount: bool
    store_trouble: str = ""
    mountpoint: str = ""
    silence: tuple[str, str] = ("", "")

    def local(self, path: str) -> str:
        """How a person names a path of the mount, wherever they are."""
        return join_path(self.mountpoint, path)


def unsafe_paths(
    dirty: Iterable[Dirty], answers: Answers, queued: Iterable[str], running: Running, refused: Refused = NOTHING
) -> list[Unsafe]:
    """Every path that is not safe, once, by path: the step it still has the longest way from decides.

    A sealed state that is answered is safe as soon as it is not queued any more, noted by the mount or not. refused:
    what the engine has tried to publish, and could not.
    """
    found: dict[str, Unsafe] = {}
    for item in dirty:
        answer, reason = answers.get(item.seal_id or b"", ("", ""))
        if item.path in refused:
            found.setdefault(item.path, _refused(item.path, *refused[item.path]))
        elif answer == "refused" and item.state is DirtyState.SEALED:
            found.setdefault(item.path, _refused(item.path, reason))
        elif not (answer and item.state is DirtyState.SEALED):
            found.setdefault(item.path, _of_dirty(item, running))
    for path in queued:
        found.setdefault(path, Unsafe(path, "queued", *_sending("is being published", running)))
    return sorted(found.values())


def unsafe_now(db: FleetDb, tree: TreeReader, running: Running, refused: Refused = NOTHING) -> list[Unsafe]:
    """What is not safe as the databases say now. The queue is read last: nothing can slip through between the reads."""
    dirty = tree.dirty(db.view.path_of)
    answers = {seal_id: (answer, reason or "") for seal_id, answer, reason in db.query(_TAKEN)}
    return unsafe_paths(dirty, answers, queued_paths(db), running, refused)


def queued_paths(db: FleetDb) -> list[str]:
    """Paths with versions that are queued and not confirmed."""
    return [row[0] for row in db.query(_QUEUED)]


def refused_seals(db: FleetDb) -> dict[bytes, str]:
    """seal_id -> why that state cannot be published."""
    return {seal_id: reason or "" for seal_id, answer, reason in db.query(_TAKEN) if answer == "refused"}


def _refused(path: str, reason: str, next_step: str = "") -> Unsafe:
    return Unsafe(path, "refused", f"cannot be published: {reason}", next_step or "rename it or remove it")


def _of_dirty(item: Dirty, running: Running) -> Unsafe:
    match item.state:
        case DirtyState.WRITING if item.removed:
            state, when = (
                ("writing", "is open for writing, or was when the mount last died")
                if running.mount
                else ("interrupted", "was being written when the mount died")
            )
            return Unsafe(
                item.path, state, f"was moved, and what moved {when}", "close that file once more, or push it"
            )
        case DirtyState.WRITING if running.mount:
            step = f"close it, or 'tcfs push {running.local(item.path)}'"
            return Unsafe(item.path, "writing", "is open for writing, or was when the mount last died", step)
        case DirtyState.WRITING:
            step = f"look at it, then 'tcfs push {running.local(item.path)}' or close it once more"
            return Unsafe(item.path, "interrupted", "was being written when the mount died", step)
        case DirtyState.UNSEALED:
            step = "nothing: it goes out by itself" if running.mount else "start the mount with 'tcfs up'"
            return Unsafe(item.path, "unsealed", "was changed just now" if running.mount else "the mount is down", step)
    return Unsafe(item.path, "sealed", *_sending("is ready to be published", running))


def _sending(reason: str, running: Running) -> tuple[str, str]:
    if not running.engine:
        return reason + ", but tcfsd is down", "start it with 'tcfs up'"
    message, remedy = running.silence
    if message:
        return f"{reason}, but tcfsd {message}", remedy
    if running.store_trouble:
        return running.store_trouble, "put that right: it goes out by itself then"
    return reason, "nothing: it goes out by itself"


def status(state: LocalState, paths: list[str], asked: Asked) -> dict[str, Any]:
    """The report as data. paths: only these and what is below ('' = all)."""
    engine, running = asked.engine, _running(state, asked)
    mount_trouble = str(engine["mount"]["trouble"]) if engine and running.mount else ""
    log_trouble = state.tree.pass_over_log()
    put_aside = [str(folder) for folder in aside.folders(state.paths.state_dir)]
    found = unsafe_here(state, asked)
    chosen = [item for item in found if is_among(item.path, paths)]
    lost = state.db.packs.lost()
    kept = topmost([path for path in state.tree.local_only(state.view.path_of) if is_among(path, paths)])
    return {
        "fleet": state.config.name,
        "machine": state.view.machine_name,
        "store": state.config.store_url,
        "mountpoint": state.config.mountpoint,
        "running": {"engine": running.engine, "mount": running.mount},
        "engine_silence": engine_silence(asked),
        # What the mount cannot commit, and what it has lost, tree.db does not know.
        "safe": not (chosen or mount_trouble or lost or log_trouble or put_aside),
        "mount_trouble": mount_trouble,
        "log_trouble": log_trouble,
        "set_aside": put_aside,
        "disk_trouble": ballast.shortage(state.paths.ballast),
        **_policies(state.paths),
        "unsafe": [{"path": i.path, "state": i.state, "reason": i.reason, "next": i.next_step} for i in chosen],
        "local_only": [path for path in kept if not is_too_long(path)],
        "too_long": [path for path in kept if is_too_long(path)],
        "special": [path for path in state.tree.special(state.view.path_of) if is_among(path, paths)],
        "conflicts": len(contested_paths(state.db)),
        "holes": [
            {"machine": hole.machine_id, "first": hole.first, "since": hole.since, "reason": hole.reason}
            for hole in state.db.holes()
        ],
        "lost": [{"object": key, "reason": "missing" if is_missing else "damaged"} for key, is_missing in lost],
        "engine": engine,
    }


def _policies(paths: FleetPaths) -> dict[str, object]:
    """How many paths are pinned, and why nobody can tell."""
    try:
        return {"pinned_paths": len(PolicyFile(paths.policies_toml).read().pins()), "policy_trouble": ""}
    except BadConfig as error:
        return {"pinned_paths": 0, "policy_trouble": error.message}


def engine_silence(asked: Asked) -> dict[str, str] | None:
    """Why an engine that runs says nothing, and what helps."""
    message, remedy = asked.silence
    return {"message": message, "next": remedy} if message else None


def unsafe_here(state: LocalState, asked: Asked) -> list[Unsafe]:
    """What is not safe, as the databases say, and a running engine says of itself."""
    problems = asked.engine["problems"] if asked.engine else []
    refused = {item["subject"]: (item["message"], item["hint"]) for item in problems if item["kind"] == "refused"}
    return unsafe_now(state.db, state.tree, _running(state, asked), refused)


def _running(state: LocalState, asked: Asked) -> Running:
    engine, silence = asked
    return Running(
        engine=engine is not None or bool(silence[0]),
        mount=is_held(state.paths.mount_lock),
        store_trouble=str(engine.get("store_trouble", "")) if engine else "",
        mountpoint=state.config.mountpoint,
        silence=silence,
    )


def is_among(path: str, chosen: list[str]) -> bool:
    """True if path is one of these or below one; everything is among no choice at all."""
    return not chosen or any(path == folder or is_below(path, folder) for folder in chosen)


def kept_here(tree: TreeReader, path_of: Callable[[int], str], places: list[str]) -> list[tuple[str, str]]:
    """What at or below these places is never published, without what lies below another such thing, and why."""
    reasons = {path: "has too long a path" if is_too_long(path) else STAYS_BY_NAME for path in tree.local_only(path_of)}
    reasons |= dict.fromkeys(tree.special(path_of), "is a socket, pipe or device")
    return [(path, reasons[path]) for path in topmost(sorted(reasons)) if is_among(path, places)]


def topmost(paths: list[str]) -> list[str]:
    """Those of the paths that lie below no other of them."""
    known = set(paths)
    return [path for path in paths if known.isdisjoint(parents_of(path))]
