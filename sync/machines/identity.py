"""Becoming a member of a fleet: creating one at a store, joining one with its key.

The order makes a crash harmless: the keys are on this disk before fleet.json is in the store, machines/<id> is there
before anything else of the machine, and fleet.toml, which is what makes a fleet known here, is written last. Begun
again, init goes on where it stopped.
"""

import contextlib
import re
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from sync.core.chunking import ChunkParams
from sync.core.codec import NONCE_SIZE, phrase_from_root
from sync.core.errors import (
    AlreadyExists,
    BadConfig,
    BadFormat,
    BadInput,
    NotAuthorised,
    NotYet,
    ObjectMissing,
    StoreAway,
    TcfsError,
)
from sync.core.journal import (
    FLEET_FORMAT,
    FLEET_KEY,
    Chunking,
    FleetInfo,
    MachineInfo,
    decode_fleet,
    decode_machine,
    encode_fleet,
    encode_machine,
    machine_key,
)
from sync.core.keys import ROOT_SIZE, Keys, new_root
from sync.core.sealed import SEED_SIZE, SigningKey
from sync.env import Env
from sync.state.fleet import FleetDb
from sync.state.home import FleetConfig, FleetPaths, Home, make_private_dir, read_key_file
from sync.state.lock import FileLock
from sync.store.base import Store
from sync.store.open import open_store, store_folder, store_url
from sync.store.retry import DEADLINE

MACHINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
FLEET_INFO = "fleet_info"  # key in fleet.db's meta
ALONE_S = 10.0  # that another init gets to come to an end
PAUSE_S = 0.05
_HARMLESS = frozenset({"lost+found", ".tmp"})  # of a fresh file system; of an init that was stopped


@dataclass(frozen=True, slots=True)
class Joined:
    """A fleet that this machine now belongs to. phrase: the 24 words of a new fleet, '' if it was joined."""

    paths: FleetPaths
    config: FleetConfig
    phrase: str = ""


async def create_fleet(
    env: Env, home: Home, url: str, *, fleet_name: str, machine_name: str | None, host: str
) -> Joined:
    """A new fleet at `url`, whose folder is missing or empty.

    AlreadyExists if this machine is in the fleet of that store, NotAuthorised if the store holds another fleet.
    machine_name None: the host's name, made fit and unique.
    """
    _check_names(fleet_name, machine_name)
    url = store_url(url)
    async with _alone(env, home):
        return await _create(env, home, url, fleet_name, machine_name, host)


async def _create(env: Env, home: Home, url: str, fleet_name: str, machine_name: str | None, host: str) -> Joined:
    _check_not_joined(home, url, fleet_name)
    try:
        async with env.timeout(DEADLINE):
            is_new = await env.run_store(_is_new_store, store_folder(url))
    except TimeoutError as error:
        raise StoreAway(f"{url} did not answer within {DEADLINE:.0f} s", path=url) from error
    store = open_store(url, env, create_root=True)
    try:
        if is_new:
            info, root = await _new_fleet(env, home, store, fleet_name)
        else:
            info = await _fleet_info(store)
            root = _key_of_begun(home, info, url)
        joined = await _join(env, home, store, info, root, machine_name, host, fleet_name)
    finally:
        await store.aclose()
    return Joined(joined.paths, joined.config, phrase_from_root(root))


async def join_fleet(
    env: Env, home: Home, url: str, root: bytes, *, fleet_name: str | None, machine_name: str | None, host: str
) -> Joined:
    """Membership in the fleet that `url` holds. Never creates anything there but this machine's own object.

    NotAuthorised if `root` is not that fleet's key, StoreAway if there is no fleet or it cannot be reached.
    """
    _check_names(fleet_name, machine_name)
    url = store_url(url)
    async with _alone(env, home):
        _check_not_joined(home, url, fleet_name)
        store = open_store(url, env)
        try:
            info = await _fleet_info(store)
            return await _join(env, home, store, info, root, machine_name, host, fleet_name or info.name)
        finally:
            await store.aclose()


def host_name() -> str:
    return socket.gethostname()


def host_machine_name(host: str) -> str:
    """A machine name from a host name: its first label, '-' for what is not allowed; 'machine' if nothing is left."""
    label = re.sub(r"[^a-z0-9-]+", "-", host.split(".")[0].lower()).strip("-")
    return label[:63] or "machine"


# ---- inside


@contextlib.asynccontextmanager
async def _alone(env: Env, home: Home) -> AsyncGenerator[None, None]:
    """One init or up at a time; NotYet if another one does not come to an end within 10 s."""
    until = env.monotonic() + ALONE_S
    make_private_dir(home.config)
    lock = FileLock(home.config / "init.lock")
    while not lock.try_acquire():
        if env.monotonic() >= until:
            raise NotYet("another 'tcfs init' or 'tcfs up' is at work", hint="try again in a moment")
        await env.sleep(PAUSE_S)
    with lock:
        yield


def _check_names(fleet: str | None, machine: str | None) -> None:
    """BadInput, before anything is made: begun again with another name, init would find a fleet in the store."""
    for name, what in ((fleet, "fleet"), (machine, "machine")):
        if name is not None and MACHINE_NAME.fullmatch(name) is None:
            raise BadInput(f"not a {what} name: {name!r}", hint="1 to 63 of a-z, 0-9 and '-', not beginning with '-'")


def _check_not_joined(home: Home, url: str, fleet_name: str | None) -> None:
    for paths in home.fleets():
        config = paths.load()
        if config.store_url == url:
            raise AlreadyExists(
                f"this machine is already {config.machine_name} in the fleet {config.name} at {url}",
                hint="see 'tcfs status'",
            )
        if config.name == fleet_name:
            raise BadConfig(
                f"this machine already knows a fleet {config.name}, at {config.store_url}",
                hint="choose another --fleet name",
            )


def _is_new_store(folder: Path) -> bool:
    """True if a fleet may be created there: the folder is missing or empty. False if it holds a fleet."""
    try:
        if (folder / FLEET_KEY).exists():
            return False
        strange = [entry.name for entry in folder.iterdir() if entry.name not in _HARMLESS]
    except FileNotFoundError:
        return True
    except NotADirectoryError as error:
        raise BadInput(f"{folder} is not a folder") from error
    except PermissionError as error:
        raise NotAuthorised(f"{folder} cannot be read: {error.strerror}") from error
    if strange:
        raise TcfsError(
            f"{folder} is not empty and holds no fleet", hint="a new store needs a missing or an empty folder"
        )
    return True


async def _fleet_info(store: Store) -> FleetInfo:
    return decode_fleet(await store.get(FLEET_KEY))


async def _new_fleet(env: Env, home: Home, store: Store, name: str) -> tuple[FleetInfo, bytes]:
    root = new_root(env.random_bytes(ROOT_SIZE))
    keys = Keys.from_root(root)
    sizes = ChunkParams(seed=keys.chunker_seed)
    info = FleetInfo(
        format=FLEET_FORMAT,
        fleet_id=env.uuid4(),
        name=name,
        chunking=Chunking(min=sizes.min_size, avg=sizes.avg_size, max=sizes.max_size),
        key_check=keys.check.hex(),
    )
    paths = home.new_fleet(info.fleet_id)
    paths.write_key(root)
    env.fault("init.after_key")
    if not await store.put_if_absent(FLEET_KEY, encode_fleet(info)):
        raise _already_a_fleet(store.url)
    env.fault("init.after_fleet_put")
    return info, root


def _key_of_begun(home: Home, info: FleetInfo, url: str) -> bytes:
    """The key of a fleet that this machine had begun to create when it was stopped."""
    key_file = FleetPaths(home, info.fleet_id).key_file
    if not key_file.exists():
        raise _already_a_fleet(url)
    return read_key_file(key_file)


def _already_a_fleet(url: str) -> NotAuthorised:
    return NotAuthorised(
        f"{url} already holds a fleet",
        hint="to join it: --key-file with another machine's fleet.key, or --phrase-stdin",
    )


async def _join(
    env: Env,
    home: Home,
    store: Store,
    info: FleetInfo,
    root: bytes,
    machine_name: str | None,
    host: str,
    fleet_name: str,
) -> Joined:
    keys = Keys.from_root(root)
    if not info.is_key(keys):
        raise NotAuthorised(
            f"this is not the key of the fleet at {store.url}",
            hint="compare 'tcfs key show' on a machine of that fleet",
        )
    paths = home.new_fleet(info.fleet_id)
    signer = _signing_key(env, paths)
    known = await machines(store, keys, info)
    mine = next((machine for machine in known if machine.verify_key == signer.public), None)
    name = mine.name if mine is not None else _choose_name(machine_name, host, {machine.name for machine in known})
    paths.write_key(root)
    machine_id = mine.machine_id if mine is not None else await _register(env, store, keys, info, name, signer)
    env.fault("init.after_machine_put")
    config = FleetConfig(
        fleet_id=info.fleet_id,
        name=fleet_name,
        store_url=store.url,
        machine_id=machine_id,
        machine_name=name,
    )
    _make_database(env, paths, config, info)
    paths.save(config)
    return Joined(paths, config)


def _signing_key(env: Env, paths: FleetPaths) -> SigningKey:
    if not paths.signing_key_file.exists():
        paths.write_signing_key(env.random_bytes(SEED_SIZE))
    return SigningKey(paths.read_signing_key())


def _choose_name(wanted: str | None, host: str, taken: set[str]) -> str:
    if wanted is not None:
        if wanted in taken:
            raise TcfsError(f"another machine of this fleet is called {wanted}", hint="choose another --name")
        return wanted
    name = host_machine_name(host)
    number = 2
    while name in taken:
        suffix = f"-{number}"
        name = host_machine_name(host)[: 63 - len(suffix)] + suffix
        number += 1
    return name


async def _register(env: Env, store: Store, keys: Keys, info: FleetInfo, name: str, signer: SigningKey) -> str:
    machine = MachineInfo(machine_id=env.uuid4(), name=name, verify_key=signer.public, created=int(env.now()))
    data = encode_machine(keys, info.fleet_id, machine, env.random_bytes(NONCE_SIZE), signer)
    await store.put(machine_key(machine.machine_id), data)
    return machine.machine_id


async def machines(store: Store, keys: Keys, info: FleetInfo) -> list[MachineInfo]:
    """Every machine of the fleet whose object verifies; broken ones are left to doctor."""
    found: list[MachineInfo] = []
    async for item in store.list("machines/"):
        machine_id = item.key.removeprefix("machines/")
        try:
            found.append(decode_machine(keys, info.fleet_id, machine_id, await store.get(item.key)))
        except (BadFormat, ObjectMissing):
            continue
    return found


def _make_database(env: Env, paths: FleetPaths, config: FleetConfig, info: FleetInfo) -> None:
    if paths.fleet_db.exists():
        database = FleetDb.open(env, paths.fleet_db)
    else:
        database = FleetDb.create(env, paths.fleet_db, config.fleet_id, config.machine_id, config.machine_name)
    try:
        if database.machine_id != config.machine_id:
            raise BadConfig(
                f"{paths.fleet_db} belongs to another machine_id",
                hint="it may hold what was never published: move the folder away, then run init again",
            )
        _remember(database, info)
    finally:
        database.close()


async def known_fleet(store: Store, db: FleetDb, keys: Keys) -> FleetInfo:
    """fleet.json, from the store once, later from fleet.db; NotAuthorised if our key is not its key."""
    known = _remembered(db)
    info = known if known is not None else decode_fleet(await store.get(FLEET_KEY))
    if not info.is_key(keys) or info.fleet_id != db.fleet_id:
        raise NotAuthorised(
            f"{store.url} holds another fleet, or fleet.key is another fleet's key",
            hint="copy fleet.key of another machine to its place",
        )
    if known is None:
        _remember(db, info)
    return info


def _remember(db: FleetDb, info: FleetInfo) -> None:
    """Keep fleet.json in fleet.db: an engine starts with its store away."""
    with db.transaction(full=True) as txn:
        txn.set_meta(FLEET_INFO, encode_fleet(info))


def _remembered(db: FleetDb) -> FleetInfo | None:
    known = db.meta(FLEET_INFO)
    return None if known is None else decode_fleet(bytes(known))
