"""The documents speak of what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_claim_of_semantics_names_tests_that_exist() -> None:
    named = re.findall(r"\[((?:tests|integration)/[\w/]+\.py)::(\w+)\]", (ROOT / "docs/SEMANTICS.md").read_text())
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]
    assert len(named) > 25
    assert missing == []


def test_every_claim_of_semantics_names_a_test() -> None:
    text = (ROOT / "docs/SEMANTICS.md").read_text()
    claims = [part for part in re.split(r"\n(?=- |\n|#)", text) if part.lstrip("\n").startswith("- ")]
    assert len(claims) > 100
    assert [claim for claim in claims if "::" not in claim and "`scripts/" not in claim] == []
