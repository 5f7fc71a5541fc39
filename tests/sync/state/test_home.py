import errno
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sync.core.errors import AlreadyExists, BadConfig, BadInput, NotFound
from sync.state.home import FleetConfig, FleetPaths, Home, MachineConfig, make_private_dir

FLEET_ID = "0123abcd-0000-4000-8000-000000000000"
OTHER_ID = "fedc9876-0000-4000-8000-000000000000"


def config(fleet_id: str = FLEET_ID, name: str = "default", **more) -> FleetConfig:
    return FleetConfig(
        fleet_id=fleet_id,
        name=name,
        store_url="file:///srv/store",
        machine_id="11111111-0000-4000-8000-000000000000",
        machine_name="yoga",
        **more,
    )


def joined(home: Home, fleet_id: str = FLEET_ID, name: str = "default") -> FleetPaths:
    paths = home.new_fleet(fleet_id)
    paths.save(config(fleet_id, name))
    return paths


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.from_environ({"TCFS_HOME": str(tmp_path / "h")})


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


# Folders


def test_tcfs_home_moves_everything():
    home = Home.from_environ({"TCFS_HOME": "/h", "HOME": "/root", "XDG_STATE_HOME": "/elsewhere"})
    found = [home.root, home.config, home.state, home.cache, home.run, home.data]
    assert [Path("/h"), *(Path("/h", name) for name in ("config", "state", "cache", "run", "data"))] == found
    assert (Path("/h/store"), Path("/h/fleet")) == (home.default_store, home.default_mountpoint)


def test_xdg_folders():
    home = Home.from_environ({"HOME": "/u", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "not/absolute"})
    assert home.root is None
    assert Path("/u/.config/tcfs") == home.config
    assert Path("/s/tcfs") == home.state
    assert Path("/u/.cache/tcfs") == home.cache
    assert Path("/u/.local/share/tcfs/store") == home.default_store
    assert Path("/u/fleet") == home.default_mountpoint


def test_the_socket_is_found_whatever_the_session():
    login = Home.from_environ({"HOME": "/u", "XDG_RUNTIME_DIR": "/run/user/7"})
    cron = Home.from_environ({"HOME": "/u"})
    assert FleetPaths(login, FLEET_ID).socket_path == FleetPaths(cron, FLEET_ID).socket_path


def test_relative_tcfs_home_is_refused():
    with pytest.raises(BadConfig):
        Home.from_environ({"TCFS_HOME": "here"})


def test_nothing_is_created_by_looking(home: Home):
    assert [] == home.fleets()
    assert home.machine() is None
    assert not home.root.exists()


def test_paths_of_a_fleet(home: Home):
    paths = FleetPaths(home, FLEET_ID)
    assert home.config / "fleets" / FLEET_ID / "fleet.key" == paths.key_file
    assert home.state / "0123abcd" / "fleet.db" == paths.fleet_db
    assert home.state / "0123abcd" / "tree.db" == paths.tree_db
    assert home.cache / "0123abcd" == paths.cache_dir
    assert home.run / "0123abcd" == paths.run_dir


def test_folders_are_private_whatever_the_umask(home: Home):
    before = os.umask(0)
    try:
        joined(home)
    finally:
        os.umask(before)
    folders = [Path(folder) for folder, _, _ in os.walk(home.root)]
    assert len(folders) > 8
    assert {0o700} == {mode_of(folder) for folder in folders}


def test_folders_of_a_fleet_become_private(home: Home):
    paths = joined(home)
    paths.state_dir.chmod(0o755)
    paths.cache_dir.chmod(0o711)
    home.state.chmod(0o755)
    paths.make_dirs()
    assert [0o700, 0o700, 0o755] == [mode_of(folder) for folder in (paths.state_dir, paths.cache_dir, home.state)]


@pytest.mark.parametrize("place", ["file/a", "file", "loop/a", "missing/a"])
def test_where_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    if place == "missing/a":  # as in /proc

        def refuse(path: Path, **options: object) -> None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BadConfig, match="cannot make") as caught:
        make_private_dir(tmp_path / place)
    assert caught.value.path == str(tmp_path / place)


def test_make_private_dir_leaves_others_alone(tmp_path: Path):
    tmp_path.chmod(0o755)
    make_private_dir(tmp_path / "a" / "b")
    make_private_dir(tmp_path)
    assert [0o755, 0o700, 0o700] == [mode_of(tmp_path / part) for part in ("", "a", "a/b")]


# Sockets


def can_listen(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.unlink()
    return True


@pytest.fixture
def deep(tmp_path: Path):
    paths = FleetPaths(Home.from_environ({"TCFS_HOME": str(tmp_path / ("d" * 100))}), FLEET_ID)
    yield paths
    shutil.rmtree(paths.socket_path.parent)


def test_short_socket_path_is_in_run(tmp_path: Path):
    home = Home.from_environ({"TCFS_HOME": "/h"})
    assert Path("/h/run/0123abcd/socket") == FleetPaths(home, FLEET_ID).socket_path


def test_long_socket_path_goes_to_a_private_folder_that_run_names(deep: FleetPaths):
    path = deep.socket_path
    assert len(str(path)) <= 100
    assert can_listen(path)
    assert 0o700 == mode_of(path.parent)
    assert f"{path.parent}\n" == (deep.run_dir / "sock").read_text()
    assert path == FleetPaths(deep.home, FLEET_ID).socket_path


def test_all_who_ask_at_once_get_the_same_folder(deep: FleetPaths):
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(lambda: FleetPaths(deep.home, FLEET_ID).socket_path) for _ in range(32)]
    assert {deep.socket_path} == {answer.result() for answer in asked}


def test_a_folder_that_others_may_enter_is_not_used(deep: FleetPaths):
    first = deep.socket_path
    first.parent.chmod(0o755)
    second = deep.socket_path
    first.parent.rmdir()
    assert first != second
    assert can_listen(second)


def test_a_folder_that_was_cleaned_away_is_made_anew(deep: FleetPaths):
    deep.socket_path.parent.rmdir()
    assert can_listen(deep.socket_path)


# Files


def test_fleet_toml_comes_back(home: Home):
    paths = home.new_fleet(FLEET_ID)
    for saved in (config(), config(mountpoint="/m", uid=0, gid=7, mode="auto")):
        paths.save(saved)
        assert saved == paths.load()
    assert 0o600 == mode_of(paths.fleet_toml)


@pytest.mark.parametrize("text", ["", "name = 3", "= x", "\xff", "new_key = 1"])
def test_broken_fleet_toml_is_named(home: Home, text: str):
    paths = joined(home)
    whole = paths.fleet_toml.read_bytes() if text == "new_key = 1" else b""
    paths.fleet_toml.write_bytes(text.encode("latin-1") + b"\n" + whole)
    with pytest.raises(BadConfig, match=r"fleet\.toml"):
        paths.load()


def test_fleet_toml_of_another_fleet_is_refused(home: Home):
    paths = joined(home)
    paths.save(config(OTHER_ID))
    with pytest.raises(BadConfig):
        paths.load()


def test_machine_name_comes_back(home: Home):
    home.save_machine(MachineConfig("yoga"))
    assert MachineConfig("yoga") == home.machine()


def test_keys_come_back_and_are_private(home: Home):
    paths = home.new_fleet(FLEET_ID)
    paths.write_key(bytes(range(32)))
    paths.write_signing_key(b"s" * 32)
    assert bytes(range(32)) == paths.read_key()
    assert b"s" * 32 == paths.read_signing_key()
    assert bytes(range(32)).hex() + "\n" == paths.key_file.read_text()
    assert {0o600} == {mode_of(paths.key_file), mode_of(paths.signing_key_file)}


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "zz" * 32, "0 " * 32, "\xe9" * 64])
def test_broken_key_is_named(home: Home, text: str):
    paths = home.new_fleet(FLEET_ID)
    paths.key_file.write_text(text)
    with pytest.raises(BadConfig, match=r"fleet\.key"):
        paths.read_key()


def test_missing_key_and_short_key(home: Home):
    paths = home.new_fleet(FLEET_ID)
    with pytest.raises(NotFound):
        paths.read_key()
    with pytest.raises(BadInput):
        paths.write_key(b"short")


# Choosing a fleet


def test_the_only_fleet_is_meant(home: Home):
    with pytest.raises(NotFound):
        home.fleet()
    home.new_fleet(FLEET_ID)  # no fleet.toml yet: not a fleet
    with pytest.raises(NotFound):
        home.fleet()
    FleetPaths(home, FLEET_ID).save(config(name="work"))
    assert FLEET_ID == home.fleet().fleet_id
    assert [FLEET_ID] == [fleet.fleet_id for fleet in home.fleets()]


def test_one_of_several_fleets(home: Home):
    joined(home, FLEET_ID, "work")
    joined(home, OTHER_ID, "home")
    assert OTHER_ID == home.fleet("home").fleet_id
    assert OTHER_ID == home.fleet(OTHER_ID).fleet_id
    assert OTHER_ID == home.fleet("fedc").fleet_id
    with pytest.raises(BadInput, match="several"):
        home.fleet()
    with pytest.raises(NotFound):
        home.fleet("none")


def test_default_is_meant_among_several(home: Home):
    joined(home, FLEET_ID, "work")
    joined(home, OTHER_ID, "default")
    assert OTHER_ID == home.fleet().fleet_id


def test_two_fleets_of_one_name_must_be_told_apart_by_id(home: Home):
    joined(home, FLEET_ID, "same")
    joined(home, OTHER_ID, "same")
    with pytest.raises(BadInput, match="several"):
        home.fleet("same")


def test_a_fleet_is_not_joined_twice_nor_its_folders_shared(home: Home):
    joined(home)
    for fleet_id in (FLEET_ID, FLEET_ID[:8] + OTHER_ID[8:]):
        with pytest.raises(AlreadyExists):
            home.new_fleet(fleet_id)


@pytest.mark.parametrize("fleet_id", ["", "short", "../../../etc", "..aaaaaaaa"])
def test_fleet_id_that_is_none(home: Home, fleet_id: str):
    with pytest.raises(BadInput):
        home.new_fleet(fleet_id)
