"""The documents speak of what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_claim_of_semantics_names_tests_that_exist() -> None:
    named = re.findall(r"\[((?:tests|integration)/[\w/]+\.py)::(\w+)\]", (ROOT / "docs/SEMANTICS.md").read_text())
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert len(named) > 25
    assert missing == []
