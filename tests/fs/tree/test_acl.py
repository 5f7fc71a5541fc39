"""Access control lists: with the mode in step, inherited, and none where the mode says it all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs.tree import acl
from fs.tree.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, AclEntry

NOBODY = 0xFFFFFFFF
BITS = st.integers(0, 7)


def made(user: int, group: int, other: int, named: dict[int, int], mask: int) -> acl.Acl:
    entries = [AclEntry(USER_OBJ, user, NOBODY), *(AclEntry(USER, bits, who) for who, bits in sorted(named.items()))]
    entries.append(AclEntry(GROUP_OBJ, group, NOBODY))
    if named:
        entries.append(AclEntry(MASK, mask, NOBODY))
    return (*entries, AclEntry(OTHER, other, NOBODY))


ACLS = st.builds(made, BITS, BITS, BITS, st.dictionaries(st.integers(1, 70_000), BITS, max_size=3), BITS)


@given(ACLS)
def test_it_is_read_as_it_was_written(given_acl: acl.Acl) -> None:
    assert acl.parse(acl.encode(given_acl)) == given_acl


@given(ACLS, st.integers(0, 0o777))
def test_mode_and_list_say_the_same(given_acl: acl.Acl, mode: int) -> None:
    changed = acl.with_mode(given_acl, mode)
    assert acl.mode_of(changed) == mode
    assert acl.with_mode(given_acl, acl.mode_of(given_acl)) == given_acl
    assert [(e.tag, e.id) for e in changed] == [(e.tag, e.id) for e in given_acl]


@given(ACLS, st.integers(0, 0o777))
def test_nobody_inherits_more_than_both_say(default: acl.Acl, mode: int) -> None:
    got = acl.inherited(default, mode)
    assert acl.mode_of(got) == acl.mode_of(default) & mode
    assert acl.is_mode(got) == acl.is_mode(default)


@given(st.one_of(ACLS.map(acl.encode), st.binary(min_size=28, max_size=28)))
def test_what_is_a_mode_alone_is_found_at_one_look(value: bytes) -> None:
    try:
        parsed = acl.parse(value)
    except ValueError:
        assert acl.plain_mode(value) is None
        return
    assert acl.plain_mode(value) == (acl.mode_of(parsed) if parsed and acl.is_mode(parsed) else None)


def test_the_bytes_of_the_kernel() -> None:
    # setfacl -m u:1000:rw, of a file with mode 0640
    text = "0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000000ffffffff"
    parsed = acl.parse(bytes.fromhex(text))
    assert [(entry.tag, entry.permissions) for entry in parsed] == [
        (USER_OBJ, 6), (USER, 6), (GROUP_OBJ, 4), (MASK, 6), (OTHER, 0),
    ]  # fmt: skip
    assert (acl.mode_of(parsed), acl.encode(parsed).hex()) == (0o660, text)


@pytest.mark.parametrize("value", [b"", b"\2\0\0", b"\3\0\0\0", b"\2\0\0\0xxxx", acl.encode((AclEntry(GROUP, 7, 1),))])
def test_what_is_none(value: bytes) -> None:
    with pytest.raises(ValueError):
        acl.parse(value)
