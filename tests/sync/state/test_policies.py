from pathlib import Path

import pytest

from sync.core.errors import BadConfig
from sync.core.policy import Policies, Policy
from sync.state.policies import PolicyFile

WORDS = Policies({"": Policy.NEVER, "d/a b": Policy.ALWAYS, 'q"u': Policy.ON_OPEN})


def test_golden_bytes(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path / "policies.toml")
    file.write(Policies({"docs": Policy.ALWAYS, "": Policy.ON_READ}))
    assert (tmp_path / "policies.toml").read_text() == '[policies]\n"" = "on-read"\ndocs = "always"\n'
    assert (tmp_path / "policies.toml").stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_read_by_others_and_at_once(tmp_path: Path) -> None:
    writer, reader = PolicyFile(tmp_path / "policies.toml"), PolicyFile(tmp_path / "policies.toml")
    assert reader.read() == Policies()
    writer.write(WORDS)
    assert (writer.read(), reader.read()) == (WORDS, WORDS)
    assert reader.read() is reader.read()
    writer.path.unlink()
    assert reader.read() == Policies()


@pytest.mark.parametrize("text", ["x", '[policies]\na = "sometimes"\n', '[policies]\n"../a" = "never"\n', "[more]\n"])
def test_what_makes_no_sense_is_said_and_what_counted_is_kept(tmp_path: Path, text: str) -> None:
    file = PolicyFile(tmp_path / "policies.toml")
    file.write(WORDS)
    file.read()
    file.path.write_text(text)
    for _ in range(2):
        with pytest.raises(BadConfig, match=r"policies\.toml"):
            file.read()
    file.write(WORDS)
    assert file.read() == WORDS
