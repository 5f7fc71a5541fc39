"""An open directory: the names it was listed with, and the position behind each of them (telldir, seekdir).

A position is the number of a name: 1 for the first that was handed out, 0 for the beginning. Names are listed sorted,
and a number is never given to another name, so a listing goes on behind the same name whatever has come and gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

GONE_MAX = 10_000  # names that have gone, and are remembered, beside as many as there were


@dataclass(slots=True)
class OpenFolder:
    """names: those that have numbers, from `first` + 1 on. end: the number of the last one of all, once the listing has
    come to it.

    place: behind which number the last request went on; taken: how many names it has handed out since.
    """

    ino: int
    names: list[str] = field(default_factory=list)
    first: int = 0
    place: int = 0
    taken: int = 0
    end: int | None = None
    _numbers: dict[str, int] | None = None  # of the names; kept from when somebody goes back: most never do
    _most: int = 0  # names to be remembered

    @property
    def is_new(self) -> bool:
        """Nothing was ever listed, so the numbers are those of any listing."""
        return not self.names and not self.first

    def is_listed_as(self, names: list[str]) -> bool:
        """Just these were handed out, and have the numbers that a new handle would give them."""
        return not self.first and self.names == names

    def go_on(self, place: int) -> str | None:
        """A request begins behind the number: the name there, '' at the beginning; None if that was never given."""
        if not place and self._numbers is not None and len(self.names) > self._most:
            self._forget()
        place = max(place, self.first)
        count = place - self.first
        if self._numbers is None:
            if place >= self.place + self.taken:
                del self.names[count:]  # what the last request was offered and did not take
            else:
                self._numbers = {name: number for number, name in enumerate(self.names, self.first + 1)}
                self._most = 2 * len(self.names) + GONE_MAX
        self.place, self.taken, self.end = place, 0, None
        if not count:
            return ""
        return self.names[count - 1] if count <= len(self.names) else None

    def number(self, names: Sequence[str]) -> list[int]:
        """The numbers of names that come next."""
        if self._numbers is None:
            began = self.first + len(self.names) + 1
            self.names += names
            return list(range(began, began + len(names)))
        found = []
        for name in names:
            number = self._numbers.get(name)
            if number is None:
                self.names.append(name)
                number = self._numbers[name] = self.first + len(self.names)
            found.append(number)
        return found

    def _forget(self) -> None:
        """Who rewinds for ever beside names that come and go is not to fill the memory: after rewinddir the positions
        of before need not be known (POSIX). They are taken for the beginning.
        """
        self.first += len(self.names)
        self.names, self._numbers = [], None
        self.place, self.taken = self.first, 0
