from fs.hydrate import walk
from fs.hydrate.walk import Walks

ME, OTHER = 7, 8


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_second_file_that_one_process_waits_for_brings_the_folder_once() -> None:
    walks = Walks(Clock())
    assert [walks.note(ME, 1, file) for file in (10, 11, 12, 13)] == [False, True, False, False]
    assert walks.note(ME, 2, 20) is False


def test_one_file_again_and_again_is_no_walk() -> None:
    walks = Walks(Clock())
    assert not any(walks.note(ME, 1, 10) for _ in range(10))


def test_several_processes_are_one_build() -> None:
    walks = Walks(Clock())
    assert [walks.note(pid, 1, 100 + pid) for pid in range(1, 6)] == [False, False, False, True, False]


def test_who_takes_his_time_does_not_walk() -> None:
    clock = Clock()
    walks = Walks(clock)
    for file in range(10):
        assert walks.note(ME, 1, file) is False
        clock.now += walk.WITHIN_S


def test_a_folder_is_asked_for_again_later() -> None:
    clock = Clock()
    walks = Walks(clock)
    assert [walks.note(ME, 1, 1), walks.note(ME, 1, 2)] == [False, True]
    clock.now += walk.AGAIN_S
    assert [walks.note(ME, 1, 3), walks.note(ME, 1, 4)] == [False, True]


def test_memory_is_bounded() -> None:
    walks = Walks(Clock())
    for folder in range(10 * walk.FOLDERS_KEPT):
        walks.note(ME, folder, 1)
        walks.note(ME, folder, 2 if folder % 2 else 1)
    assert len(walks._seen) <= walk.FOLDERS_KEPT and len(walks._asked) <= walk.FOLDERS_KEPT
