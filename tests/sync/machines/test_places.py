import pytest

from sync.core.errors import BadPath, NotFound
from sync.machines.mounts import InMount
from sync.machines.places import Source, find_place, glob_meanings, local_place, meanings, push_source, remote_forms
from sync.state.home import FleetConfig

FLEET_ID = "11111111-2222-4333-8444-555555555555"
CONFIG = FleetConfig(
    fleet_id=FLEET_ID,
    name="default",
    store_url="file:///s",
    machine_id="m",
    machine_name="yoga",
    mountpoint="/mnt/fleet",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docs/a.txt", ["docs/a.txt"]),
        ("/docs/a.txt", ["docs/a.txt"]),
        ("docs//./a.txt/", ["docs/a.txt"]),
        ("default:docs/a.txt", ["default:docs/a.txt", "docs/a.txt"]),
        ("default:/docs", ["default:/docs", "docs"]),
        ("tcfs/default/docs/a.txt", ["tcfs/default/docs/a.txt", "docs/a.txt"]),
        (f"{FLEET_ID}:a", [f"{FLEET_ID}:a", "a"]),
        ("tcfs/default", ["tcfs/default", ""]),
        ("default:", ["default:", ""]),
        ("other:docs", ["other:docs"]),
        ("", [""]),
        ("/", [""]),
    ],
)
def test_remote_forms(text, expected):
    assert remote_forms(CONFIG, text) == expected


@pytest.mark.parametrize("text", ["../a", "a/../../b", "x" * 300])
def test_what_leaves_the_fleet_is_refused(text):
    with pytest.raises(BadPath):
        remote_forms(CONFIG, text)


def test_a_path_in_the_mount_comes_first():
    assert meanings(CONFIG, "a.txt", "/mnt/fleet/docs") == ["docs/a.txt", "a.txt"]
    assert meanings(CONFIG, "/mnt/fleet/docs", "/") == ["docs", "mnt/fleet/docs"]
    assert meanings(CONFIG, "../a", "/mnt/fleet/docs") == ["a"]
    assert meanings(CONFIG, "a.txt", "/tmp") == ["a.txt"]


@pytest.mark.parametrize(
    ("text", "cwd", "expected"),
    [
        ("x*", "/mnt/fleet/gl/[br]", ["gl/[[]br]/x*", "x*"]),
        ("../x*", "/mnt/fleet/gl/[br]/sub", ["gl/[[]br]/x*"]),
        ("../[ab]/x*", "/mnt/fleet/gl/[br]", ["gl/[ab]/x*"]),
        ("./s?/../x*", "/mnt/fleet/[br]/", ["[[]br]/x*"]),
        ("/mnt/fleet/gl/[br]/x*", "/mnt/fleet/[a]", ["gl/[br]/x*", "mnt/fleet/gl/[br]/x*"]),
        ("../../../mnt/fleet/[br]/x*", "/mnt/fleet/[a]", ["[br]/x*"]),
        ("default:[br]/x*", "/mnt/fleet/[a]", ["[[]a]/default:[br]/x*", "default:[br]/x*", "[br]/x*"]),
    ],
)
def test_of_a_glob_only_what_is_written_in_it_is_a_pattern(text, cwd, expected):
    assert glob_meanings(CONFIG, text, cwd) == expected


def test_the_names_that_a_symlink_leads_through_are_no_patterns(tmp_path):
    (tmp_path / "link").symlink_to("/mnt/fleet/gl/[br]")
    assert glob_meanings(CONFIG, "link/x*", str(tmp_path))[0] == "gl/[[]br]/x*"
    assert glob_meanings(CONFIG, f"{tmp_path}/link/x*", "/")[0] == "gl/[[]br]/x*"


def test_the_first_that_exists_counts():
    forms = remote_forms(CONFIG, "tcfs/default/a")
    assert find_place(forms, "x", {"a"}.__contains__) == "a"
    assert find_place(forms, "x", {"a", "tcfs/default/a"}.__contains__) == "tcfs/default/a"
    with pytest.raises(NotFound, match="no such file in the fleet: x"):
        find_place(forms, "x", set().__contains__)


def test_local_places():
    assert local_place(CONFIG, "a", "/mnt/fleet") == InMount("/mnt/fleet", "a")
    assert local_place(CONFIG, "a", "/mnt") == "/mnt/a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", Source("/tmp/a", "a")),
        ("d/a", Source("/tmp/d/a", "a")),
        ("/a", Source("/a", "a")),
        ("d/", Source("/tmp/d", "d")),
        (".", Source("/tmp", "")),
        ("d/.", Source("/tmp/d", "")),
        ("d/./", Source("/tmp/d", "")),
        ("..", Source("/", "")),
        ("/", Source("/", "")),
        ("/mnt/fleet/d", InMount("/mnt/fleet", "d")),
        ("../mnt/fleet/d/..", InMount("/mnt/fleet", "")),
    ],
)
def test_what_a_push_takes(text, expected):
    assert push_source(CONFIG, text, "/tmp") == expected
