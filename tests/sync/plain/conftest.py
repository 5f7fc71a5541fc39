from collections.abc import Iterator
from pathlib import Path

import pytest
from workerkit import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()
