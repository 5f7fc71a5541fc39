"""Events: tell the other machines that a journal grew, and hear it from them. Hints: losing one delays, no more."""

from collections.abc import AsyncIterator
from typing import Protocol


class Events(Protocol):
    async def publish(self, machine_id: str, last: int) -> None:
        """Tell the others that the journal of machine_id now ends with `last`. Never fails, never waits for them."""

    def subscribe(self) -> AsyncIterator[set[str]]:
        """machine_ids whose journal may have grown, our own too.

        The first item comes at once and means: look at all. It names what is known, and may be empty.
        What grows while the subscriber is busy is gathered into one set. Ends after aclose.
        """

    async def aclose(self) -> None:
        """End all subscriptions."""
