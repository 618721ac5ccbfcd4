"""Which clip is next, and which are given up: no Ray, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from .plan import Clip

MAX_TRIES = 3


class Schedule:
    """The clips that wait, the longest first: a long one begun last would keep one worker busy after all others.

    A clip that failed waits behind those that did not: what ends its worker again does so when the rest is done.
    """

    def __init__(self, clips: Iterable[Clip]) -> None:
        self._waiting: list[tuple[int, float, int, Clip]] = []
        self._numbers: dict[str, int] = {}
        self._tries: dict[str, int] = {}
        self._most_chunks: dict[str, int] = {}
        for number, clip in enumerate(clips):
            self._numbers[clip.identity] = number
            self.give_back(clip)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Clip:
        """The next clip."""
        return heapq.heappop(self._waiting)[-1]

    def give_back(self, clip: Clip) -> None:
        """Let a clip wait again that was not begun, or whose attempt was stopped through no fault of its own."""
        tries = self._tries.get(clip.identity, 0)
        heapq.heappush(self._waiting, (tries, -clip.seconds, self._numbers[clip.identity], clip))

    def failed(self, clip: Clip, chunks: int) -> bool:
        """Count an attempt and let the clip wait again; returns False where it is given up.

        Attempts that came further than the ones before do not count: a long clip on machines that come and go is
        finished at last, while one that ends them at the same place is not tried for ever.
        """
        if chunks > self._most_chunks.get(clip.identity, 0):
            self._most_chunks[clip.identity] = chunks
            self._tries[clip.identity] = 0
        tries = self._tries[clip.identity] = self._tries.get(clip.identity, 0) + 1
        if tries >= MAX_TRIES:
            return False
        self.give_back(clip)
        return True
