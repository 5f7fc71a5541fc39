from fs.hydrate import eager
from fs.hydrate.eager import CREDITS, Eager

ME, OTHER = 7, 8


def test_who_has_read_gets_the_next_ones_with_the_open_and_is_looked_at_again() -> None:
    program = Eager()
    assert not program.wants(ME, 1)
    program.has_read(ME, 1)
    assert not program.wants(ME, 1)  # the kernel has it
    assert not program.wants(OTHER, 2)
    given = [program.wants(ME, ino) for ino in range(100, 100 + CREDITS + 5)]
    assert given == [True] * CREDITS + [False] * 5
    program.has_read(ME, 100 + CREDITS)
    assert program.wants(ME, 1000)
    assert not program.wants(ME, 1000)


def test_memory_is_bounded() -> None:
    program = Eager()
    for number in range(2 * eager.FILES_MAX):
        program.has_read(number, number)
    assert len(program._given) <= eager.FILES_MAX and len(program._credits) <= eager.PROGRAMS_MAX
