import os

import pytest

from sync.machines.mounts import InMount, holders, mounted, resolve


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "home" / "fleet").mkdir(parents=True)
    (tmp_path / "home" / "plain").mkdir()
    (tmp_path / "link").symlink_to("home/fleet")
    (tmp_path / "deep").symlink_to(tmp_path / "home" / "fleet" / "docs")
    (tmp_path / "loop").symlink_to("loop")
    return os.path.realpath(tmp_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("home/fleet", ""),
        ("home/fleet/", ""),
        ("home/fleet/a/b", "a/b"),
        ("home/fleet/a/../b", "b"),
        ("link/a", "a"),
        ("deep/x.txt", "docs/x.txt"),
        ("home/plain/../fleet/./a", "a"),
        ("home/fleet/a/../../fleet/b", "b"),
    ],
)
def test_paths_inside(tree, path, expected):
    mountpoint = f"{tree}/home/fleet"
    assert resolve(path, tree, {mountpoint}) == InMount(mountpoint, expected)
    assert resolve(f"{tree}/{path}", "/", {mountpoint}) == InMount(mountpoint, expected)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("home/plain/a", "home/plain/a"),
        ("home/fleet2", "home/fleet2"),
        ("home/fleet/../plain", "home/plain"),
        ("home/fleet/a/../../plain", "home/plain"),
        ("home", "home"),
        ("missing/x", "missing/x"),
    ],
)
def test_paths_outside(tree, path, expected):
    assert resolve(path, tree, {f"{tree}/home/fleet"}) == f"{tree}/{expected}"


def test_a_loop_of_links_ends(tree):
    assert resolve("loop/x", tree, set()) == f"{tree}/loop/x"


def test_a_relative_path_counts_from_the_working_directory(tree):
    mountpoint = f"{tree}/home/fleet"
    assert resolve("a", f"{mountpoint}/docs", {mountpoint}) == InMount(mountpoint, "docs/a")
    assert resolve("/", tree, {mountpoint}) == "/"


def test_nothing_below_a_mount_is_touched(tree, monkeypatch):
    touched = []
    real = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: touched.append(path) or real(path))
    resolve("link/a/b", tree, {f"{tree}/home/fleet"})
    assert touched
    assert not [path for path in touched if path.startswith(f"{tree}/home/fleet")]


def test_the_mount_table(tmp_path):
    table = tmp_path / "mounts"
    table.write_text("tcfs /home/me/my\\040fleet fuse.tcfs rw 0 0\nproc /proc proc rw 0 0\n")
    assert mounted(table) == {"/home/me/my fleet": "fuse.tcfs", "/proc": "proc"}
    assert mounted(tmp_path / "none") == {}


def test_who_holds_a_mount(tmp_path):
    for pid, name, cwd, opened in [(20, "bash", "/m/docs", "/x"), (3, "vim", "/", "/m/a"), (4, "ls", "/", "/m2/a")]:
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
        (tmp_path / str(pid) / "cwd").symlink_to(cwd)
        (tmp_path / str(pid) / "fd" / "3").symlink_to(opened)
    for pid, line in [
        (5, "7f00-7f01 r--s 00000000 00:2d 7    /m/lib/a b.so\n"),
        (6, "7f00-7f01 r--s 00000000 00:2d 7    /m2/a\n"),
    ]:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "maps").write_text("7e00-7e01 rw-p 00000000 00:00 0\n" + line)
    assert [str(holder) for holder in holders("/m", tmp_path)] == [
        "vim (3): a is open",
        "? (5): lib/a b.so is mapped",
        "bash (20): docs is its working directory",
    ]
