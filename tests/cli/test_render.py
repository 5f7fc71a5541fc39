import json

import pytest

from cli.render import SHOWN_MAX, Out, ProgressLine, plural, printable, progress_text, shortened, size_text, table
from sync.core.errors import Conflict
from sync.env import FakeEnv


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (2**30 - 1, "1024.0 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_sizes(count, expected):
    assert size_text(count) == expected


def test_a_very_long_path_loses_its_middle():
    assert shortened("a/b") == "a/b"
    text = shortened("first/" + "x/" * 2500 + "last")
    assert len(text) == SHOWN_MAX
    assert text.startswith("first/x/") and "…" in text and text.endswith("x/last")


def test_progress():
    assert progress_text("push", {"files": 3, "bytes": 2048}, 1.0) == "push 3 files, 2.0 KiB, 2.0 KiB/s"
    whole = {"files": 1, "files_total": 2, "bytes": 1024, "bytes_total": 3072}
    assert progress_text("pull", whole, 2.0) == "pull 1/2 files, 1.0 KiB of 3.0 KiB, 512 B/s, 4 s left"
    assert progress_text("pull", {}, 0.0) == "pull 0 files, 0 B"


def test_names_are_shown_on_one_line():
    assert printable("plain ☃") == "plain ☃"
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable("\udc80") == "\\udc80"


def test_tables():
    assert table([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "ccc  d"]
    assert table([]) == []
    # A name may end with blanks; what pads a column is none of it.
    assert table([["a", "trail "], ["b", "longer than it"], ["c", ""]]) == ["a  trail ", "b  longer than it", "c"]
    assert (plural(1, "file"), plural(2, "file")) == ("1 file", "2 files")


def test_no_progress_off_a_terminal(capsys):
    line = ProgressLine(FakeEnv(), Out(False), "push")
    line({"files": 1})
    line.close()
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_drawn_over_itself_and_wiped(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    env = FakeEnv()
    env.clock.elapsed = 1.0
    line = ProgressLine(env, Out(False), "push")
    line({"files": 1})
    line({"files": 2})  # too soon
    env.clock.elapsed = 2.0
    line({"files": 3})
    line.close()
    written = capsys.readouterr().err
    assert written.count("\r") == 4
    assert "push 2" not in written
    assert written.endswith("\r")


def test_failures(capsys):
    error = Conflict("two versions", path="d/a", hint="look")
    assert Out(False).failed(error, {"x": 1}, ["a line"]) == 6
    assert capsys.readouterr() == ("a line\n", "tcfs: d/a: two versions (look)\n")
    assert Out(True).failed(error, {"x": 1}, ["a line"]) == 6
    out = capsys.readouterr()
    said = {"code": "conflict", "message": "d/a: two versions", "hint": "look"}
    assert json.loads(out.out) == {"ok": False, "error": said, "data": {"x": 1}}
    assert out.err == ""


def test_a_failure_is_one_line_whatever_the_path(capsys):
    Out(False).failed(Conflict("two versions", path="a\nb"))
    assert capsys.readouterr().err == "tcfs: a\\nb: two versions\n"
