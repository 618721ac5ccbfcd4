"""The order of clips and their retries. Uses neither Ray nor a clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from .plan import Clip

MAX_TRIES = 3
"""Attempts without progress after which a clip is dropped."""


class Schedule:
    """The waiting clips, longest first, because a long clip started last would keep one worker busy after all others.

    Clips that failed come after all others, so that a clip that crashes workers does so when the rest is done.
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
        """Put back a clip that was not begun, or whose attempt did not end because of the clip."""
        tries = self._tries.get(clip.identity, 0)
        heapq.heappush(self._waiting, (tries, -clip.seconds, self._numbers[clip.identity], clip))

    def failed(self, clip: Clip, chunks: int) -> bool:
        """Count an attempt and put the clip back; returns False if it is dropped.

        Attempts that made more progress than earlier ones do not count. A long clip on preemptible machines is thus
        finished eventually, and a clip that always fails at the same place is not retried forever.
        """
        if chunks > self._most_chunks.get(clip.identity, 0):
            self._most_chunks[clip.identity] = chunks
            self._tries[clip.identity] = 0
        tries = self._tries[clip.identity] = self._tries.get(clip.identity, 0) + 1
        if tries >= MAX_TRIES:
            return False
        self.give_back(clip)
        return True
