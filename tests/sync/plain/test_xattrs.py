"""Extended attributes of plain folders: user.* only, and what goes wrong with them is told."""

import base64
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from workerkit import Fleet, Machine, run

from sync.plain.xattrs import NO_XATTRS, Found, read_xattrs, write_xattrs


def have_xattrs(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.probe", b"")
        os.removexattr(folder, "user.probe")
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def needs_xattrs(tmp_path: Path) -> None:
    if not have_xattrs(tmp_path):
        pytest.skip("no user xattrs here")


def failing(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_what_a_manifest_may_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hostile member: root would get what the kernel acts on."""
    asked: list[str] = []
    monkeypatch.setattr(os, "setxattr", lambda fd, name, value: asked.append(name))
    monkeypatch.setattr(os, "removexattr", lambda fd, name: asked.append(name))
    names = ["security.capability", "trusted.overlay.opaque", "system.posix_acl_access", "user.a", "usersecurity.b"]
    assert write_xattrs(0, dict.fromkeys(names, b64(b"x")), gone=["security.ima", "user.b"]) == ""
    assert asked == ["user.a", "user.b"]


def test_those_that_tell_a_state_do_not_travel(tmp_path: Path) -> None:
    for name in ("user.openvfs.data", "user.tcfs.state", "user.a"):
        os.setxattr(tmp_path, name, b"x")
    assert read_xattrs(str(tmp_path)) == Found({"user.a": b64(b"x")})
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert write_xattrs(descriptor, {"user.tcfs.state": b64(b"y"), "user.b": b64(b"y")}) == ""
    finally:
        os.close(descriptor)
    assert os.getxattr(tmp_path, "user.tcfs.state") == b"x"
    assert os.getxattr(tmp_path, "user.b") == b"y"


def test_where_there_are_none_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", failing(errno.EOPNOTSUPP))
    monkeypatch.setattr(os, "setxattr", failing(errno.EOPNOTSUPP))
    assert read_xattrs(str(tmp_path)) == Found(None)
    assert write_xattrs(0, {"user.a": ""}) == ""


def test_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["user.a", "user.b"])
    monkeypatch.setattr(os, "getxattr", failing(errno.EIO))
    monkeypatch.setattr(os, "setxattr", failing(errno.ENOSPC))
    assert read_xattrs(str(tmp_path)) == Found(None, "user.a cannot be read: Input/output error")
    told = write_xattrs(0, {"user.a": "", "user.b": ""})
    assert (
        told == "user.a cannot be written: No space left on device; user.b cannot be written: No space left on device"
    )


def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    os.setxattr(tmp_path, b"user.\xff", b"x")
    os.setxattr(tmp_path, "user.ok", b"y")
    found = read_xattrs(str(tmp_path))
    assert found.xattrs == {"user.ok": b64(b"y")}
    assert "UTF-8" in found.trouble
    assert NO_XATTRS == Found({}, "")


def noted(machine: Machine, path: str) -> dict[str, str]:
    row = machine.db.view.resolve_path(path)
    assert row is not None
    return machine.db.view.xattrs(row)


def test_they_travel_with_files_and_folders(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    file = yoga.write("t/d/f", "x")
    os.setxattr(file, "user.note", b"\0\xff")
    os.setxattr(file.parent, "user.kind", b"folder")
    os.setxattr(file.parent, "user.more", b"1")

    async def go() -> None:
        await yoga.push("t")
        await bates.pull("t", "t")
        assert os.getxattr(bates.home / "t/d/f", "user.note") == b"\0\xff"
        assert os.getxattr(bates.home / "t/d", "user.kind") == b"folder"
        # What was pulled is what was pushed: pushing it again takes nothing away.
        assert (await bates.push("t")).files == 0
        os.removexattr(file.parent, "user.more")
        os.setxattr(bates.home / "t/d", "user.own", b"here")
        await yoga.push("t")
        await bates.pull("t", "t")
        assert sorted(os.listxattr(bates.home / "t/d")) == ["user.kind", "user.own"]

    run(go(), fleet.clock)


def test_a_push_that_cannot_read_them_takes_none_away(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    yoga = fleet.machine("yoga")
    file = yoga.write("d/f", "x")
    os.setxattr(file, "user.note", b"1")
    os.setxattr(file.parent, "user.kind", b"2")
    wanted = {"d": {"user.kind": b64(b"2")}, "d/f": {"user.note": b64(b"1")}}

    async def go() -> None:
        await yoga.push("d")
        for number, count in ((errno.EACCES, 2), (errno.EOPNOTSUPP, 0)):
            with monkeypatch.context() as patch:
                patch.setattr(os, "listxattr", failing(number))
                report = await yoga.push("d")
                assert (report.files, report.error()) == (0, None)
                yoga.write("d/f", f"changed {number}")
                report = await yoga.push("d")
                assert (report.files, report.error()) == (1, None)
                assert [path for path, _ in report.warnings] == [str(file.parent), str(file)][:count]
            assert {path: noted(yoga, path) for path in wanted} == wanted

    run(go(), fleet.clock)


def test_a_pull_that_cannot_write_them_says_so(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    os.setxattr(yoga.write("f", "x"), "user.note", b"1")

    async def go() -> None:
        await yoga.push("f")
        monkeypatch.setattr(os, "setxattr", failing(errno.EPERM))
        report = await bates.pull("f", "f")
        assert (report.files, report.error()) == (1, None)
        assert report.warnings == [(str(bates.home / "f"), "user.note cannot be written: Operation not permitted")]

    run(go(), fleet.clock)
    assert (bates.home / "f").read_bytes() == b"x"
