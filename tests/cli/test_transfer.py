import os


def test_smoke(fleet):
    yoga, bates = fleet
    yoga.write("f", "fleet sync test\n")
    assert yoga.ok("push", "f") == "1 file published, 16 B, 0 unchanged\n"
    bates.ok("pull", "tcfs/default/f", "out")
    assert bates.read("out") == "fleet sync test\n"
    assert yoga.ok("push", "f") == "0 files published, 1 unchanged\n"


def test_conflict_drill(fleet):
    yoga, bates = fleet
    yoga.write("f", "from yoga")
    bates.write("f", "from bates")
    yoga.ok("push", "f")
    second = bates("push", "f")
    assert second.code == 6
    assert "f has another version" in second.err
    assert bates.ok("ls").split() == ["f", "f.yoga.conflict"]
    yoga.ok("pull", "f", "mine")
    yoga.ok("pull", "f.bates.conflict", "theirs")
    assert (yoga.read("mine"), yoga.read("theirs")) == ("from yoga", "from bates")
    assert yoga.ok("ls").split() == ["f", "f.bates.conflict"]
    assert yoga.ok("conflicts").splitlines()[0] == "f"
    conflicts = yoga("conflicts", "--json").json["data"]["conflicts"]
    assert [{"yoga", "bates"}] == [{version["machine"] for version in one["versions"]} for one in conflicts]
    assert "1 conflict" in yoga.ok("status")
    assert yoga("fsck").code == bates("fsck").code == 0


def test_force_supersedes(fleet):
    yoga, bates = fleet
    yoga.write("f", "from yoga")
    bates.write("f", "from bates")
    yoga.ok("push", "f")
    bates.ok("push", "--force", "f")
    yoga.ok("pull", "--force", "f")
    assert yoga.read("f") == "from bates"
    assert yoga.ok("conflicts") == ""


def test_a_local_change_is_not_overwritten(fleet):
    yoga, bates = fleet
    yoga.write("f", "one")
    yoga.ok("push", "f")
    bates.ok("pull", "f", "out")
    bates.write("out", "changed here")
    refused = bates("pull", "f", "out")
    assert refused.code == 6
    assert "out" in refused.err
    assert bates.read("out") == "changed here"
    bates.ok("pull", "f", "out", "--force")
    assert bates.read("out") == "one"


def test_json_has_one_shape(fleet):
    yoga, bates = fleet
    yoga.write("f", "12345")
    done = yoga("push", "f", "--json").json
    assert done["ok"] is True
    assert {"files": 1, "unchanged": 0, "bytes": 5, "conflicts": [], "skipped": [], "failures": []}.items() <= done[
        "data"
    ].items()
    bates.write("f", "other")
    failed = bates("--json", "push", "f").json
    assert failed["ok"] is False
    assert failed["error"]["code"] == "conflict"
    assert failed["error"]["message"] and failed["error"]["hint"]
    assert failed["data"]["conflicts"] == ["f"]
    missing = bates("pull", "nothing", "--json")
    assert (missing.code, missing.json["error"]["code"]) == (5, "not-found")


def test_names_are_those_of_cp(fleet):
    yoga, bates = fleet
    yoga.write("tree/sub/a", "a")
    yoga.write("tree/b", "b")
    os.symlink("b", yoga.folder / "tree" / "link")
    yoga.ok("push", "tree", "--to", "docs")
    assert yoga.ok("ls", "docs/tree").split() == ["b", "link", "sub"]
    assert "link -> b" in yoga.ok("ls", "-l", "default:docs/tree")
    (bates.folder / "here").mkdir()
    bates.ok("pull", "/docs/tree", "here")
    assert bates.read("here/tree/sub/a") == "a"
    assert os.readlink(bates.folder / "here/tree/link") == "b"


def test_what_is_in_a_folder_goes_into_another(fleet):
    yoga, _ = fleet
    yoga.write("tree/sub/a", "a")
    yoga.ok("push", "tree/.", "--to", "one")
    yoga.ok("push", "tree/sub/..", "--to", "two")
    assert yoga.ok("ls", "one") == yoga.ok("ls", "two") == "sub\n"
    yoga.ok("push", ".")
    assert yoga.ok("ls").split() == ["one", "tree", "two"]
    done = yoga("push", "tree/sub/a/.")
    assert (done.code, done.err.count("\n")) == (5, 1)


def test_a_symlink_is_pushed_as_itself(fleet):
    yoga, _ = fleet
    yoga.write("tree/a", "a")
    os.symlink("tree", yoga.folder / "to-tree")
    os.symlink("gone", yoga.folder / "dangling")
    yoga.ok("push", "to-tree", "dangling")
    assert "to-tree -> tree" in yoga.ok("ls", "-l")
    assert "dangling -> gone" in yoga.ok("ls", "-l")
    yoga.ok("push", "to-tree/a")
    assert yoga.ok("ls").split() == ["a", "dangling", "to-tree"]
    yoga.ok("push", "to-tree/", "--to", "real")
    assert yoga.ok("ls", "real/to-tree") == "a\n"


def test_an_empty_name_is_not_the_working_directory(fleet):
    yoga, _ = fleet
    yoga.write("a", "a")
    assert yoga("push", "").code == 64
    assert yoga.ok("ls") == ""


def test_nothing_goes_below_a_file(fleet):
    yoga, _ = fleet
    yoga.write("a", "a")
    yoga.write("b", "b")
    yoga.ok("push", "a", "--to", "d")
    for to in ("d/a", "d/a/x"):
        done = yoga("push", "b", "--to", to)
        assert (done.code, done.err) == (6, "tcfs: d/a is no folder in the fleet (choose another --to)\n")
    assert yoga.ok("ls", "d") == "a\n"


def test_what_is_in_the_mount_goes_nowhere_else(fleet):
    yoga, _ = fleet
    config = next(yoga.home.glob("config/fleets/*/fleet.toml"))
    config.write_text(config.read_text() + f'mountpoint = "{yoga.home}/fleet"\n')
    done = yoga("push", str(yoga.home / "fleet" / "a"), "--to", "d")
    assert (done.code, "a is in the mount" in done.err) == (64, True)


def test_names_that_end_with_blanks_are_listed_whole(fleet):
    yoga, _ = fleet
    yoga.write("d/trail ", "x")
    yoga.write("d/other", "x")
    yoga.ok("push", "d")
    assert yoga.ok("ls", "d") == "other\ntrail \n"
    assert [line[-7:] for line in yoga.ok("ls", "-l", "d").splitlines()] == ["  other", " trail "]


def test_what_is_ignored_is_told(fleet):
    yoga, _ = fleet
    for path in ("gp/.git/HEAD", "gp/a.swp", "gp/b.swp", "gp/c.swp"):
        yoga.write(path, "x")
    folder = yoga.folder / "gp"
    done = yoga("push", "gp/.git", "--to", "gpt")
    assert (done.code, done.err) == (0, f"left out: {folder}/.git: stays on this machine by its name\n")
    done = yoga("push", "gp")
    named = f"{folder}/.git; {folder}/a.swp; {folder}/b.swp"
    assert (done.code, done.err) == (
        0,
        f"left out: 4 paths that stay on this machine by their names: {named}; …\n",
    )
    data = yoga("push", "gp", "--json").json["data"]
    assert (len(data["ignored"]), data["ignored_left_out"]) == (4, 0)


def test_a_pipe_that_is_asked_for_is_an_error(fleet):
    yoga, _ = fleet
    yoga.write("d/a", "a")
    os.mkfifo(yoga.folder / "d" / "pipe")
    assert yoga("push", "d").code == 0
    done = yoga("push", "d/pipe")
    assert (done.code, "is a socket, pipe or device" in done.err) == (1, True)


def test_attributes_that_cannot_be_had_are_a_warning(fleet, monkeypatch):
    yoga, _ = fleet
    path = yoga.write("f", "x")

    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listxattr", fail)
    done = yoga("push", "f")
    assert (done.code, done.err) == (0, f"warning: {path}: its attributes cannot be read: Permission denied\n")
    yoga.write("f", "xx")
    told = yoga("push", "f", "--json").json
    assert told["data"]["warnings"] == [
        {"path": str(path), "message": "its attributes cannot be read: Permission denied"}
    ]


def test_nothing_of_that_name(fleet):
    yoga, _ = fleet
    for args in (
        ["push", "nothing"],
        ["pull", "nothing"],
        ["ls", "nothing"],
        ["log", "nothing"],
        ["hydrate", "nothing"],
    ):
        done = yoga(*args)
        assert (done.code, done.out) == (5, ""), args
        assert done.err.startswith("tcfs: ") and "nothing" in done.err
        assert done.err.count("\n") == 1


def test_a_store_that_is_away(fleet, tmp_path, caplog):
    yoga, _ = fleet
    yoga.write("f", "one")
    yoga.ok("push", "f")
    (tmp_path / "store").rename(tmp_path / "gone")
    yoga.write("f", "two")
    for args in (["push", "f"], ["pull", "f", "out"]):
        done = yoga(*args)
        assert done.code == 2, done
        assert "away" in done.err
    assert yoga.ok("ls").split() == ["f"]
    assert yoga.ok("log", "f").count("\n") == 1
    assert "everything is in the store" in yoga.ok("status")
    (tmp_path / "gone").rename(tmp_path / "store")
    yoga.ok("push", "f")
    assert yoga.ok("log", "f").count("\n") == 2


def test_content_that_the_store_lost_is_put_again(fleet, tmp_path):
    yoga, bates = fleet
    yoga.write("d/a", "precious")
    yoga.ok("push", "d")
    for pack in (tmp_path / "store" / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    assert yoga("status", "--json").json["data"]["lost"] == []
    assert bates("pull", "d").code == 8
    status, doctor = bates("status"), bates("doctor", "--json").json["data"]["findings"]
    assert "everything is in the store" not in status.out
    assert "1 pack of the store cannot be read whole" in status.out and "is missing" in status.out
    assert ["content"] == [one["subject"] for one in doctor if "packs that cannot be read" in one["message"]]
    told = yoga("fsck")
    assert told.code == 8 and "d/a cannot be read whole" in told.out and "tcfs push --force" in told.out
    assert yoga.ok("push", "d").endswith("1 unchanged, 1 put again: the store had lost them\n")
    bates.ok("pull", "d")
    assert bates.read("d/a") == "precious"
    assert bates("status", "--json").json["data"]["safe"]
    assert "cannot be read" not in bates("doctor").out
    assert "no file needs it" in yoga.ok("fsck")
    assert yoga("push", "--force", "d", "--json").json["data"]["restored"] == 0


def test_content_comes_and_goes(fleet):
    yoga, bates = fleet
    yoga.write("d/a", "x" * 1000)
    yoga.ok("push", "d")
    bates.ok("pull", "d")
    assert "1 file here" in bates.ok("hydrate", "d/a")
    assert list(bates.home.glob("cache/*/chunks/*/*"))
    assert "1 file dehydrated" in bates.ok("unsync", "d")
    assert not list(bates.home.glob("cache/*/chunks/*/*"))


def test_wait_with_nothing_to_wait_for(fleet):
    yoga, _ = fleet
    assert yoga.ok("wait") == ""
    assert yoga("wait", "--json").json == {"ok": True, "data": {"interrupted": [], "left": []}}


def test_keys_databases_and_the_store_are_not_pushed(fleet, tmp_path):
    yoga, _ = fleet
    yoga.write("mine", "1")
    (tmp_path / "yoga" / "home" / "notes").write_text("a file beside them")
    done = yoga("push", str(tmp_path))
    assert done.code == 0
    assert f"{tmp_path}/yoga/home/config" in done.err
    names = yoga.ok("ls", f"{tmp_path.name}/yoga/home").split()
    assert names == ["notes"]
    assert "store/" not in yoga.ok("ls", tmp_path.name).split()
    for folder in ("config", "state", "cache"):
        assert yoga("push", str(yoga.home / folder)).code == 1
    assert yoga("push", str(yoga.key_file)).code == 1
    assert yoga("push", str(tmp_path / "store" / "heads")).code == 1
    assert "fleet.key" not in yoga.ok("ls", "/").split()


def test_folders_are_not_counted_as_files(fleet):
    yoga, bates = fleet
    yoga.write("d/e/f", "1")
    assert yoga.ok("push", "d") == "1 file published, 1 B, 0 unchanged\n"
    assert yoga.ok("push", "d") == "0 files published, 1 unchanged\n"
    assert bates.ok("pull", "d", "out") == "1 file fetched, 1 B, 0 unchanged\n"


def test_the_whole_fleet_is_named_by_a_slash(fleet):
    yoga, _ = fleet
    for verb in (["pull", "", "out"], ["dehydrate", ""], ["hydrate", ""]):
        assert "empty" in yoga(*verb).err, verb
    assert not (yoga.folder / "out").exists()


def test_status_short_is_one_glyph_a_file(fleet):
    yoga, bates = fleet
    yoga.write("d/a", "some text")
    yoga.write("d/b", "")
    yoga.ok("push", "d")
    bates.ok("ls")
    bates.ok("pull", "d/b", "out")
    assert bates.ok("status", "-s").splitlines() == [". d/a", "= d/b"]
    bates.ok("hydrate", "d/a")
    assert bates.ok("status", "-s", "d/a") == "= d/a\n"
    data = bates("status", "-s", "--json").json["data"]
    assert [
        {"path": "d/a", "state": "local", "removed": False},
        {"path": "d/b", "state": "local", "removed": False},
    ] == (data["files"])
    assert data["legend"]["."] == "online-only" and len(data["legend"]) == 7


def test_the_help_of_status_has_each_glyph(yoga):
    from sync.core.filestate import GLYPHS

    text = yoga.ok("status", "--help")
    for state, glyph in GLYPHS.items():
        assert f"{glyph}  {state.value}:" in text
