import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli import verbs
from sync.machines.ask import Asked
from sync.ours import VERSION


def test_every_verb_loads_and_has_help(yoga):
    for name in verbs.VERBS:
        done = yoga(name, "--help")
        assert done.code == 0, name
        assert "Usage: tcfs" in done.out


def test_help_lists_the_verbs(yoga):
    text = yoga.ok("--help")
    assert all(f"\n  {name} " in text for name in verbs.VERBS.keys() - verbs.HIDDEN)
    assert "unsync" not in text
    assert "..." not in text.partition("Commands:")[2], "a first sentence that is too long is cut short"


def test_no_verb_is_a_usage_error(yoga):
    done = yoga()
    assert (done.code, done.out) == (64, "")
    assert "Usage: tcfs" in done.err


@pytest.mark.parametrize("args", [["nonsense"], ["push"], ["wait", "--timeout", "x"], ["ls", "--nonsense"], ["key"]])
def test_usage_errors(yoga, args):
    done = yoga(*args)
    assert (done.code, done.out) == (64, "")
    as_json = yoga("--json", *args)
    assert (as_json.code, as_json.json["ok"], as_json.json["error"]["code"]) == (64, False, "usage")


def test_version(yoga):
    assert yoga.ok("version") == f"tcfs {VERSION}\n"
    assert yoga("version", "--json").json == {"ok": True, "data": {"version": VERSION}}


def test_a_bug_is_a_traceback(yoga, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("cli.app.App.settings", property(broken))
    with pytest.raises(ZeroDivisionError):
        yoga("config", "show")


def test_settings_and_their_origin(yoga, monkeypatch):
    (yoga.home / "config").mkdir(parents=True)
    (yoga.home / "config" / "config.toml").write_text('cache_quota = "1 GiB"\n')
    monkeypatch.setenv("TCFS_LOG_LEVEL", "debug")
    shown = yoga("config", "show", "--origin", "--json").json["data"]
    assert shown["cache_quota"] == {"value": 2**30, "origin": str(yoga.home / "config" / "config.toml")}
    assert shown["log_level"] == {"value": "debug", "origin": "TCFS_LOG_LEVEL"}
    assert shown["sync_git"] == {"value": "off", "origin": "default"}
    assert shown["sync_ownership"] == {"value": False, "origin": "default"}
    assert "sync_ownership" in (text := yoga("config", "show").out) and "false" in text
    (yoga.home / "config" / "config.toml").write_text("nonsense = 1\n")
    assert yoga("config", "show").code == 1


def test_the_program_itself(yoga):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", "--json", "ls"],
        env=yoga.environ(),
        cwd=yoga.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (5, "")
    assert json.loads(done.stdout)["error"]["code"] == "not-found"


@pytest.mark.parametrize("args", [["push", "f"], ["status", "f"], ["ls", "f"], ["init", "--store", "here"]])
def test_a_working_directory_that_is_gone(yoga, tmp_path, args):
    if args[0] != "init":
        yoga.ok("init")
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os; os.rmdir({str(gone)!r}); from cli.main import main; main({args})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=yoga.environ() | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.splitlines() == ["tcfs: the working directory has been removed (change to another one)"]


def test_a_thread_that_hangs_keeps_no_command(tmp_path):
    """A store on a disk that does not answer: its thread never ends."""
    program = """
import sys, threading
from cli import verbs
def run(args):
    threading.Thread(target=threading.Event().wait).start()
    print("said")
    return 7
verbs.run = run
verbs.main([])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (7, "said\n")


def test_ctrl_c_while_it_is_imported_is_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("import signal\nprint('importing', flush=True)\nsignal.pause()\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "status"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores SIGINT, and so does all that it starts: these tests, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == -signal.SIGINT
    finally:
        process.kill()
        process.wait()


def test_names_that_are_not_utf_8(fleet):
    yoga, _ = fleet
    for args in (
        ["push", "bad\udcff"],
        ["pull", "f", "bad\udcff"],
        ["wait", "bad\udcff"],
        ["hydrate", "f", "bad\udcff"],
    ):
        done = yoga(*args)
        assert (done.code, done.err.count("\n")) == (64, 1), args
        assert "not valid UTF-8" in done.err


def test_a_path_in_the_mount_is_not_touched(fleet, monkeypatch):
    yoga, _ = fleet
    config = next(yoga.home.glob("config/fleets/*/fleet.toml"))
    config.write_text(config.read_text() + f'mountpoint = "{yoga.home}/fleet"\n')
    path = f"{yoga.home}/fleet/f"
    stat, touched = os.stat, []

    def watch(place, *args, **kwargs):
        touched.append(str(place))
        return stat(place, *args, **kwargs)

    monkeypatch.setattr(os, "stat", watch)
    for verb in ("status", "log", "wait", "hydrate", "dehydrate", "push"):
        assert yoga(verb, path).code in (5, 7), verb
    assert yoga("pull", "f", path).code in (5, 64)
    assert touched
    assert path not in touched


def test_status_with_a_daemon_that_an_older_program_left_running(fleet, monkeypatch):
    yoga, _ = fleet

    async def older(env, paths, seconds):
        return Asked({"pid": 1, "store_trouble": "", "mount": {"trouble": ""}, "problems": [], "store": {}})

    monkeypatch.setattr("sync.machines.ask.ask_engine", older)
    assert "everything is in the store" in yoga.ok("status")


def test_an_empty_path_is_refused(yoga, tmp_path):
    yoga.init(tmp_path / "store")
    yoga.write("f", "x")
    yoga.ok("push", "f")
    verbs = "status ls log wait watch cache+ls hydrate dehydrate pin unpin policy push pull pull+f cp+f push+f+--to"
    for verb in [*verbs.split(), "up", "mount"]:
        done = yoga(*verb.split("+"), "")
        assert (done.code, "is empty" in done.err, done.out) == (64, True, ""), verb
    for verb in (["status", "f", ""], ["status", "-s", ""], ["cp", "", "g"], ["ls", "-l", ""]):
        assert yoga(*verb).code == 64
    for verb in (["status"], ["ls"], ["wait"], ["cache", "ls"], ["ls", "/"], ["wait", "/"], ["push", "--to", "/", "f"]):
        yoga.ok(*verb)
