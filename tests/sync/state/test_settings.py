from pathlib import Path

import pytest

from sync.core.errors import BadConfig, BadInput
from sync.state.home import Home
from sync.state.settings import SETTINGS, Settings, parse_size


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.from_environ({"TCFS_HOME": str(tmp_path)})
    home.config.mkdir()
    return home


@pytest.mark.parametrize(
    ("text", "size"),
    [(1000, 1000), ("0", 0), ("10 GiB", 10 * 2**30), ("500M", 500 * 10**6), ("2.5gb", 25 * 10**8), ("1ki", 1024)],
)
def test_sizes(text: object, size: int):
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 PiB", "1 2", True, None, 1.5e99, "1e3"])
def test_what_is_no_size(text: object):
    with pytest.raises(ValueError):
        parse_size(text)


def test_defaults(home: Home):
    settings = Settings.load(home, {})
    assert {setting.name: (setting.default, "default") for setting in SETTINGS} == {
        name: (found.value, found.origin) for name, found in settings.resolved.items()
    }
    assert settings.fleet is None


def test_flag_beats_environment_beats_file_beats_default(home: Home):
    environ, flags = {}, {}

    def found() -> tuple[object, str]:
        resolved = Settings.load(home, environ, flags).resolved["cache_quota"]
        return resolved.value, resolved.origin

    assert (0, "default") == found()
    home.config_file.write_text('cache_quota = "1M"\n')
    assert (10**6, str(home.config_file)) == found()
    environ["TCFS_CACHE_QUOTA"] = "2M"
    assert (2 * 10**6, "TCFS_CACHE_QUOTA") == found()
    flags["cache_quota"] = None
    assert (2 * 10**6, "TCFS_CACHE_QUOTA") == found()
    flags["cache_quota"] = "3M"
    assert (3 * 10**6, "flag") == found()


def test_an_empty_variable_is_not_set(home: Home):
    assert "default" == Settings.load(home, {"TCFS_STORE": ""}).resolved["store"].origin


def test_every_setting_has_a_property_and_a_help_text(home: Home):
    settings = Settings.load(home, {})
    for setting in SETTINGS:
        assert hasattr(settings, setting.name)
        assert setting.help


@pytest.mark.parametrize(
    "text", ["cahce_quota = 1\n", "cache_quota = 'x'\n", "log_level = 'loud'\n", "[", "store = 3\n"]
)
def test_bad_config_file_is_named(home: Home, text: str):
    home.config_file.write_text(text)
    with pytest.raises(BadConfig, match=r"config\.toml"):
        Settings.load(home, {})


def test_a_switch_is_true_or_false(home: Home):
    assert not Settings.load(home, {}).sync_ownership
    home.config_file.write_text("sync_ownership = true\n")
    assert Settings.load(home, {}).sync_ownership
    assert not Settings.load(home, {"TCFS_SYNC_OWNERSHIP": "false"}).sync_ownership
    assert Settings.load(home, {"TCFS_SYNC_OWNERSHIP": "true"}).resolved["sync_ownership"].value is True
    for bad in ("1", "'yes'", "[]", "1.0"):
        home.config_file.write_text(f"sync_ownership = {bad}\n")
        with pytest.raises(BadConfig, match="neither true nor false"):
            Settings.load(home, {})


def test_bad_variable_and_flag_are_named(home: Home):
    with pytest.raises(BadInput, match="TCFS_LOG_LEVEL"):
        Settings.load(home, {"TCFS_LOG_LEVEL": "loud"})
    with pytest.raises(BadInput, match="sync_git"):
        Settings.load(home, {}, {"sync_git": "yes"})
    with pytest.raises(BadInput, match="unknown"):
        Settings.load(home, {}, {"color": "red"})
