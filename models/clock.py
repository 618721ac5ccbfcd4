"""Seconds per stage of a chunk."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch

_IDLE = ""


class StageClock:
    """Times stages on the host, or on a CUDA device, which runs asynchronously.

    For a CUDA device, ``seconds`` can be read after the host has waited for it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, Any]] = [(_IDLE, self._now())]

    def stage(self, name: str) -> None:
        """Add the time since the last call (or the start) to ``name``."""
        self._marks.append((name, self._now()))

    def resume(self) -> None:
        """Leave out the time since the last call, in which nothing of the chunk was done."""
        self._marks.append((_IDLE, self._now()))

    @property
    def seconds(self) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for (_, begun), (name, ended) in itertools.pairwise(self._marks):
            if name != _IDLE:
                seconds[name] = round(seconds.get(name, 0.0) + self._between(begun, ended), 4)
        return seconds

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, begun: Any, ended: Any) -> float:
        return ended - begun if self._device.type != "cuda" else begun.elapsed_time(ended) / 1000
