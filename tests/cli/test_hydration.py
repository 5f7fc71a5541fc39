"""pin, unpin, policy, cache, cp and dehydrate on the command line, without a daemon."""

from pathlib import Path

import pytest
from clikit import Shell


@pytest.fixture
def one(fleet: tuple[Shell, Shell]) -> Shell:
    """bates, who has nothing local of d/a.txt, d/b.txt and e/c.md of yoga."""
    yoga, bates = fleet
    for name in ("d/a.txt", "d/b.txt", "e/c.md"):
        yoga.write(name, name * 100)
    yoga.ok("push", "d", "e")
    bates.ok("pull", "e/c.md", "c.md")  # learns
    bates.ok("dehydrate", "/")
    return bates


def test_pin_and_what_is_told_of_it(one: Shell) -> None:
    text = one.ok("pin", "d/*.txt")
    assert "2 paths with 2 files" in text and "while tcfsd runs" in text
    assert one("policy", "--json").json["data"]["policies"] == [
        {"path": "d/a.txt", "policy": "always", "source": "d/a.txt"},
        {"path": "d/b.txt", "policy": "always", "source": "d/b.txt"},
    ]
    assert "2 files pinned and here" in one.ok("pin", "--wait", "d/*.txt")
    done = one("cache", "--json").json["data"]
    assert (done["pinned"]["files"], done["pinned"]["lacking_files"]) == (2, 0) and done["chunks"] >= 2
    assert one.ok("cache", "ls", "d").split() == [
        "100",
        "%",
        "700",
        "B",
        "pinned",
        "d/a.txt",
        *["100", "%", "700", "B", "pinned", "d/b.txt"],
    ]
    refused = one("dehydrate", "d")
    assert refused.code == 7 and "is pinned" in refused.err and "--unpin" in refused.err
    assert "1 path with 1 file" in one.ok("unpin", "d/a.txt")
    assert one("dehydrate", "d/a.txt").code == 0
    assert one("dehydrate", "d", "--unpin").code == 0
    assert one.ok("cache", "ls", "d") == ""
    assert one.ok("policy") == ""


def test_policy(one: Shell) -> None:
    assert one.ok("policy", "d/a.txt").split() == ["d/a.txt", "on-read", "(by", "default)"]
    one.ok("policy", "d", "never")
    assert one.ok("policy", "d/a.txt").split() == ["d/a.txt", "never", "(of", "d)"]
    assert one.ok("policy", "/", "on-open").split() == ["/", "on-open"]
    assert one.ok("policy", "d", "inherit").split() == ["d", "on-open", "(of", "/)"]
    assert one("policy", "d", "sometimes").code == 64
    assert one("policy", "nothing").code == 5
    assert one("pin", "nothing").code == 5
    assert one("pin").code == 64


def test_policies_that_make_no_sense_are_named(one: Shell) -> None:
    path = next(Path(one.home).glob("config/fleets/*")) / "policies.toml"
    path.write_text("[policies]\nd = 1\n")
    done = one("pin", "d")
    assert done.code == 1 and "policies.toml" in done.err and done.err.count("\n") == 1
    assert "policies.toml" in one.ok("status")
    assert one("status", "--json").json["data"]["policy_trouble"]
    assert "!!  policies: " in one("doctor").out
    path.write_text('[policies]\nd = "always"\n')
    assert "1 path pinned; what is missing comes while tcfsd runs" in one.ok("status")
    assert "ok  policies: 1 set" in one("doctor").out


def test_cp(one: Shell) -> None:
    assert one.ok("cp", "d/a.txt", "e") == "1 file copied by reference, 700 B, to e/a.txt\n"
    assert one("cp", "d/a.txt", "e").code == 6
    assert one("cp", "d", "copy").code == 64
    done = one("cp", "-r", "d", "copy", "--json")
    assert (done.code, done.json["data"]["files"], done.json["data"]["targets"]) == (0, 2, ["copy"])
    assert one.ok("ls", "copy") == "a.txt\nb.txt\n"
    assert one.ok("cache", "ls") == ""
    assert one("cp", "only-one").code == 64


def test_config_shows_who_may_not_fetch(one: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tumblerd, " in one.ok("config", "show")
    (one.home / "config" / "config.toml").write_text('no_hydrate = ["default", "mine-*"]\n')
    assert one("config", "show", "--json").json["data"]["no_hydrate"][-1] == "mine-*"
    monkeypatch.setenv("TCFS_NO_HYDRATE", "a, b")
    assert one("config", "show", "--json").json["data"]["no_hydrate"] == ["a", "b"]
    (one.home / "config" / "config.toml").write_text("no_hydrate = [1]\n")
    assert one("config", "show").code == 1
