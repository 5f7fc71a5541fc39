import stat

import pytest


def test_creating_and_joining(yoga, bates, tmp_path):
    created = yoga("init", "--store", str(tmp_path / "store"), "--name", "yoga")
    assert created.code == 0
    assert created.out == f"created the fleet default at {(tmp_path / 'store').as_uri()} as yoga\n"
    assert stat.S_IMODE(yoga.key_file.stat().st_mode) == 0o600
    joined = bates("init", "--store", (tmp_path / "store").as_uri(), "--key-file", str(yoga.key_file), "--json").json
    assert joined["data"]["did"] == "joined"
    assert joined["data"]["fleet"] == "default"


def test_the_phrase_is_never_shown_off_a_terminal(yoga, tmp_path):
    created = yoga("init", "--store", str(tmp_path / "store"))
    phrase = yoga.ok("key", "show", "--phrase").split()
    assert len(phrase) == 24
    shown = created.out + created.err
    assert " ".join(phrase[:3]) not in shown
    assert "key show --phrase" in created.err
    logs = "".join(log.read_text(errors="replace") for log in yoga.home.rglob("*.log"))
    assert " ".join(phrase[:3]) not in logs


def test_the_phrase_is_shown_once_on_a_terminal(yoga, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.init.is_terminal", lambda: True)
    created = yoga("init", "--store", str(tmp_path / "store"))
    phrase = yoga.ok("key", "show", "--phrase").split()
    assert " ".join(phrase[:6]) in created.err
    assert phrase[0] not in created.out.split()


def test_joining_with_the_phrase(yoga, bates, tmp_path):
    yoga.init(tmp_path / "store")
    phrase = yoga.ok("key", "show", "--phrase")
    assert bates("init", "--store", str(tmp_path / "store"), "--phrase-stdin", stdin=phrase).code == 0
    assert bates.ok("key", "show") == yoga.ok("key", "show")
    bad = bates("init", "--store", str(tmp_path / "store"), "--phrase-stdin", stdin="one two three")
    assert bad.code == 64


def test_exit_codes(yoga, bates, tmp_path):
    store = str(tmp_path / "store")
    yoga.init(tmp_path / "store")
    assert yoga("init", "--store", store).code == 4
    assert bates("init", "--store", store).code == 3
    wrong = tmp_path / "wrong.key"
    wrong.write_text("ab" * 32 + "\n")
    assert bates("init", "--store", store, "--key-file", str(wrong)).code == 3
    taken = bates("init", "--store", store, "--key-file", str(yoga.key_file), "--name", "yoga")
    assert taken.code == 1
    assert "yoga" in taken.err
    assert bates("init", "--key-file", "x", "--phrase-stdin").code == 64
    assert bates("init", "--store", str(tmp_path / "none"), "--key-file", str(yoga.key_file)).code == 2
    assert bates("init", "--store", "s3://bucket").code == 64
    assert bates("init", "--store", "").code == 64
    assert bates("init", "--store", store, "--key-file", str(tmp_path / "no.key")).code == 5
    assert bates("status").code == 5


def test_the_hosts_name_is_the_default(yoga, bates, tmp_path, monkeypatch):
    monkeypatch.setattr("sync.machines.identity.socket.gethostname", lambda: "My.host")
    store = ["--store", str(tmp_path / "store")]
    assert yoga("init", *store, "--json").json["data"]["machine"] == "my"
    assert bates("init", *store, "--key-file", str(yoga.key_file), "--json").json["data"]["machine"] == "my-2"


@pytest.mark.parametrize("fleet_name", ["default", "photos"])
def test_a_fleet_has_a_name(yoga, tmp_path, fleet_name):
    yoga.ok("init", "--store", str(tmp_path / "store"), "--fleet", fleet_name)
    yoga.write("f", "x")
    yoga.ok("push", "f")
    assert yoga.ok("ls", f"{fleet_name}:") == "f\n"
    assert yoga.ok("ls", "--fleet", fleet_name) == "f\n"
    assert yoga("ls", "--fleet", "other").code == 5


def test_a_home_that_cannot_be_made_is_one_clear_line(yoga, tmp_path):
    (tmp_path / "file").touch()
    yoga.home = tmp_path / "file" / "home"
    done = yoga("init", "--store", str(tmp_path / "store"))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"{tmp_path / 'file'}: File exists" in done.err
    assert not (tmp_path / "store").exists()
