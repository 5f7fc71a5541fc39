"""What may be wrong with this machine's tcfs: each finding with its remedy. Changes nothing."""

import contextlib
import datetime
import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sync.core.errors import TcfsError
from sync.core.journal import FLEET_KEY, decode_fleet
from sync.core.keys import Keys
from sync.env import Env
from sync.machines import fuse
from sync.machines.ask import ask_engine
from sync.ours import VERSION, foreign_packages
from sync.state.damage import find_damage
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths, Home
from sync.state.lock import is_held
from sync.state.policies import PolicyFile
from sync.state.settings import Settings
from sync.state.tree import aside
from sync.state.tree.reader import TreeReader
from sync.store.open import open_store, store_folder

ANSWER_S: Final = 5.0  # that the daemon and the store get
FREE_MIN: Final = 256 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """remedy: what to do; '' where nothing is wrong."""

    subject: str
    is_ok: bool
    message: str
    remedy: str = ""


async def examine(env: Env, home: Home, settings: Settings) -> list[Finding]:
    """Every finding, good ones too. Never raises for what it looks for."""
    found = [_packages(), _fuse()]
    if not home.fleets():
        return [*found, Finding("fleet", False, "this machine is in no fleet", "run 'tcfs up' or 'tcfs init'")]
    paths = home.fleet(settings.fleet)
    found.append(await _guarded("key", "copy fleet.key of another machine to its place", lambda: _key(paths)))
    engine, finding = await _daemon(env, paths)
    found.append(finding)
    found.append(_mount(paths, engine))
    found.append(_databases(env, paths))
    found += _redo_log(env, paths)
    found.append(await _guarded("store", "bring its disk or network back", lambda: _store(env, paths)))
    found += [_disk("state", paths.state_dir), _disk("cache", paths.cache_dir)]
    problems: list[dict[str, str]] = engine["problems"] if engine else []
    found += _content(env, paths, with_holes=engine is None)
    found.append(await _guarded("policies", "put policies.toml right, or remove it", lambda: _policies(paths)))
    found += _pins(engine) + _refusals(engine) if engine else []
    found += [
        Finding(problem["kind"], False, problem["message"], problem["hint"] or "'tcfs fsck' tells what depends on it")
        for problem in problems
    ]
    return found


async def _guarded(subject: str, remedy: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await look()
    except TimeoutError:
        return Finding(subject, False, f"does not answer within {ANSWER_S:g} s", remedy)
    except (TcfsError, OSError) as error:
        return Finding(subject, False, str(error), getattr(error, "hint", "") or remedy)


def _packages() -> Finding:
    wrong = foreign_packages()
    if wrong:
        text = "; ".join(f"the package {name} {what}" for name, what in wrong.items())
        return Finding("packages", False, text, "install tcfs in an environment of its own: scripts/setup")
    return Finding("packages", True, f"sync, fs and cli are those of tcfs {VERSION}")


def _fuse() -> Finding:
    reason = fuse.why_no_fuse()
    if reason:
        return Finding("fuse", False, reason, "until then 'tcfs push' and 'tcfs pull' do the same on plain folders")
    return Finding("fuse", True, "can be mounted")


async def _key(paths: FleetPaths) -> Finding:
    mode = paths.key_file.stat().st_mode & 0o777
    paths.read_key()
    paths.read_signing_key()
    if mode & 0o077:
        return Finding("key", False, f"{paths.key_file} can be read by others", f"chmod 600 {paths.key_file}")
    return Finding("key", True, str(paths.key_file))


async def _daemon(env: Env, paths: FleetPaths) -> tuple[dict[str, Any] | None, Finding]:
    engine, (message, remedy) = await ask_engine(env, paths, ANSWER_S)
    if engine is not None:
        return engine, Finding("daemon", True, f"runs as process {engine['pid']}")
    if message:
        return None, Finding("daemon", False, message, remedy)
    return None, Finding("daemon", False, "does not run", "start it with 'tcfs up'")


def _mount(paths: FleetPaths, engine: dict[str, Any] | None) -> Finding:
    mountpoint = paths.load().mountpoint
    if not mountpoint:
        return Finding("mount", True, "none is wanted")
    if engine and engine["mount"]["is_connected"]:
        return Finding("mount", True, f"answers at {engine['mount']['mountpoint']}")
    if engine and engine["mount"]["trouble"]:
        return Finding("mount", False, str(engine["mount"]["trouble"]), "then 'tcfs up'")
    if engine is None and is_held(paths.mount_lock) and is_held(paths.engine_lock):
        return Finding("mount", True, f"runs at {mountpoint}; whether it answers only the daemon could tell")
    state = "runs, but is not connected" if is_held(paths.mount_lock) else "does not run"
    return Finding("mount", False, f"{state}; it belongs at {mountpoint}", "'tcfs up'")


async def _policies(paths: FleetPaths) -> Finding:
    words = PolicyFile(paths.policies_toml).read().words
    return Finding("policies", True, f"{len(words)} set by 'tcfs pin' and 'tcfs policy'")


def _pins(engine: dict[str, Any]) -> list[Finding]:
    pins = engine.get("pins")  # a daemon of an older program tells of none
    if not pins or not pins["paths"]:
        return []
    if pins["trouble"]:
        lacks = f"{pins['lacking_files']} of {_pinned(pins)} not all here: " if pins["lacking_files"] else ""
        return [Finding("pins", False, lacks + pins["trouble"], pins.get("hint", ""))]
    if pins["lacking_files"]:
        return [Finding("pins", True, f"{pins['lacking_files']} of {_pinned(pins)} still to come")]
    return [Finding("pins", True, f"all of {_pinned(pins)} here")]


def _pinned(pins: dict[str, Any]) -> str:
    return "1 pinned file" if pins["files"] == 1 else f"{pins['files']} pinned files"


def _refusals(engine: dict[str, Any]) -> list[Finding]:
    """Who was refused what is not local: that is what was asked for, so nothing is wrong."""
    found = []
    for item in engine.get("refusals", []):
        when = datetime.datetime.fromtimestamp(item["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        why = "it is among no_hydrate" if item["reason"] == "no_hydrate" else "the policy there is 'never'"
        text = f"{item['program']} was refused what is not local {item['count']} times, last at {when}: {item['path']}"
        found.append(Finding("refused", True, f"{text} ({why})"))
    return found


def _databases(env: Env, paths: FleetPaths) -> Finding:
    damage = find_damage(env, paths, ANSWER_S)
    if damage is not None:
        return Finding("databases", False, damage.message, damage.hint)
    if not paths.fleet_db.exists():
        return Finding("databases", False, f"{paths.fleet_db} is not there", "'tcfs up' builds it from the store")
    return Finding("databases", True, f"those in {paths.state_dir} can be read")


def _redo_log(env: Env, paths: FleetPaths) -> list[Finding]:
    """What the mount cannot read of its own last changes, and what it could not and has kept."""
    try:
        with contextlib.closing(TreeReader(env, paths.tree_db)) as reader:
            trouble = reader.pass_over_log()
    except (TcfsError, sqlite3.Error):
        trouble = ""  # the databases have a finding of their own
    found = [Finding("changes", False, trouble, "'tcfs up' takes what can be read of it")] if trouble else []
    kept = aside.folders(paths.state_dir)
    return found + [
        Finding("changes", False, f"{folder} has what was lost with a damaged redo log", aside.HINT) for folder in kept
    ]


def _content(env: Env, paths: FleetPaths, *, with_holes: bool) -> list[Finding]:
    """What fleet.db knows to be missing from the store. with_holes: of journals too, which an engine tells itself."""
    try:
        with contextlib.closing(FleetDb(env, env.connect(paths.fleet_db, readonly=True))) as db:
            lost, holes = db.packs.lost(), db.holes() if with_holes else []
    except sqlite3.Error:
        return []  # the databases have a finding of their own
    found = [Finding("journal", False, hole.reason, "bring it back from a copy of the store") for hole in holes]
    if lost:
        key, is_missing = lost[0]
        what = "missing" if is_missing else "damaged"
        text = f"packs that cannot be read whole: {len(lost)}, the first: {key} is {what}"
        found.append(Finding("content", False, text, "'tcfs fsck' names the files and what helps"))
    return found


async def _store(env: Env, paths: FleetPaths) -> Finding:
    config = paths.load()
    store = open_store(config.store_url, env)
    try:
        async with env.timeout(ANSWER_S):
            info = decode_fleet(await store.get(FLEET_KEY))
            is_writable, free = await env.run_store(_room, store_folder(config.store_url))
    finally:
        await store.aclose()
    if info.fleet_id != config.fleet_id:
        return Finding("store", False, f"{config.store_url} holds another fleet", "bring the right store back")
    if not info.is_key(Keys.from_root(paths.read_key())):
        return Finding(
            "store", False, f"fleet.key does not open {config.store_url}", "copy another machine's fleet.key"
        )
    if not is_writable:
        text = f"{config.store_url} can be read, but not written: nothing is published"
        return Finding("store", False, text, "mount it writable, or give this user the right to write there")
    if free < FREE_MIN:
        return Finding("store", False, f"{config.store_url} has {free >> 20} MiB left", "make room there")
    return Finding("store", True, f"{config.store_url} answers")


def _room(folder: Path) -> tuple[bool, int]:
    """Whether a folder may be written to, and the free bytes of its disk."""
    return os.access(folder, os.W_OK | os.X_OK), shutil.disk_usage(folder).free


def _disk(what: str, folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except FileNotFoundError:
        return Finding(f"disk of {what}", True, f"{folder} is not there yet")
    if free < FREE_MIN:
        return Finding(f"disk of {what}", False, f"{free >> 20} MiB left at {folder}", "free some, or 'tcfs dehydrate'")
    return Finding(f"disk of {what}", True, f"{free >> 20} MiB free at {folder}")
