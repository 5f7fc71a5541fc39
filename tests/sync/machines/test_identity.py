import asyncio
import contextlib
import stat

import pytest

from sync.core.codec import phrase_from_root, root_from_phrase
from sync.core.errors import AlreadyExists, BadConfig, BadInput, NotAuthorised, NotYet, StoreAway, TcfsError
from sync.core.journal import decode_fleet
from sync.core.keys import Keys
from sync.env import Crash, FakeEnv, RealEnv
from sync.machines import identity
from sync.machines.identity import create_fleet, host_machine_name, join_fleet
from sync.state.fleet import FleetDb
from sync.state.home import Home
from sync.state.lock import FileLock
from sync.store.open import open_store

ROOT = bytes(range(32))


def home(tmp_path, name):
    return Home.from_environ({"TCFS_HOME": str(tmp_path / name)})


def create(tmp_path, who="yoga", env=None, *, name=None, host="yoga.example.org", fleet="default"):
    store = str(tmp_path / "store")
    env = env or FakeEnv(1)
    return asyncio.run(create_fleet(env, home(tmp_path, who), store, fleet_name=fleet, machine_name=name, host=host))


def join(tmp_path, who, root, env=None, *, name=None, host="bates", fleet=None):
    store = (tmp_path / "store").as_uri()
    env = env or FakeEnv(hash(who) & 0xFFFF)
    return asyncio.run(
        join_fleet(env, home(tmp_path, who), store, root, fleet_name=fleet, machine_name=name, host=host)
    )


def machine_names(tmp_path, paths):
    async def listed():
        store = open_store((tmp_path / "store").as_uri(), FakeEnv(99))
        info = decode_fleet(await store.get("fleet.json"))
        return [machine.name for machine in await identity.machines(store, Keys.from_root(paths.read_key()), info)]

    return sorted(asyncio.run(listed()))


def test_a_new_fleet_is_whole(tmp_path):
    created = create(tmp_path)
    paths, config = created.paths, created.config
    assert paths.load() == config
    assert (config.name, config.machine_name, config.store_url) == ("default", "yoga", (tmp_path / "store").as_uri())
    assert root_from_phrase(created.phrase) == paths.read_key()
    assert stat.S_IMODE(paths.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.signing_key_file.stat().st_mode) == 0o600
    info = decode_fleet((tmp_path / "store" / "fleet.json").read_bytes())
    assert info.is_key(Keys.from_root(paths.read_key()))
    assert (info.fleet_id, info.name) == (config.fleet_id, "default")
    database = FleetDb.open(FakeEnv(5), paths.fleet_db)
    assert (config.machine_id, config.fleet_id) == (database.machine_id, database.fleet_id)
    database.close()
    assert machine_names(tmp_path, paths) == ["yoga"]


def test_joining_with_the_key(tmp_path):
    created = create(tmp_path)
    joined = join(tmp_path, "bates", created.paths.read_key())
    assert joined.config.fleet_id == created.config.fleet_id
    assert (joined.config.machine_name, joined.phrase) == ("bates", "")
    assert joined.config.machine_id != created.config.machine_id
    assert machine_names(tmp_path, created.paths) == ["bates", "yoga"]


def test_a_wrong_key_is_refused_and_leaves_nothing(tmp_path):
    create(tmp_path)
    with pytest.raises(NotAuthorised, match="not the key"):
        join(tmp_path, "bates", ROOT)
    assert home(tmp_path, "bates").fleets() == []
    assert len(list((tmp_path / "store" / "machines").iterdir())) == 1


def test_joining_never_creates(tmp_path):
    with pytest.raises(StoreAway):
        join(tmp_path, "bates", ROOT)
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreAway):
        join(tmp_path, "bates", ROOT)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_store_that_holds_a_fleet_is_not_taken_over(tmp_path):
    create(tmp_path)
    with pytest.raises(NotAuthorised, match="already holds a fleet"):
        create(tmp_path, "bates")
    assert home(tmp_path, "bates").fleets() == []


def test_a_folder_with_other_things_is_not_a_new_store(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "lost+found").mkdir()
    (tmp_path / "store" / "photo.jpg").touch()
    with pytest.raises(TcfsError, match="not empty") as caught:
        create(tmp_path)
    assert caught.value.exit_code == 1
    (tmp_path / "store" / "photo.jpg").unlink()
    create(tmp_path)


def test_init_again_says_so(tmp_path):
    created = create(tmp_path)
    with pytest.raises(AlreadyExists) as caught:
        create(tmp_path)
    assert caught.value.exit_code == 4
    with pytest.raises(AlreadyExists):
        join(tmp_path, "yoga", created.paths.read_key())


def test_two_at_once_are_one_after_the_other(tmp_path):
    async def both():
        where = str(tmp_path / "store")
        with contextlib.closing(RealEnv({})) as env:
            new = [
                create_fleet(env, home(tmp_path, "yoga"), where, fleet_name="default", machine_name=None, host="h")
                for _ in range(2)
            ]
            return await asyncio.gather(*new, return_exceptions=True)

    kinds = {type(result) for result in asyncio.run(both())}
    assert kinds == {identity.Joined, AlreadyExists}
    assert len(list((tmp_path / "store" / "machines").iterdir())) == 1


def test_one_that_hangs_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "ALONE_S", 0.0)
    (tmp_path / "yoga" / "config").mkdir(parents=True)
    lock = FileLock(tmp_path / "yoga" / "config" / "init.lock")
    assert lock.try_acquire()
    with lock, pytest.raises(NotYet):
        create(tmp_path)
    create(tmp_path)


def test_names_of_machines(tmp_path):
    root = create(tmp_path).paths.read_key()
    assert join(tmp_path, "b", root, host="yoga").config.machine_name == "yoga-2"
    assert join(tmp_path, "c", root, host="Yoga.lan").config.machine_name == "yoga-3"
    with pytest.raises(TcfsError, match="called yoga") as caught:
        join(tmp_path, "d", root, name="yoga")
    assert caught.value.exit_code == 1
    with pytest.raises(BadInput):
        join(tmp_path, "d", root, name="Not OK")
    assert join(tmp_path, "d", root, name="ok").config.machine_name == "ok"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("yoga", "yoga"), ("My_Host.example.org", "my-host"), ("--", "machine"), ("", "machine"), ("a" * 80, "a" * 63)],
)
def test_host_names(host, expected):
    assert host_machine_name(host) == expected


def test_a_second_fleet_needs_another_name(tmp_path):
    create(tmp_path)
    (tmp_path / "store").rename(tmp_path / "store-1")
    with pytest.raises(AlreadyExists):
        create(tmp_path)
    where = str(tmp_path / "store-2")
    with pytest.raises(BadConfig, match="already knows a fleet default"):
        asyncio.run(
            create_fleet(FakeEnv(3), home(tmp_path, "yoga"), where, fleet_name="default", machine_name=None, host="h")
        )
    asyncio.run(create_fleet(FakeEnv(3), home(tmp_path, "yoga"), where, fleet_name="two", machine_name=None, host="h"))
    assert len(home(tmp_path, "yoga").fleets()) == 2


@pytest.mark.parametrize(
    "point",
    ["init.after_key", "init.after_fleet_put", "init.after_machine_put", "store.before_rename", "store.after_put"],
)
def test_init_goes_on_where_a_crash_stopped_it(tmp_path, point):
    env = FakeEnv(1)
    env.arm(point)
    with pytest.raises(Crash):
        create(tmp_path, env=env)
    assert home(tmp_path, "yoga").fleets() == []
    created = create(tmp_path, env=FakeEnv(2))
    assert created.paths.load() == created.config
    assert machine_names(tmp_path, created.paths) == ["yoga"]
    assert root_from_phrase(created.phrase) == created.paths.read_key()
    assert phrase_from_root(created.paths.read_key()) == created.phrase


@pytest.mark.parametrize("names", [{"name": "a/b"}, {"name": ""}, {"fleet": "A"}])
def test_a_name_that_is_none_is_refused_before_anything_is_made(tmp_path, names):
    with pytest.raises(BadInput, match=r"not a (machine|fleet) name"):
        create(tmp_path, **names)
    assert list(tmp_path.iterdir()) == []
    root = create(tmp_path).paths.read_key()
    with pytest.raises(BadInput, match=r"not a (machine|fleet) name"):
        join(tmp_path, "bates", root, **names)
    assert not (tmp_path / "bates").exists()
