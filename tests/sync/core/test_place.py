from hypothesis import given
from hypothesis import strategies as st

from sync.core.manifest import Kind
from sync.core.place import IMPLIED, Placed, place, sibling_name
from sync.core.show import Mode, NameShown, Shown, Sibling, show
from tests.sync.core.made import Fields, Machine

FILE = Machine("ada").write([], Fields(content="x"))
OTHER = Machine("bea").write([], Fields(content="y"))
FOLDER = Machine("cy").write([], Fields(kind=Kind.DIR))
BESIDE = Sibling(OTHER.id, OTHER.manifest)
ID = "id-ada:7:0123abcd"


def _named(shown_version: NameShown | None) -> Shown:
    return Shown(shown_version, (BESIDE,))


def _name(version: object) -> NameShown:
    assert version in (FILE, FOLDER)
    return NameShown(version, (), 0o644, {}, 0)  # type: ignore[arg-type]


def test_a_file_without_anything_below_it_keeps_its_name() -> None:
    assert place(_named(_name(FILE)), False) == Placed(file=_name(FILE), siblings=(BESIDE,))


def test_a_file_with_something_below_it_makes_room() -> None:
    name = NameShown(FILE, ("other:1:00000000",), 0o644, {}, 0)  # type: ignore[arg-type]
    placed = place(_named(name), True)
    assert placed == Placed(dir=IMPLIED, siblings=(Sibling(FILE.id, FILE.manifest, name.also), BESIDE))


def test_a_recorded_folder_keeps_its_name_with_or_without_content() -> None:
    for has_descendants in (False, True):
        assert place(_named(_name(FOLDER)), has_descendants) == Placed(dir=_name(FOLDER), siblings=(BESIDE,))


def test_an_absent_name_is_a_folder_if_something_lives_below_it() -> None:
    assert place(_named(None), True) == Placed(dir=IMPLIED, siblings=(BESIDE,))
    assert place(_named(None), False) == Placed(siblings=(BESIDE,))
    assert place(Shown(), False) == Placed()


def test_file_against_folder_from_heads_alone() -> None:
    shown = show((FILE, FOLDER), lambda _: None, {"id-ada"}, Mode.AUTO)
    placed = place(shown, False)
    assert placed.file is None
    assert isinstance(placed.dir, NameShown)
    assert placed.dir.version == FOLDER
    assert [sib.id for sib in placed.siblings] == [FILE.id]


# ---- names


def _free(_: str) -> bool:
    return False


def test_a_sibling_is_called_after_its_machine() -> None:
    assert sibling_name("notes.txt", "bates", _free, ID) == "notes.txt.bates.conflict"


def test_a_taken_name_gets_digits_of_the_version() -> None:
    taken = {"f.bates.conflict"}
    assert sibling_name("f", "bates", taken.__contains__, ID) == "f.bates-0123ab.conflict"


def test_whatever_is_taken_there_is_a_name_and_it_is_always_the_same() -> None:
    taken = {"f.bates.conflict", "f.bates-0123ab.conflict"}
    third = sibling_name("f", "bates", taken.__contains__, ID)
    assert third not in taken
    assert third == sibling_name("f", "bates", taken.__contains__, ID)
    fourth = sibling_name("f", "bates", (taken | {third}).__contains__, ID)
    assert fourth not in taken | {third}


@st.composite
def _names(draw: st.DrawFn) -> str:
    """Names of up to 255 bytes, long ones above all."""
    letters = draw(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9))
    return (letters * 255).encode()[: draw(st.integers(1, 255))].decode(errors="ignore") or "x"


@given(
    _names(),
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True),
    st.booleans(),
)
def test_the_name_fits_and_is_cut_at_a_character(name: str, machine: str, again: bool) -> None:
    first = sibling_name(name, machine, _free, ID)
    found = sibling_name(name, machine, lambda other: other == first, ID) if again else first
    suffix = f".{machine}-0123ab.conflict" if again else f".{machine}.conflict"
    assert len(found.encode()) <= 255
    assert found.endswith(suffix)
    kept = found.removesuffix(suffix)
    assert kept
    assert name.startswith(kept)
    if kept != name:  # not one character more would have fitted
        assert len((name[: len(kept) + 1] + suffix).encode()) > 255


def test_a_machine_name_from_outside_cannot_leave_the_folder() -> None:
    assert sibling_name("f", "../../x", _free, ID) == "f.______x.conflict"
    assert sibling_name("f", "", _free, ID) == "f.unknown.conflict"
    assert len(sibling_name("f" * 255, "é" * 300, _free, ID).encode()) <= 255
