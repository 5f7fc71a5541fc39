import pytest

from sync.machines.doctor import _pins
from sync.worker.pins import PinState


@pytest.mark.parametrize(
    ("lacking", "trouble", "expected", "remedy"),
    [
        (0, "", "all of 1 pinned file here", ""),
        (1, "", "1 of 1 pinned file still to come", ""),
        (1, "the store did not answer", "1 of 1 pinned file not all here: the store did not answer", "mend it"),
    ],
)
def test_each_trouble_of_a_pin_has_its_own_remedy(lacking, trouble, expected, remedy):
    state = PinState(1, 1, 10, lacking, 10 * lacking, [], trouble, remedy)
    pins = {name: getattr(state, name) for name in state.__struct_fields__}
    (finding,) = _pins({"pins": pins})
    assert (finding.message, finding.remedy, finding.is_ok) == (expected, remedy, not trouble)
