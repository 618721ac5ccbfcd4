"""How long a chunk takes: measured in a run, and stored so that the next job can show an estimate when it starts."""

from __future__ import annotations

import json
import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy import model_management
from comfy.model_patcher import ModelPatcher

from ..media import SpoolHeader
from ..models.chunks import ContinuityOptions
from ..models.config import SamplingConfig
from ..models.files import write_text

MIN_CHUNKS = 3
"""Fewer are not representative, because the first one includes warm-up."""
LONGEST_S = 1e6
"""Limit for the time of one chunk. More, or NaN, is not a measured time."""


class Laps:
    """Wall time of each chunk of a run, up to when it is finished.

    The seconds of its stages cannot be added up instead: a chunk may be decoded while the next one's network runs.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.seconds: list[float] = []

    def add(self) -> None:
        """The next chunk is finished."""
        now = time.monotonic()
        self.seconds.append(now - self._last)
        self._last = now

    @property
    def usual(self) -> float | None:
        """Median, without the first if there are others: it includes warming up. None before the first."""
        return statistics.median(self.seconds[1:] or self.seconds) if self.seconds else None


@dataclass(frozen=True)
class ChunkTimes:
    """Seconds per chunk of one kind of job: the same network, size, settings and device."""

    kind: str

    @classmethod
    def of(
        cls, model: ModelPatcher, header: SpoolHeader, sampling: SamplingConfig, continuity: ContinuityOptions
    ) -> ChunkTimes:
        """The times of jobs like this one."""
        device = model_management.get_torch_device_name(model.load_device)
        name, size = header.metadata["model"], f"{header.width}x{header.height}"
        guided = "guided" if sampling.guidance != 1 else "unguided"
        detailed = ", detailed" if sampling.detail else ""
        frames = f"{sampling.frames_per_chunk} frames, {continuity.latents} {continuity.carry}{detailed}"
        return cls(f"{name}, {size}, {sampling.steps} steps, {guided}, {frames}, {device}")

    def seconds_per_chunk(self) -> float | None:
        """Seconds per chunk of the last such job; None if there was none."""
        return _read().get(self.kind)

    def note(self, laps: Laps) -> None:
        """Store how long a job's chunks usually took; a failure to write is only logged."""
        if laps.usual is None or len(laps.seconds) < MIN_CHUNKS:
            return
        known = {**_read(), self.kind: round(laps.usual, 4)}
        try:
            _file().parent.mkdir(parents=True, exist_ok=True)
            write_text(_file(), json.dumps(known, indent=1, sort_keys=True))
        except OSError as error:
            logging.info("AsymTalker: the speed of this job could not be stored: %s", error)


def _file() -> Path:
    return Path(folder_paths.get_user_directory()) / "asymtalker" / "pace.json"


def _read() -> dict[str, float]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
        return {kind: float(seconds) for kind, seconds in known.items() if 0 <= seconds <= LONGEST_S}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        # Not there yet, or damaged: it is only an estimate.
        return {}
