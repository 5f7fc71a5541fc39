"""push and pull on plain folders: no mount, no daemon."""

from pathlib import Path

from fleetkit import fleet


def test_push_and_pull_without_daemon_or_fuse(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        (yoga.home / "f").write_text("fleet sync test\n")
        yoga.run("push", "f")
        bates.run("pull", "tcfs/default/f", "out")
        assert (bates.home / "out").read_bytes() == b"fleet sync test\n"
        assert yoga.pids() == [] and bates.pids() == []
        yoga.fsck()
        bates.fsck()


def test_conflict_drill(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        (yoga.home / "f").write_text("from yoga\n")
        (bates.home / "f").write_text("from bates\n")
        yoga.run("push", "f")
        result = bates.run("push", "f", expect=6)
        assert "f" in result.stderr
        assert sorted(bates.run("ls").stdout.split()) == ["f", "f.yoga.conflict"]
        yoga.run("pull", "f", "mine")  # learns; ls says what is known here
        assert sorted(yoga.run("ls").stdout.split()) == ["f", "f.bates.conflict"]
        yoga.run("pull", "f.bates.conflict", "theirs")
        assert (yoga.home / "mine").read_text() == "from yoga\n"
        assert (yoga.home / "theirs").read_text() == "from bates\n"
        assert "f" in yoga.run("conflicts").stdout
        yoga.fsck()
        bates.fsck()


def test_pull_refuses_to_overwrite_a_local_change(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        (yoga.home / "f").write_text("one\n")
        yoga.run("push", "f")
        bates.run("pull", "f", "out")
        (bates.home / "out").write_text("changed here\n")
        result = bates.run("pull", "f", "out", expect=6)
        assert "out" in result.stderr
        assert (bates.home / "out").read_text() == "changed here\n"
        bates.run("pull", "f", "out", "--force")
        assert (bates.home / "out").read_text() == "one\n"


def test_odd_names_empty_files_links_and_modes_travel(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        tree = yoga.home / "tree"
        (tree / "sub dir" / "déjà vu").mkdir(parents=True)
        (tree / "empty").touch()
        (tree / "-dash").write_text("dash")
        (tree / "new\nline").write_text("newline")
        (tree / ("x" * 255)).write_text("long")
        (tree / "sub dir" / "déjà vu" / "☃").write_bytes(bytes(range(256)) * 100)
        (tree / "link").symlink_to("sub dir/déjà vu/☃")
        (tree / "dangling").symlink_to("/nowhere/at all")
        (tree / "-dash").chmod(0o640)
        yoga.run("push", "tree")
        bates.run("pull", "tree", "copy")
        copy = bates.home / "copy"
        assert (copy / "empty").read_bytes() == b""
        assert (copy / "new\nline").read_text() == "newline"
        assert (copy / ("x" * 255)).read_text() == "long"
        assert (copy / "link").readlink() == Path("sub dir/déjà vu/☃")
        assert (copy / "dangling").readlink() == Path("/nowhere/at all")
        assert (copy / "sub dir/déjà vu/☃").read_bytes() == bytes(range(256)) * 100
        assert (copy / "-dash").stat().st_mode & 0o7777 == 0o640
        assert (copy / "-dash").stat().st_mtime_ns == (tree / "-dash").stat().st_mtime_ns
